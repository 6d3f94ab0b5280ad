"""Pair to number."""
