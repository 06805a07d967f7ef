"""What the query-heatmap network is trained for: where things are, what words mean, what each cell shows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from stvla_ros.planning.heatmap.network import CELLS, HeatmapNetwork, TextQuery, local_mean
from stvla_ros.train.planner.heatmap_batch import Batch, Drill

SPREAD_CELLS = 0.8
"""Sigma of the wanted heatmap around the true point."""


def meaning_loss(asked: TextQuery, wanted: Batch | Drill) -> Tensor:
    """Cross entropy of what the words mean."""
    cross = functional.cross_entropy
    return (
        cross(asked.action, wanted.action)
        + cross(asked.steps, wanted.steps)
        + cross(asked.kind.flatten(0, 1), wanted.kind.flatten())
        + cross(asked.colour.flatten(0, 1), wanted.colour.flatten())
    )


def losses(network: HeatmapNetwork, batch: Batch, bf16: bool) -> dict[str, Tensor]:
    """``total`` and its parts."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = network.features(batch.rgb)
    features = features.float()
    asked = network.words(batch.words, batch.step)
    heat = network.heat(features, asked, batch.image)
    place, offset = _heat_losses(heat, batch)
    cross = functional.cross_entropy
    meaning = meaning_loss(asked, batch)
    dense = cross(network.cell_kind(features), batch.labels, _rare())
    dense = dense + cross(network.cell_colour(features), batch.colours, ignore_index=-1)
    return {
        "total": place + 0.02 * offset + 0.5 * meaning + 0.5 * dense,
        "heat": place,
        "meaning": meaning,
        "dense": dense,
    }


def _rare() -> Tensor:
    """Things cover few cells, so those count more."""
    return torch.tensor([0.3, 0.1, 1.0, 0.5, 1.0, 0.7])


def _heat_losses(heat: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross entropy against a small Gaussian at the true point or "not there", and distance in cells of the local mean."""
    there = torch.isfinite(batch.uv).all(-1)
    cells = torch.nan_to_num(batch.uv) * (CELLS / 1000) - 0.5
    line = torch.arange(CELLS, dtype=torch.float32)
    near = torch.exp(-((line - cells[..., None]) ** 2) / (2 * SPREAD_CELLS**2))  # (T, 2, xy, 64)
    wanted = (near[..., 1, :, None] * near[..., 0, None, :]).flatten(-2)
    wanted = wanted / wanted.sum(-1, keepdim=True).clamp_min(1e-6) * there[..., None]
    wanted = torch.cat([wanted, (~there).float()[..., None]], -1)
    counts = batch.counts.float()
    log = heat.log_softmax(-1)
    place = (-(wanted * log).sum(-1) * counts).sum() / counts.sum().clamp_min(1)
    cell = cells.round().long().clamp(0, CELLS - 1)
    mean, _ = local_mean(log.exp()[..., :-1], cell[..., 1] * CELLS + cell[..., 0])
    miss = (mean - torch.nan_to_num(batch.uv)).abs().sum(-1) * (CELLS / 1000) * counts * there
    return place, miss.sum() / (counts * there).sum().clamp_min(1)
