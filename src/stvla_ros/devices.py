"""Device and precision of a network: one rule for all backends that compute with PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stvla_ros.config import ConfigError


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
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        found = f"{count} GPUs" if torch.version.cuda else "a build without CUDA"
        raise ConfigError(
            f"{where}.device: '{wanted}' is not there, PyTorch {torch.__version__} sees {found}: set it to auto, or install the "
            "build for your GPU (requirements/learned.txt says how)."
        )
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device
