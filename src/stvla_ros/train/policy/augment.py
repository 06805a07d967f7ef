"""Random changes of a training batch, on tensors."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stvla_ros.policy.network.network import NetworkInput
from stvla_ros.policy.words import UNKNOWN
from stvla_ros.train.policy.experiments import Augmentation


def augment(
    inputs: NetworkInput, target: Tensor, how: Augmentation, generator: torch.Generator
) -> tuple[NetworkInput, Tensor]:
    """Augment a batch.

    Args:
        inputs: B observations.
        target: (B, L, hands, 8) keyposes: xyz in metres, quaternion xyzw, 1 for open.
        how: What to change, and by how much.
        generator: Makes all random choices.
    """
    if how.scale != (1.0, 1.0):
        inputs = _scaled(inputs, how.scale, generator)
    if how.shift_m > 0 or how.turn_rad > 0:
        inputs, target = _moved(inputs, target, how, generator)
    if how.jitter_m > 0:
        away = (torch.rand((*inputs.history.shape[:-1], 3), generator=generator) * 2 - 1) * how.jitter_m
        away = torch.cat([away, torch.zeros(*away.shape[:-1], 5)], -1)
        inputs = replace(inputs, history=inputs.history + away.to(inputs.history.device))
    if how.unknown_words > 0 and not inputs.text.is_floating_point():
        drop = torch.rand(inputs.text.shape, generator=generator) < how.unknown_words
        drop = drop.to(inputs.text.device) & (inputs.text >= 0)
        inputs = replace(inputs, text=inputs.text.masked_fill(drop, UNKNOWN))
    return inputs, target


def _scaled(inputs: NetworkInput, scale: tuple[float, float], generator: torch.Generator) -> NetworkInput:
    """One random window per sample, magnified or reduced, by nearest pixel; the image is mirrored at its border."""
    b, c, _, h, w = inputs.rgb.shape
    low, high = scale
    factor = low + (high - low) * torch.rand(b, generator=generator)
    offset = (torch.rand(b, 2, generator=generator) * 2 - 1) * (1 - 1 / factor).abs()[:, None]
    y, x = torch.meshgrid(_centres(h), _centres(w), indexing="ij")
    grid = torch.stack([x, y], -1)[None] / factor[:, None, None, None] + offset[:, None, None]
    grid = grid.repeat_interleave(c, 0).to(inputs.rgb.device)
    both = torch.cat([inputs.rgb, inputs.xyz_m], 2).flatten(0, 1)
    both = torch.nn.functional.grid_sample(both, grid, "nearest", "reflection", align_corners=False)
    rgb, xyz = both.unflatten(0, (b, c)).split(3, dim=2)
    return replace(inputs, rgb=rgb, xyz_m=xyz)


def _centres(n: int) -> Tensor:
    """Pixel centres in -1..1 across the image."""
    return (torch.arange(n) + 0.5) * (2 / n) - 1


def _moved(
    inputs: NetworkInput, target: Tensor, how: Augmentation, generator: torch.Generator
) -> tuple[NetworkInput, Tensor]:
    """Move cloud, history, path and target as one rigid body, in the base frame."""
    b, device = len(target), target.device
    angle = (torch.rand(b, generator=generator) * 2 - 1) * how.turn_rad
    shift = (torch.rand(b, 3, generator=generator) * 2 - 1) * torch.tensor([how.shift_m, how.shift_m, 0.0])
    zero, one = torch.zeros(b), torch.ones(b)
    rows = [angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero, zero, zero, one]
    R = torch.stack(rows, -1).view(b, 3, 3).to(device)
    turn = torch.stack([zero, zero, (angle / 2).sin(), (angle / 2).cos()], -1).to(device)
    shift, centre = shift.to(device), target[..., :3].flatten(0, -2).mean(0)
    if how.about_base:
        centre = torch.zeros_like(centre)

    def move(xyz: Tensor) -> Tensor:  # (B, ..., 3)
        flat = xyz.reshape(b, -1, 3) - centre
        return (flat @ R.mT + centre + shift[:, None]).reshape(xyz.shape)

    def move_pose(pose: Tensor) -> Tensor:  # (B, ..., 8)
        q = turn.view(b, *[1] * (pose.dim() - 2), 4).expand(*pose.shape[:-1], 4)
        return torch.cat([move(pose[..., :3]), multiply(q, pose[..., 3:7]), pose[..., 7:]], -1)

    xyz = move(inputs.xyz_m.movedim(2, -1)).movedim(-1, 2)
    path = None if inputs.path_m is None else move(inputs.path_m)
    return replace(inputs, xyz_m=xyz, history=move_pose(inputs.history), path_m=path), move_pose(target)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """(..., 4) product of quaternions xyzw: first b, then a."""
    ax, ay, az, aw = a.unbind(-1)
    bx, by, bz, bw = b.unbind(-1)
    return torch.stack(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ],
        -1,
    )
