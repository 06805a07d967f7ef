"""Replanning: its value when objects are moved, and that motion does not wait for it."""
