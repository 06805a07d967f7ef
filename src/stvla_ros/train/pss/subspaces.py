"""Subspaces of gradients, and how similar two of them are.

A gradient G (d, n) of a weight matrix has a column space in R^d and a row space in R^n. Of each, the leading singular
directions are kept that hold a share of the squared singular values (*energy*). With the orthogonal projectors P and Q
on two such subspaces of ranks r and s,

    PSS = tr(P Q) / min(r, s),

the mean squared cosine of their principal angles (ST4VLA, arXiv 2602.10109, appendix A, after SVCCA, arXiv
1706.05806). Independent subspaces with uniformly random directions have the expectation tr(P Q) = r s / d, so that
chance alone gives max(r, s) / d.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COLUMN, ROW = "column", "row"
SPACES = (COLUMN, ROW)


@dataclass(frozen=True, eq=False)
class Directions:
    """Singular directions of a gradient (d, n) with k singular values that are not zero.

    Attributes:
        column: (d, k) float64, orthonormal.
        row: (n, k) float64, orthonormal.
        singular: (k,) float64, falling.
    """

    column: Tensor
    row: Tensor
    singular: Tensor

    def rank(self, energy: float) -> int:
        """The smallest number of directions with at least this share (0..1] of the squared singular values.

        Raises:
            ValueError: The share is not in (0, 1].
        """
        if not 0.0 < energy <= 1.0:
            raise ValueError(f"energy is {energy}; wanted a share above 0, at most 1.")
        if energy == 1.0:
            return len(self.singular)
        share = self.singular.square().cumsum(0) / self.singular.square().sum()
        below = int((share < energy * (1 - 1e-6)).sum())  # float32 rounding alone adds no direction
        return min(below + 1, len(self.singular))

    def basis(self, space: str, energy: float) -> Tensor:
        """(d or n, r) orthonormal basis of the leading directions."""
        whole = self.column if space == COLUMN else self.row
        return whole[:, : self.rank(energy)]


def directions(gradient: Tensor) -> Directions:
    """Singular value decomposition of a gradient (d, n), without the singular values that rounding makes.

    Raises:
        ValueError: It is no matrix, zero, or not finite.
    """
    if gradient.ndim != 2:
        raise ValueError(f"a gradient of shape {tuple(gradient.shape)} is no matrix.")
    if not bool(torch.isfinite(gradient).all()):
        raise ValueError("the gradient has values that are not finite.")
    left, singular, right = torch.linalg.svd(gradient.double(), full_matrices=False)
    exact = torch.finfo(gradient.dtype).eps * max(gradient.shape)
    kept = int((singular > exact * singular[0]).sum())
    if not kept:
        raise ValueError("the gradient is zero.")
    return Directions(left[:, :kept], right[:kept].T, singular[:kept])


@dataclass(frozen=True)
class Similarity:
    """Similarity of two subspaces of R^d, or the mean of several such pairs.

    Attributes:
        value: PSS, 0 (orthogonal) to 1 (the smaller one lies in the larger one).
        chance: Expected value for independent random subspaces of the same ranks.
        ranks: Of the first and the second subspace.
    """

    value: float
    chance: float
    ranks: tuple[float, float]

    @property
    def corrected(self) -> float | None:
        """(value - chance) / (1 - chance): 0 is chance, 1 is equality. None if a subspace is the whole space."""
        return None if self.chance > 1 - 1e-9 else (self.value - self.chance) / (1 - self.chance)


def similarity(first: Tensor, second: Tensor) -> Similarity:
    """Similarity of the subspaces that two orthonormal bases (d, r) and (d, s) span.

    Raises:
        ValueError: The bases are of different spaces.
    """
    if first.shape[0] != second.shape[0]:
        raise ValueError(f"subspaces of {first.shape[0]} and {second.shape[0]} dimensions cannot be compared.")
    ranks = first.shape[1], second.shape[1]
    shared = float((first.T @ second).square().sum())
    return Similarity(min(shared / min(ranks), 1.0), max(ranks) / first.shape[0], ranks)


def mean_similarity(parts: list[Similarity]) -> Similarity:
    """Mean of values, chance levels and ranks."""
    count = len(parts)
    value, chance = sum(p.value for p in parts) / count, sum(p.chance for p in parts) / count
    return Similarity(value, chance, (sum(p.ranks[0] for p in parts) / count, sum(p.ranks[1] for p in parts) / count))
