"""Duplicates, near-duplicates, and concepts that are named too often."""
