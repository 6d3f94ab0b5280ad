"""Data sets of image-caption pairs, or results of models, side by side."""
