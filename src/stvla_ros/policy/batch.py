"""Policy inputs as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from stvla_ros.policy.network.network import NetworkInput
from stvla_ros.policy.observation import PolicyInput


def to_network(inputs: Sequence[PolicyInput], text: torch.Tensor, device: torch.device | str = "cpu") -> NetworkInput:
    """A batch for one camera and one hand.

    Args:
        inputs: B observations of one size.
        text: (B, n) token ids or (B, n, 512) features.
        device: Device of the batch.
    """
    rgb = np.stack([i.rgb for i in inputs])[:, None]
    xyz = np.stack([i.xyz_m for i in inputs])[:, None]
    history = np.stack([i.history for i in inputs])[:, :, None]
    path = np.stack([i.path_m for i in inputs])
    rgb, xyz, history, path = map(torch.from_numpy, (rgb, xyz, history, path))
    return as_input(rgb, xyz, text, history, path, device)


def as_input(
    rgb: torch.Tensor,
    xyz_m: torch.Tensor,
    text: torch.Tensor,
    history: torch.Tensor,
    path_m: torch.Tensor,
    device: torch.device | str = "cpu",
) -> NetworkInput:
    """Arrays as network input.

    Args:
        rgb: (B, C, 3, H, W) uint8.
        xyz_m: (B, C, 3, H, W) float32 or float16, metres.
        text: (B, n) token ids or (B, n, 512) features.
        history: (B, 3, hands, 8) float32.
        path_m: (B, K, 3) float32, metres; NaN without a path.
        device: Device of the batch.
    """
    xyz_m, history, path_m = (part.to(device, torch.float32) for part in (xyz_m, history, path_m))
    return NetworkInput(rgb.to(device).float() / 255.0, xyz_m, text.to(device), history, path_m)
