"""Data sets of image-caption pairs on disk: what they are, and their records as a stream."""
