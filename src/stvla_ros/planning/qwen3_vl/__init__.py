"""Qwen3-VL on this machine: any size of it, or a small model of the same architecture."""
