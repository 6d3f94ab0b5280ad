"""What an image file says of itself: that a model made it, which one, and with which seed."""
