"""Architecture of the nano model, and its checkpoint in the format of a published Qwen3-VL one."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from stvla_ros.planning.nano.tokens import NUMBERS, PAD, STOP, TEMPLATE
from stvla_ros.planning.qwen3_vl.processor import ImageOnlyQwen3VLProcessor
from stvla_ros.weights import silenced_transformers

IMAGE_PX = 256
PATCH_PX, MERGE = 16, 2
CELL_PX = PATCH_PX * MERGE
"""Side of the image patch of one token."""

WIDTH = 192

NUMBER_CODE, PATCH_CODE = 0.05, 0.3
"""Amplitudes: similar to the random part of a token, and to the contribution of a patch's pixels."""


def config(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    """Five vision layers with one deepstack, four language layers, tied embeddings: about 5 M parameters."""
    named = ("image_pad", "video_pad", "vision_start", "vision_end")
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in named}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 512, "num_hidden_layers": 4,
        "num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 32, "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
        "tie_word_embeddings": True, "pad_token_id": tokenizer.convert_tokens_to_ids(PAD),
    }  # fmt: skip
    vision = {
        "depth": 5, "hidden_size": WIDTH, "intermediate_size": 512, "num_heads": 6, "patch_size": PATCH_PX,
        "spatial_merge_size": MERGE, "temporal_patch_size": 2, "out_hidden_size": WIDTH, "num_position_embeddings": 256,
        "deepstack_visual_indexes": [2],
    }  # fmt: skip
    renamed = {"image_pad_token_id": "image_token_id", "video_pad_token_id": "video_token_id"}
    return Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **{renamed.get(n, n): i for n, i in ids.items()},
    )


def network(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """Random weights, except two codes that would take long to learn: close numbers and close patches start alike."""
    torch.manual_seed(seed)
    made = Qwen3VLForConditionalGeneration(config(tokenizer))
    numbers, patches = made.model.language_model.embed_tokens.weight, made.model.visual.pos_embed.weight
    side = int(len(patches) ** 0.5)
    half, quarter = WIDTH // 2, WIDTH // 4
    line = _waves(torch.arange(side) + 0.5, side / 2, quarter)
    with torch.no_grad():
        numbers[:NUMBERS, :half] = NUMBER_CODE * _waves(torch.arange(NUMBERS), 1000, half)
        patches[:, :quarter] = PATCH_CODE * line.repeat_interleave(side, 0)
        patches[:, quarter:half] = PATCH_CODE * line.repeat(side, 1)
    return made


def _waves(at: torch.Tensor, length: float, width: int) -> torch.Tensor:
    """(N, width) sines and cosines of (N,) positions, in octaves from half a period in ``length`` up."""
    octaves = min(7.0, math.log2(length))
    angle = 2 * math.pi / length * 0.5 * 2 ** torch.linspace(0, octaves, width // 2) * at[:, None]
    return torch.cat([angle.cos(), angle.sin()], -1)


def processor(tokenizer: PreTrainedTokenizerFast) -> ImageOnlyQwen3VLProcessor:
    """Resizes every image to about 256 x 256 pixels at its own aspect ratio: 64 tokens, 54 for 4:3."""
    pixels = IMAGE_PX * IMAGE_PX
    images = Qwen2VLImageProcessorPil(
        patch_size=PATCH_PX,
        merge_size=MERGE,
        temporal_patch_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        size={"shortest_edge": pixels, "longest_edge": pixels},
    )
    return ImageOnlyQwen3VLProcessor(images, tokenizer, TEMPLATE)


def save(model: Qwen3VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a checkpoint in bfloat16 that the backend ``qwen3_vl`` reads like any other."""
    stops = [tokenizer.convert_tokens_to_ids(STOP), tokenizer.convert_tokens_to_ids(PAD)]
    model.generation_config = GenerationConfig(eos_token_id=stops, pad_token_id=stops[1])
    half = {name: weight.detach().to(torch.bfloat16) for name, weight in model.state_dict().items()}
    with silenced_transformers():
        model.save_pretrained(folder, state_dict=half)
        processor(tokenizer).save_pretrained(folder)
