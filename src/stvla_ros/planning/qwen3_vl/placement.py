"""Device and precision of a model, and whether it fits there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from stvla_ros.config import ConfigError
from stvla_ros.files import setting
from stvla_ros.weights import open_tensors

MEMORY_FACTOR = 1.1
"""Required memory as a multiple of the weights, with activations and the cache of one conversation."""


@dataclass(frozen=True)
class Placement:
    """A device, and the type of weights and activations."""

    device: torch.device
    dtype: torch.dtype


def choose_placement(device: str, precision: str, where: str) -> Placement:
    """Choose device and precision.

    Args:
        device: ``auto`` (the first GPU, or the CPU), ``cpu``, ``cuda``, ``cuda:N``.
        precision: ``auto`` (bfloat16 on a GPU that has it, float32 elsewhere), ``bf16``, ``float32``.
        where: Name of the setting, for messages.

    Raises:
        ConfigError: The device is unknown or missing, or has no bfloat16.
    """
    chosen = _device(device, where)
    able = chosen.type == "cpu" or torch.cuda.get_device_capability(chosen)[0] >= 8
    if precision == "bf16" and not able:
        raise ConfigError(f"{where}.precision: {torch.cuda.get_device_name(chosen)} has no bfloat16: set it to auto.")
    bf16 = precision == "bf16" or (precision == "auto" and able and chosen.type == "cuda")
    return Placement(chosen, torch.bfloat16 if bf16 else torch.float32)


def _device(wanted: str, where: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"{where}.device: wanted auto, cpu, cuda or cuda:N, got '{wanted}'.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"{where}.device: '{wanted}' is not there, PyTorch {torch.__version__} sees {torch.cuda.device_count()} GPUs: "
            "set it to auto, or install the build for your GPU (requirements/learned.txt says how)."
        )
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


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
