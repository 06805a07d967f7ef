"""Decides again on a recording: the same stages, the same inputs, as numbers to compare."""
