"""Captions that models write."""
