"""Training of the nano Qwen3-VL."""
