"""Supervised fine-tuning of Qwen3-VL with LoRA, as the paper made ST-VLM."""
