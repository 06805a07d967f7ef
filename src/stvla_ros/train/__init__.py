"""Training of the learned stages."""
