"""Training of the query-heatmap network."""
