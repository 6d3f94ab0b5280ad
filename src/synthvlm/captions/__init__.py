"""Where captions come from, how they are normalised, and the rules they must pass."""
