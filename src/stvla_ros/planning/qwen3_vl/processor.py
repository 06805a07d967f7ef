"""Qwen3-VL's processor without videos.

The library's processor requires a video processor, which requires torchvision. ``AutoProcessor`` silently returns a
bare tokenizer instead; it is never used here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from stvla_ros.config import ConfigError
from stvla_ros.files import said
from stvla_ros.planning.qwen3_vl.folder import check_texts, read_json

IMAGE_TOKEN, VISION_START, VISION_END = "<|image_pad|>", "<|vision_start|>", "<|vision_end|>"

TOKENIZER_FILES = (
    "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")
"""Files that the library reads if they exist."""

TEMPLATES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")
"""Files that may contain the chat template, in order of precedence."""


class ImageOnlyQwen3VLProcessor(Qwen3VLProcessor):
    """Qwen3-VL's processor without videos; used like the library's own."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        **more: Any,
    ) -> None:
        more.pop("video_processor", None)
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template, **more)

    @classmethod
    def get_attributes(cls) -> list[str]:
        """Names of its parts."""
        return ["image_processor", "tokenizer"]


def read_processor(folder: Path, where: str, min_pixels: int = 0, max_pixels: int = 0) -> ImageOnlyQwen3VLProcessor:
    """The processor of a checkpoint, as saved by this project or downloaded from the hub.

    Args:
        folder: Contains tokenizer, ``preprocessor_config.json`` (or ``processor_config.json``) and a chat template.
        where: Name of the setting, for messages.
        min_pixels: Smaller images are enlarged; 0: as in the checkpoint.
        max_pixels: Larger images are reduced; 0: as in the checkpoint.

    Raises:
        ConfigError: A file is missing or damaged, or the tokenizer lacks the tokens for images.
    """
    images, tokenizer = _image_processor(folder, where), _tokenizer(folder, where)
    template = read_template(folder, where)
    size = images.size
    low, high = min_pixels or int(size["shortest_edge"]), max_pixels or int(size["longest_edge"])
    if low > high:
        raise ConfigError(f"{where}: wanted images of {low} to {high} pixels, but min_pixels is above max_pixels.")
    images.size = {"shortest_edge": low, "longest_edge": high}
    return ImageOnlyQwen3VLProcessor(images, tokenizer, template)


def read_template(folder: Path, where: str) -> str:
    """The chat template, from its own file or from the tokenizer's.

    Raises:
        ConfigError: There is none.
    """
    for name in TEMPLATES:
        file = folder / name
        if not file.is_file():
            continue
        found = _text(file, where) if file.suffix == ".jinja" else read_json(file, where).get("chat_template")
        if isinstance(found, str) and found.strip():
            return found
    raise ConfigError(
        f"{where}: {folder} has no chat template (looked for {', '.join(TEMPLATES)}): copy it from the checkpoint's "
        "repository."
    )


def _image_processor(folder: Path, where: str) -> Any:
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        raise ConfigError(
            f"{where}: {folder} lacks preprocessor_config.json: copy it from the checkpoint's repository."
        )
    check_texts(folder, IMAGE_FILES, where)
    try:
        return Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{where}: {folder}: preprocessor_config.json is unusable ({_words(error)}).") from error


def _tokenizer(folder: Path, where: str) -> PreTrainedTokenizerBase:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise ConfigError(f"{where}: {folder} lacks tokenizer.json: copy it from the checkpoint's repository.")
    check_texts(folder, TOKENIZER_FILES, where)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the Rust library raises bare Exception for a damaged file
        raise ConfigError(f"{where}: {folder}: the tokenizer cannot be read ({_words(error)}).") from error
    known = tokenizer.get_vocab()
    lacking = [token for token in (IMAGE_TOKEN, VISION_START, VISION_END) if token not in known]
    if lacking:
        raise ConfigError(
            f"{where}: {folder}: the tokenizer has no token {lacking[0]}: it does not belong to a Qwen3-VL model."
        )
    return tokenizer


def _text(file: Path, where: str) -> str:
    check_texts(file.parent, [file.name], where)
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {file} cannot be read as UTF-8 ({said(error)}): download it again.") from error


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
