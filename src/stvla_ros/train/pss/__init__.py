"""Projection-space similarity (PSS): whether two losses of one model pull its weights in the same directions."""
