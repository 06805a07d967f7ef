"""Policy checkpoints: our own files, and those that others released."""
