"""Progress of a run: display, state of a stage, metrics, text that is safe for a terminal."""
