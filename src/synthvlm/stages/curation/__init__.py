"""Curation: which captions become prompts."""
