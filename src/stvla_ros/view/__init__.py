"""Recordings in a viewer of others: Rerun."""
