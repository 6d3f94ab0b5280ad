"""The page on which people rate pairs of pictures, blind."""
