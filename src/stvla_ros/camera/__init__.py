"""Cameras that the stack drives itself, without ROS."""
