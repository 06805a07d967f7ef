"""Any server that speaks OpenAI's chat completions: vLLM, SGLang, hosted models."""
