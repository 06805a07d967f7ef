"""Qwen3-VL with a few hundred thousand random weights: the real classes, files as they lie on the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from stvla_ros.planning.qwen3_vl.processor import ImageOnlyQwen3VLProcessor

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, as in the published checkpoints, without tools and videos."""


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, as the published tokenizer begins."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word and number, as small models of our own have it."""
    words = ["[UNK]", "user", "assistant", *map(str, range(1001)), *"()[],.:'-", "Point", "to", "the", "red", "block"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="[UNK]"
    )


def tiny_config(tokenizer: PreTrainedTokenizerFast, **text: Any) -> Qwen3VLConfig:
    """Two layers of language, two of vision with one deepstack, patches of 16 pixels merged two by two."""
    ids = {
        name: tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        for name in ("image_pad", "video_pad", "vision_start", "vision_end")
    }
    language = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]},
        "tie_word_embeddings": False,
    } | text  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 16, "spatial_merge_size": 2,
        "temporal_patch_size": 2, "out_hidden_size": language["hidden_size"], "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }  # fmt: skip
    return Qwen3VLConfig(
        text_config=language, vision_config=vision, image_token_id=ids["image_pad"], video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"], vision_end_token_id=ids["vision_end"], tie_word_embeddings=False,
    )  # fmt: skip


def save_tiny(
    folder: Path, tokenizer: PreTrainedTokenizerFast | None = None, seed: int = 0, brevity: float = 1.6, **text: Any
) -> Path:
    """A checkpoint as :class:`ImageOnlyQwen3VLProcessor` and the library save it."""
    tokenizer = tokenizer or byte_tokenizer()
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(tiny_config(tokenizer, **text)).eval()
    with torch.no_grad():  # larger than in training, so that answers depend on what is asked and shown
        for parameter in model.parameters():
            parameter.mul_(3.0) if parameter.ndim > 1 else None
        stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
        model.lm_head.weight[stop] *= brevity  # so that some answers end after a few dozen tokens
    model.generation_config = GenerationConfig(eos_token_id=[stop, tokenizer.convert_tokens_to_ids("<|endoftext|>")])
    model.save_pretrained(folder)
    images = Qwen2VLImageProcessorPil(
        patch_size=16,
        merge_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": 1024, "longest_edge": 1 << 20},
    )
    ImageOnlyQwen3VLProcessor(images, tokenizer, TEMPLATE).save_pretrained(folder)
    return folder


def like_the_hub(folder: Path, target: Path) -> Path:
    """The same checkpoint with the files of ``Qwen/Qwen3-VL-4B-Instruct``: names and contents that need torchvision."""
    shutil.copytree(folder, target)
    for name in ("processor_config.json", "chat_template.jinja"):
        (target / name).unlink(missing_ok=True)
    images = {
        "size": {"longest_edge": 1 << 20, "shortest_edge": 1024}, "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "processor_class": "Qwen3VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessorFast",
    }  # fmt: skip
    (target / "preprocessor_config.json").write_text(json.dumps(images))
    videos = images | {"video_processor_type": "Qwen3VLVideoProcessor"}
    (target / "video_preprocessor_config.json").write_text(json.dumps(videos))
    (target / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    settings = json.loads((target / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (target / "tokenizer_config.json").write_text(json.dumps(settings))
    return target


def save_tiny_moe(folder: Path) -> Path:
    """The same with experts, as in Qwen3-VL-30B-A3B."""
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    tokenizer = byte_tokenizer()
    save_tiny(folder, tokenizer)
    plain = tiny_config(tokenizer).to_dict()
    experts = {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }
    for section in (plain, plain["text_config"], plain["vision_config"]):
        section.pop("model_type", None)
    plain["text_config"] |= experts
    torch.manual_seed(0)
    model = Qwen3VLMoeForConditionalGeneration(Qwen3VLMoeConfig(**plain)).eval()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"))
    model.save_pretrained(folder)
    return folder
