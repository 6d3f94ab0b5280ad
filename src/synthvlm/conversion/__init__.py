"""Writes a run's pairs, or any data set, in other formats to another place."""
