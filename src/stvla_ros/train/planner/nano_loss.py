"""What the nano model is trained for: soft numbers, attention that looks at the point, and what each part of the image shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.qwen3_vl.modeling_qwen3_vl import apply_rotary_pos_emb

from stvla_ros.planning.heatmap.words import KINDS, PALETTE
from stvla_ros.planning.nano.architecture import WIDTH
from stvla_ros.planning.nano.tokens import NUMBERS
from stvla_ros.train.planner.packing import COORDINATE, OFFSET, PLAIN, Packed

SPREAD = {COORDINATE: 6.0, OFFSET: 8.0}
"""Sigma of the wanted distribution over neighbouring numbers: thousandths, millimetres."""

REACH = 18
PLAIN_WEIGHT = 0.3
"""Brackets and words are many and easy."""

LOOKING_LAYERS = (1, 2)
"""Head 0 of these layers must look at the part of the image where the point is."""

CELL_SPREAD = 0.6
SUBCELLS = 4
"""Each image token says what is in so many by so many parts of it."""


class Showing(nn.Module):
    """What is in each part of an image token; used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds, self.colours = len(KINDS) + 2, len(PALETTE)
        self.out = nn.Linear(WIDTH, SUBCELLS * SUBCELLS * (self.kinds + self.colours))

    def loss(self, tokens: Tensor, kind: Tensor, colour: Tensor) -> Tensor:
        """Cross entropy.

        Args:
            tokens: (N, width) image tokens.
            kind: (N, 16) classes.
            colour: (N, 16), -1: none.
        """
        logits = self.out(tokens).float().unflatten(-1, (SUBCELLS * SUBCELLS, -1))
        by_kind, by_colour = logits.split([self.kinds, self.colours], -1)
        weight = torch.tensor([0.3, 0.1, 1.0, 0.5, 1.0, 0.7])
        cross = functional.cross_entropy
        return cross(by_kind.flatten(0, 1), kind.flatten(), weight) + cross(
            by_colour.flatten(0, 1), colour.flatten(), ignore_index=-1
        )


def number_loss(logits: Tensor, batch: Packed) -> Tensor:
    """Cross entropy; a number's neighbours are nearly right."""
    log = logits.float().log_softmax(-1)
    plain = -log.gather(-1, batch.target[:, None])[:, 0]
    away = torch.arange(-REACH, REACH + 1)
    total, weight = log.new_zeros(()), log.new_zeros(())
    for kind in (PLAIN, COORDINATE, OFFSET):
        here = batch.kind == kind
        if not here.any():
            continue
        if kind == PLAIN:
            total, weight = total + PLAIN_WEIGHT * plain[here].sum(), weight + PLAIN_WEIGHT * here.sum()
            continue
        near = batch.target[here, None] + away
        soft = torch.exp(-(away.float() ** 2) / (2 * SPREAD[kind] ** 2)) * ((near >= 0) & (near < NUMBERS))
        soft = soft / soft.sum(-1, keepdim=True)
        total = total - (soft * log[here].gather(-1, near.clamp(0, NUMBERS - 1))).sum()
        weight = weight + here.sum()
    return total / weight


@contextmanager
def watched(layers: nn.ModuleList) -> Iterator[list[tuple[nn.Module, dict[str, Any]]]]:
    """What goes into the attention of :data:`LOOKING_LAYERS` during a forward pass."""
    seen: list[tuple[nn.Module, dict[str, Any]]] = []
    hooks = [
        layers[i].self_attn.register_forward_pre_hook(
            lambda module, arguments, named: seen.append((module, named)), with_kwargs=True
        )
        for i in LOOKING_LAYERS
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def looking_loss(seen: list[tuple[nn.Module, dict[str, Any]]], batch: Packed) -> Tensor:
    """Cross entropy between where head 0 looks on the image, and where the point is, as the number is about to be written."""
    points = torch.isfinite(batch.uv).all(-1)
    row, before, uv = batch.row[points], batch.before[points], batch.uv[points]
    wanted = _around(uv, batch.cells[row])
    losses = [-(wanted * _looks(m, named, row, before, batch)).sum(-1).mean() for m, named in seen]
    return torch.stack(losses).mean()


def _around(uv: Tensor, cells: Tensor) -> Tensor:
    """(M, N) share of each image token of a small Gaussian about points; tokens of smaller images come first, rest 0."""
    most = int(cells.prod(-1).max())
    index = torch.arange(most)[None]
    y, x = index // cells[:, 1:], index % cells[:, 1:]
    v, u = uv[:, 1:] / 1000 * cells[:, :1] - 0.5, uv[:, :1] / 1000 * cells[:, 1:] - 0.5
    near = torch.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * CELL_SPREAD**2)) * (index < cells.prod(-1, keepdim=True))
    return near / near.sum(-1, keepdim=True).clamp_min(1e-9)


def _looks(module: Any, named: dict[str, Any], row: Tensor, before: Tensor, batch: Packed) -> Tensor:
    """(M, N) log of the attention of head 0 among the image's tokens."""
    hidden, (cos, sin) = named["hidden_states"], named["position_embeddings"]
    q = module.q_norm(module.q_proj(hidden).unflatten(-1, (-1, module.head_dim))[:, :, :1]).transpose(1, 2)
    k = module.k_norm(module.k_proj(hidden).unflatten(-1, (-1, module.head_dim))[:, :, :1]).transpose(1, 2)
    q, k = (x[:, 0].float() for x in apply_rotary_pos_emb(q, k, cos, sin))
    most = int(batch.cells.prod(-1).max())
    place = batch.first_image[:, :1] + torch.arange(most)
    inside = place < batch.first_image[:, 1:]
    keys = torch.gather(k, 1, place.clamp(max=k.shape[1] - 1)[..., None].expand(-1, -1, k.shape[-1]))
    score = torch.einsum("md,mnd->mn", q[row, before], keys[row]) * module.scaling
    return score.masked_fill(~inside[row], -1e4).log_softmax(-1)
