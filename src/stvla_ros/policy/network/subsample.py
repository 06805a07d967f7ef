"""Chooses the image tokens to keep for self-attention, by their features alone."""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 8
"""Nearest features that decide how rare a token is, including itself (3D FlowMatch Actor, arXiv 2508.11002)."""


@torch.no_grad()
def density_based(features: Tensor, count: int) -> Tensor:
    """Indices (B, count) of the tokens with the largest mean distance to their nearest neighbours, rarest first.

    Args:
        features: (B, N, C); distances are Euclidean.
        count: How many to keep, at most N.
    """
    near, _ = torch.cdist(features, features).topk(min(NEIGHBOURS, features.shape[1]), -1, largest=False)
    return near.mean(-1).topk(count, -1).indices


@torch.no_grad()
def farthest_point(features: Tensor, count: int) -> Tensor:
    """Indices (B, count) by farthest point sampling from token 0, in double precision, the first among equals.

    Each next token has the largest distance to its nearest chosen one (3D Diffuser Actor, arXiv 2402.10885, which uses
    DGL's sampler).

    Args:
        features: (B, N, C); distances are Euclidean.
        count: How many to keep, at most N.
    """
    points = features.double()
    rows = torch.arange(len(points), device=points.device)
    chosen = torch.zeros(len(points), count, dtype=torch.long, device=points.device)
    squared = points.new_full(points.shape[:2], torch.inf)
    for index in range(1, count):
        last = points[rows, chosen[:, index - 1]]
        squared = torch.minimum(squared, (points - last[:, None]).square().sum(-1))
        chosen[:, index] = squared.argmax(-1)
    return chosen
