"""The small query-heatmap planner: words and an image in, a heatmap per thing that the words ask for out."""
