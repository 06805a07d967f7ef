"""safetensors files: opened with the true reason for a failure, written completely, with finite numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stvla_ros.config import ConfigError
from stvla_ros.files import check_file, said, written

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER_BYTES = 100_000_000
"""Of the format (huggingface/safetensors, README)."""


def is_safetensors(head: bytes) -> bool:
    """Whether a file with these first bytes (16 or more) is in the safetensors format: a length, then JSON."""
    return len(head) > 9 and 2 <= int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES and head[8:9] == b"{"


@contextmanager
def open_tensors(path: Path, wanted: str = "a safetensors file") -> Iterator[Any]:
    """``safetensors.safe_open`` for PyTorch on the CPU.

    Raises:
        ConfigError: The file is missing, of another kind, cut off or damaged, on opening or inside the block.
    """
    from safetensors import SafetensorError, safe_open

    check_file(path, wanted)
    try:
        _check_size(path)
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{path}: not a safetensors file, or damaged ({said(error)}): copy or download it again."
        ) from error


def read_tensors(path: Path, wanted: str = "a safetensors file") -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file by name, and its metadata.

    Raises:
        ConfigError: As for :func:`open_tensors`.
    """
    with open_tensors(path, wanted) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - no mapping


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file, complete or not at all. Equal arguments give equal bytes.

    Raises:
        ConfigError: It cannot be written.
    """
    from safetensors.torch import save

    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, dict(metadata))
    with written(path) as part:
        part.write_bytes(_ordered(data))


def _ordered(data: bytes) -> bytes:
    """A safetensors file with its metadata in order: the library writes them in a random one."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def check_finite(weights: Mapping[str, Tensor], where: str) -> None:
    """Check that weights are finite. Tensors without values (on the device ``meta``) are skipped.

    Raises:
        ConfigError: A weight has NaN or infinite values; the message names it.
    """
    import torch

    for name, weight in weights.items():
        if weight.is_meta or not weight.is_floating_point() or not weight.numel():
            continue
        wide = weight.float() if weight.dtype.itemsize == 1 else weight  # torch does not compare 8-bit types
        extremes = torch.stack(torch.aminmax(wide))  # NaN where there is one; several times as fast as isfinite of each
        if not bool(torch.isfinite(extremes).all()):
            raise ConfigError(
                f"{where}: '{name}' has values that are not finite: the file is damaged, or its training failed."
            )


@contextmanager
def silenced_transformers() -> Iterator[None]:
    """Without the progress bars and warnings of the transformers library: callers check its results themselves."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _check_size(path: Path) -> None:
    """Raise ConfigError for a file that is cut off or has a name twice: the library calls both "not fully covered"."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            return  # the library reports this well
        data = file.read(length)
    if len(data) < length:
        raise ConfigError(f"{path}: the file is cut off inside its header: copy or download it again.")
    try:
        header = json.loads(data, object_pairs_hook=lambda pairs: _once(pairs, path))
        end = 8 + length + max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except ConfigError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return  # damaged in another way, which the library reports
    if size < end:
        raise ConfigError(f"{path}: the file is cut off; it has {size} of {end} bytes: copy or download it again.")


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{path}: its header has '{twice}' twice: save it again.")
    return content
