"""Generation: images of each caption, their scores, and the best of them."""
