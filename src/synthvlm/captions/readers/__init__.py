"""How each kind of caption source is read."""
