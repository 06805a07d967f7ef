"""The action expert of ST4VLA (arXiv 2602.10109; InternVLA-M1, arXiv 2510.13778): action chunks from a VLM's states."""
