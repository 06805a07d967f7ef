"""Replanning: what it is worth when things are moved, and that motion does not wait for it."""
