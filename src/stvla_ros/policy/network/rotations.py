"""Rotations as quaternions and in 6D.

The six numbers are the first two columns of the rotation matrix, one after the other. Any six that are not degenerate
give a rotation (Zhou et al., "On the Continuity of Rotation Representations in Neural Networks", arXiv 1812.07035).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MIN_LENGTH = 1e-8
"""Columns shorter than this are not normalised to unit length."""


def sixd_from_quaternion(xyzw: Tensor) -> Tensor:
    """First two columns (..., 6) of the rotation of a quaternion (..., 4) of any length but 0."""
    x, y, z, w = functional.normalize(xyzw, dim=-1, eps=1e-10).unbind(-1)
    first = (1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w))
    second = (2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w))
    return torch.stack((*first, *second), -1)


def matrix_from_sixd(sixd: Tensor) -> Tensor:
    """Rotation matrix (..., 3, 3) of six numbers (..., 6), with the direction of the first column unchanged."""
    first, second = sixd.unflatten(-1, (2, 3)).unbind(-2)
    x = functional.normalize(first, dim=-1, eps=MIN_LENGTH)
    z = functional.normalize(torch.linalg.cross(x, second), dim=-1, eps=MIN_LENGTH)
    return torch.stack((x, torch.linalg.cross(z, x), z), -1)


def quaternion_from_matrix(matrix: Tensor) -> Tensor:
    """Quaternion xyzw (..., 4) of a rotation matrix (..., 3, 3), its largest component positive.

    Four times the quaternion's outer product with itself is linear in the matrix. Its row with the largest diagonal
    element is the scaled quaternion.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    outer = (
        (1 + a - e - i, b + d, c + g, h - f),
        (b + d, 1 - a + e - i, f + h, c - g),
        (c + g, f + h, 1 - a - e + i, d - b),
        (h - f, c - g, d - b, 1 + a + e + i),
    )
    rows = torch.stack([torch.stack(row, -1) for row in outer], -2)
    largest = rows.diagonal(dim1=-2, dim2=-1).max(-1, keepdim=True)
    row = rows.gather(-2, largest.indices.unsqueeze(-1).expand(*rows.shape[:-2], 1, 4)).squeeze(-2)
    return row / (2 * largest.values.sqrt())


def quaternion_from_sixd(sixd: Tensor) -> Tensor:
    """Unit quaternion xyzw (..., 4) of six numbers (..., 6)."""
    return quaternion_from_matrix(matrix_from_sixd(sixd))
