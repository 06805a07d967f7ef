"""CLIP's tokenizer and text model, from a folder or on request from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stvla_ros.config import ConfigError
from stvla_ros.files import check_file, setting
from stvla_ros.policy.network.text import CLIP_CHANNELS

CLIP_MARKS = (49406, 49407)
"""CLIP's ids for the start and the end of a text; the end id is its padding too."""

TEXTS = (
    "tokenizer.json", "vocab.json", "merges.txt", "config.json", "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip
"""Files besides the weights that the library reads if they are there."""

HOW_TO_GET = (
    "With network: hf download openai/clip-vit-base-patch32 --local-dir DIR; then set 'tokenizer' to that folder."
)


def read_tokenizer(source: str, local: bool) -> Any:
    """CLIP's tokenizer from a folder or by hub id.

    Args:
        source: Folder or id.
        local: Whether to use local files only.

    Raises:
        ConfigError: It is missing, damaged, or not CLIP's.
    """
    from transformers import CLIPTokenizer

    tokenizer = _read(CLIPTokenizer, source, local, "tokenizer")
    marks = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    if marks != CLIP_MARKS:
        raise ConfigError(
            f"tokenizer: '{source}' marks the start and end of a text with {marks}, CLIP's with {CLIP_MARKS}: it is "
            f"another tokenizer, or lacks tokenizer.json, or vocab.json and merges.txt. {HOW_TO_GET}"
        )
    return tokenizer


def read_text_model(source: str, local: bool) -> Any:
    """CLIP's text model from a folder or by hub id, in eval mode.

    Raises:
        ConfigError: It is missing, incomplete, or of another width.
    """
    from transformers import CLIPTextModel

    model, notes = _read(CLIPTextModel, source, local, "text model", output_loading_info=True, dtype=torch.float32)
    if notes["missing_keys"]:
        raise ConfigError(
            f"tokenizer: the text model in '{source}' lacks {len(notes['missing_keys'])} weights, the first is "
            f"'{min(notes['missing_keys'])}'. {HOW_TO_GET}"
        )
    if model.config.hidden_size != CLIP_CHANNELS:
        raise ConfigError(
            f"tokenizer: the text model in '{source}' has {model.config.hidden_size} channels, wanted CLIP ViT-B/32's "
            f"{CLIP_CHANNELS}. {HOW_TO_GET}"
        )
    return model.eval()


def is_hub_id(name: str) -> bool:
    """Whether this is ``owner/name`` rather than a path, so that a mistyped path never starts a download."""
    owner, slash, rest = name.partition("/")
    looks = bool(owner and slash and rest) and "/" not in rest and owner[0] not in ".~"
    return looks and not Path(owner).exists()


def _read(kind: Any, source: str, local: bool, what: str, **how: Any) -> Any:
    with setting("tokenizer", HOW_TO_GET):
        for name in (*TEXTS, "model.safetensors"):
            if (file := Path(source) / name).is_file():
                check_file(file, f"a {name}", text=name in TEXTS)
    try:
        return kind.from_pretrained(source, local_files_only=local, **how)
    except Exception as error:  # missing and damaged files raise almost anything
        found = (
            "is not usable"
            if Path(source).is_dir()
            else f"is no folder here{' and not in the download cache' if local else ''}"
        )
        words = " ".join(str(error).split())[:200]
        raise ConfigError(f"tokenizer: no {what} of CLIP in '{source}': it {found} ({words}). {HOW_TO_GET}") from error
