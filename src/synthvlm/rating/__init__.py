"""Blind rating: which of two pictures of a caption is the better one, by people and by models."""
