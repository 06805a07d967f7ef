"""Tabletop object segmentation: the support plane, the robot's own pixels, and the objects that stand on the plane."""
