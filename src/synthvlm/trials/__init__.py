"""What a trial of a recipe on a few captions needs: a sample, times, and 95 % intervals."""
