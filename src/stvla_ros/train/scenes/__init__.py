"""Rendered scenes with true answers, and what runs that learn from them have in common."""
