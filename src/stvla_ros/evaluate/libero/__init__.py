"""LIBERO (arXiv 2306.03310) as its published evaluations run it; its packages live in a Python of their own."""
