"""Qwen3-VL checkpoints: configuration and safetensors, never pickle or code. Incomplete or foreign ones are refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLMoeForConditionalGeneration

from stvla_ros.config import ConfigError
from stvla_ros.devices import Placement
from stvla_ros.files import setting
from stvla_ros.planning.qwen3_vl.folder import check_texts, find, read_json, weight_files
from stvla_ros.planning.qwen3_vl.processor import IMAGE_TOKEN, ImageOnlyQwen3VLProcessor, read_processor
from stvla_ros.weights import check_finite, open_tensors, silenced_transformers

CLASSES = {"qwen3_vl": Qwen3VLForConditionalGeneration, "qwen3_vl_moe": Qwen3VLMoeForConditionalGeneration}
"""``model_type`` of the dense models (2B to 32B) and of those with experts."""

MEMORY_FACTOR = 1.1
"""Required memory as a multiple of the weights, with activations and the cache of one conversation."""

HOW_TO_GET = (
    "With network: hf download Qwen/Qwen3-VL-4B-Instruct --local-dir DIR; then set 'model' to that folder "
    "(docs/planners.md)."
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model ready to answer.

    Attributes:
        model: In eval mode on its device.
        processor: Processor of text and images.
        stops: Tokens that end an answer.
        name: Name of its folder or repository.
    """

    model: Any
    processor: ImageOnlyQwen3VLProcessor
    stops: frozenset[int]
    name: str


def load(model: str, placement: Placement, where: str, min_pixels: int = 0, max_pixels: int = 0) -> Checkpoint:
    """Read a checkpoint.

    Args:
        model: A folder, or an id on the hub.
        placement: Device and precision.
        where: Name of the backend, for messages.
        min_pixels: See :func:`read_processor`.
        max_pixels: See :func:`read_processor`.

    Raises:
        ConfigError: Not found, incomplete, damaged, of another architecture, inconsistent, or too large for the memory.
    """
    place = f"{where}.model"
    folder = find(model, "a Qwen3-VL checkpoint", place, HOW_TO_GET)
    settings = read_json(folder / "config.json", place)
    kind = str(settings.get("model_type"))
    if kind not in CLASSES:
        raise ConfigError(
            f"{place}: {folder}/config.json says model_type '{kind}', wanted {' or '.join(CLASSES)}. {HOW_TO_GET}"
        )
    check_texts(folder, ["generation_config.json"], place)
    check_config(_config(folder, CLASSES[kind], place), place)
    check_memory(weight_files(folder, "model", place, HOW_TO_GET), placement, place)
    processor = read_processor(folder, place, min_pixels, max_pixels)
    network = _read(folder, CLASSES[kind], placement, place)
    _check_together(network.config, processor, place)
    stops = _stops(network, processor)
    if not stops:
        raise ConfigError(f"{place}: {folder} names no end-of-answer token (eos_token_id of generation_config.json).")
    return Checkpoint(network, processor, stops, folder.resolve().name if Path(model).expanduser().is_dir() else model)


