"""The small query-heatmap planner: words and an image in, a heatmap per named object out."""
