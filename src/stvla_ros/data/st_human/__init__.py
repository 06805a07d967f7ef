"""ST-Human: videos of hands at a table as supervision, and the conversations about images that planners learn from."""
