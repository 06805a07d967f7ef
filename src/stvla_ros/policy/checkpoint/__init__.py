"""Policy checkpoints: our own format, and files that others released."""