def _config(folder: Path, cls: Any, where: str) -> Any:
    try:
        with silenced_transformers():
            return cls.config_class.from_pretrained(folder, local_files_only=True)
    except (StrictDataclassError, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigError(f"{where}: config.json does not make a Qwen3-VL model: {_words(error)}.") from error


def _read(folder: Path, cls: Any, placement: Placement, where: str) -> Any:
    try:
        with silenced_transformers():
            model, notes = cls.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=placement.dtype,
                device_map=None if placement.device.type == "cpu" else {"": placement.device},
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
            )
    except SafetensorError as error:
        raise ConfigError(f"{where}: the weights are damaged ({error}): download them again.") from error
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"{where}: {placement.device} has too little memory for {folder}: use a smaller one."
        ) from error
    except OSError as error:
        raise ConfigError(f"{where}: a file is missing or cannot be read: {_words(error)}. {HOW_TO_GET}") from error
    except (StrictDataclassError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise ConfigError(f"{where}: config.json does not make a Qwen3-VL model: {_words(error)}.") from error
    lacking = sorted([*notes["missing_keys"], *(str(key[0]) for key in notes["mismatched_keys"])])
    if lacking:
        raise ConfigError(
            f"{where}: {len(lacking)} of the model's weights are missing or of another size, the first is '{lacking[0]}': "
            f"config.json and weights do not belong together. {HOW_TO_GET}"
        )
    with setting(where):
        check_finite(dict(model.named_parameters()), str(folder))
    return model.eval().requires_grad_(False)


def check_config(config: Any, where: str) -> None:
    """Check what the library silently accepts.

    Raises:
        ConfigError: ``mrope_section`` does not divide half a head among time, height and width, or the vision tower's
            positional table is not square.
    """
    text, vision = config.text_config, config.vision_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    section = list((text.rope_parameters or {}).get("mrope_section", [24, 20, 20]))
    if len(section) != 3 or sum(section) != head // 2:
        raise ConfigError(
            f"{where}: config.json says mrope_section {section}; its three numbers must add up to half of head_dim, "
            f"{head // 2}: the positions of an image's parts would be wrong."
        )
    side = round(vision.num_position_embeddings**0.5)
    if side * side != vision.num_position_embeddings:
        raise ConfigError(
            f"{where}: config.json says num_position_embeddings {vision.num_position_embeddings}, wanted a square."
        )


def _check_together(config: Any, processor: ImageOnlyQwen3VLProcessor, where: str) -> None:
    """Network, tokenizer and image processor cut images alike and name their tokens alike."""
    images, vision, tokenizer = processor.image_processor, config.vision_config, processor.tokenizer
    pairs = {
        "patch_size": (images.patch_size, vision.patch_size),
        "merge_size": (images.merge_size, vision.spatial_merge_size),
        "temporal_patch_size": (images.temporal_patch_size, vision.temporal_patch_size),
        f"the id of {IMAGE_TOKEN}": (tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), config.image_token_id),
    }
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise ConfigError(
                f"{where}: {name} is {ours} in the processor's files and {theirs} in config.json: files of two checkpoints."
            )
    if len(tokenizer) > config.text_config.vocab_size:
        raise ConfigError(
            f"{where}: the tokenizer has {len(tokenizer)} tokens, the model {config.text_config.vocab_size}: files of two "
            "checkpoints."
        )


def _stops(model: Any, processor: ImageOnlyQwen3VLProcessor) -> frozenset[int]:
    """Ends of an answer: those of ``generation_config.json``, and the tokenizer's."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    found = named if isinstance(named, (list, tuple)) else [named]
    return frozenset(int(token) for token in (*found, processor.tokenizer.eos_token_id) if token is not None)


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def check_memory(files: Iterable[Path], placement: Placement, where: str) -> None:
    """Refuse a model that does not fit: on a CPU the system would kill some process instead of refusing memory.

    Args:
        files: The safetensors files of the model; only their headers are read.
        placement: Where to load it.
        where: Name of the setting, for messages.

    Raises:
        ConfigError: Too little memory, or a damaged file.
    """
    needed = weights_bytes(files, placement.dtype, where)
    free = free_bytes(placement.device)
    if MEMORY_FACTOR * needed > free:
        name = str(placement.dtype).removeprefix("torch.")
        raise ConfigError(
            f"{where}: the weights take {needed / 1e9:.1f} GB as {name} and {placement.device} has {free / 1e9:.1f} GB "
            "free: take a smaller model, precision bf16, another device, or a server (backend openai)."
        )


def weights_bytes(files: Iterable[Path], dtype: torch.dtype, where: str) -> int:
    """Memory of all tensors of some files, as the given type."""
    numbers = 0
    for file in files:
        with setting(where), open_tensors(file) as content:
            numbers += sum(_count(content.get_slice(name).get_shape()) for name in content.keys())  # noqa: SIM118
    return numbers * dtype.itemsize


def free_bytes(device: torch.device) -> int:
    """Free memory of a device, as far as known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _count(shape: list[int]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count
