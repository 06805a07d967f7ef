"""Planners: from words and an image to a path drawn on the image (paper 3.3.1)."""
