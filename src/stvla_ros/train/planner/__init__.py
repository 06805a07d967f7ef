"""Data and training of the project's own small planners."""
