"""Models with random weights: times depend on the length of the answer, not on its values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from stvla_ros.devices import Placement
from stvla_ros.planning.nano import architecture, tokens
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint
from stvla_ros.planning.qwen3_vl.processor import ImageOnlyQwen3VLProcessor

VOCABULARY = 151_936

TEXT_4B = {
    "vocab_size": VOCABULARY, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 262_144,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5_000_000.0, "mrope_section": [24, 20, 20], "mrope_interleaved": True},
    "tie_word_embeddings": True,
}  # fmt: skip
VISION_4B = {
    "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16, "spatial_merge_size": 2,
    "temporal_patch_size": 2, "out_hidden_size": 2560, "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17],
}  # fmt: skip
"""Shapes of Qwen/Qwen3-VL-4B-Instruct, from its config.json."""


@dataclass(frozen=True)
class Shapes:
    """A model and its processor."""

    name: str
    config: Qwen3VLConfig
    processor: ImageOnlyQwen3VLProcessor


def nano() -> Shapes:
    """ST-VLM-nano: one token per number."""
    tokenizer = tokens.tokenizer()
    return Shapes("nano", architecture.config(tokenizer), architecture.processor(tokenizer))


def qwen3_vl_4b() -> Shapes:
    """Qwen3-VL-4B with nano's tokenizer, whose ids are within its vocabulary: times do not need the published one."""
    tokenizer = tokens.tokenizer()
    images = Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, temporal_patch_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        size={"shortest_edge": 1 << 16, "longest_edge": 1 << 24},
    )  # fmt: skip
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    config = Qwen3VLConfig(
        text_config=TEXT_4B,
        vision_config=VISION_4B,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        tie_word_embeddings=True,
        **{f"{name}_token_id": i for name, i in ids.items()},
    )
    return Shapes("qwen3-vl-4b shapes", config, ImageOnlyQwen3VLProcessor(images, tokenizer, tokens.TEMPLATE))


def checkpoint(shapes: Shapes, placement: Placement) -> Checkpoint:
    """The model on its device; it has no end token, so that answers have the wanted length."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(placement.dtype)
    try:
        with torch.device(placement.device):
            model: Any = Qwen3VLForConditionalGeneration(shapes.config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config = GenerationConfig()
    return Checkpoint(model.eval().requires_grad_(False), shapes.processor, frozenset(), shapes.name)


def decoder_bytes(model: Any) -> int:
    """Bytes of weights that every token of an answer reads: the language model and the output layer. Of a separate
    table of embeddings only one row is read."""
    weights = {id(w): w for w in (*model.model.language_model.parameters(), *model.lm_head.parameters())}
    table = model.model.language_model.embed_tokens.weight
    if table is not model.lm_head.weight:
        weights.pop(id(table), None)
    return sum(w.numel() * w.element_size() for w in weights.values())


def answer_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Lengths of the two answers of a plan as this tokenizer writes them: 8 points, 8 offsets."""
    points, offsets = str([(643, 367)] * 8), str([-120] * 8)
    return tuple(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (points, offsets))  # type: ignore[return-value]


def folder_checkpoint(folder: Path, placement: Placement) -> Checkpoint:
    """A checkpoint from a folder, its answers held to the length asked for."""
    from stvla_ros.planning.qwen3_vl.checkpoint import load

    found = load(str(folder), placement, "benchmark")
    return Checkpoint(found.model, found.processor, frozenset(), found.name)
