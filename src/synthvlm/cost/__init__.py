"""What a usable pair costs: drawn from captions, and captioned from images."""
