"""Cameras, rigid transforms, paths, depth images and labelled regions: pure functions on arrays."""
