"""What a run shows while it works: display, state, metrics, text that is safe for a terminal."""
