"""What a run will take, which settings are best, and what a usable pair costs."""
