"""Recordings and datasets."""
