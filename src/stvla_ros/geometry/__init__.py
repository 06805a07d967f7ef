"""Cameras, rigid transforms, paths, clouds and what stands on a table: pure functions on arrays."""
