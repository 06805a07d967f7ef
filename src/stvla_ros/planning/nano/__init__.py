"""ST-VLM-nano: the Qwen3-VL architecture, small enough for one CPU core, and its tokenizer. Served by ``qwen3_vl``."""
