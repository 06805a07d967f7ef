"""Square cells over a part of the image, and membranes over them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu

from stvla_ros.types import F32, U8, Bool

Slices = tuple[slice, slice]

_LEAK = 1e-6
"""Pull towards the layer's mean colour: it decides where no visible pixel does, and nowhere else."""


_FLAT = 1.0
"""Squared step between cells (in grey values) under which there is no direction to follow."""

_MAX_SKEW = 0.9


def dilated(mask: U8, radius_px: int) -> U8:
    """A mask of 0 and 255, grown by a disc."""
    if radius_px <= 0:
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1, 2 * radius_px + 1))
    return np.asarray(cv2.dilate(mask, kernel), dtype=np.uint8)


@dataclass(frozen=True)
class Grid:
    """Cells of ``stride`` pixels.

    Attributes:
        window: The part of the image that is covered; its corner lies on a multiple of the stride.
        stride: Edge of a cell, px.
    """

    window: Slices
    stride: int

    @classmethod
    def around(cls, mask: U8, pad_px: int, stride: int) -> Grid:
        """The cells that hold a mask which is not empty, and some more on each side."""
        h, w = mask.shape
        x, y, width, height = cv2.boundingRect(mask)
        top, left = max(y - pad_px, 0) // stride * stride, max(x - pad_px, 0) // stride * stride
        bottom, right = (-(-(end + pad_px) // stride) * stride for end in (y + height, x + width))
        return cls((slice(top, min(bottom, h)), slice(left, min(right, w))), stride)

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        rows, columns = (-(-(s.stop - s.start) // self.stride) for s in self.window)
        return rows, columns

    def share(self, mask: U8) -> F32:
        """(rows, columns) which part of each cell a mask of 0 and 255 covers."""
        return self.pooled((mask > 0).astype(np.float32))

    def pooled(self, image: F32) -> F32:
        """Mean over each cell of (h, w) or (h, w, c); beyond the image everything is 0."""
        rows, columns = self.cells
        down, right = rows * self.stride - image.shape[0], columns * self.stride - image.shape[1]
        if down or right:
            image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_CONSTANT, value=0)  # type: ignore[assignment]
        if self.stride == 1:
            return image
        return np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.float32)

    def spread(self, cells: F32) -> F32:
        """Bilinear interpolation between the centres of the cells, at the window's pixels."""
        rows, columns = self.cells
        h, w = (s.stop - s.start for s in self.window)
        size = (columns * self.stride, rows * self.stride)
        full = cells if self.stride == 1 else cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(full[:h, :w], dtype=np.float32)


def normalised_blur(values: F32, weight: F32, size: int) -> tuple[F32, F32]:
    """Weighted mean of (h, w, c) over a square of ``size`` cells, 0 where nothing has weight; and the weight's sum."""
    box = {"ksize": (size, size), "normalize": False, "borderType": cv2.BORDER_CONSTANT}
    total = cv2.boxFilter(values * weight[..., None], -1, **box)  # type: ignore[call-overload]
    count = np.asarray(cv2.boxFilter(weight, -1, **box), dtype=np.float32)  # type: ignore[call-overload]
    count = np.where(count > 1e-4, count, np.float32(0))
    mean = total.reshape(values.shape) / np.where(count > 0, count, np.float32(np.inf))[..., None]
    return np.asarray(mean, dtype=np.float32), count


class Membrane:
    """Laplace's equation on the unknown cells of a grid, factorised once for any boundary values.

    Args:
        unknown: (rows, columns) cells to be solved for.
        known: (rows, columns) cells whose value is given; others take no part.
        tensor: (3, rows, columns) diffusion xx, xy, yy of each cell; the same in all directions when not given.
    """

    def __init__(self, unknown: Bool, known: Bool, tensor: F32 | None = None) -> None:
        index = np.full(unknown.shape, -1, dtype=np.int32)
        n = int(np.count_nonzero(unknown))
        index[unknown] = np.arange(n, dtype=np.int32)
        index[known] = n + np.arange(np.count_nonzero(known), dtype=np.int32)
        i, j, weight = _links(index, tensor)
        i, j, weight = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([weight, weight])
        own = i < n
        i, j, weight = i[own], j[own], weight[own]
        inner = j < n
        diagonal = _LEAK + np.bincount(i, weight, n)
        rim = np.unique(j[~inner])  # of all known cells only those at the hole matter
        self.unknown, self._n = unknown, n
        self.boundary = np.flatnonzero(known.ravel())[rim - n]
        matrix = (
            np.concatenate([-weight[inner], diagonal]),
            (np.concatenate([i[inner], np.arange(n)]), np.concatenate([j[inner], np.arange(n)])),
        )
        self._inflow = sparse.csr_matrix(
            (weight[~inner], (i[~inner], np.searchsorted(rim, j[~inner]))), shape=(n, len(rim)), dtype=np.float64
        )
        A = sparse.csc_matrix(matrix, shape=(n, n))
        options = {"SymmetricMode": True}
        self._factor = splu(A, permc_spec="MMD_AT_PLUS_A", options=options, diag_pivot_thresh=0.0) if n else None

    def solve(self, values: F32, mean: npt.NDArray[np.floating]) -> F32:
        """(n, c) values of the unknown cells, in raster order.

        Args:
            values: (rows, columns, c); only those of the boundary cells are read.
            mean: (c,) for cells that no boundary reaches.
        """
        if self._factor is None:
            return np.zeros((0, values.shape[-1]), dtype=np.float32)
        given = values.reshape(-1, values.shape[-1])[self.boundary].astype(np.float64)
        return np.asarray(self._factor.solve(self._inflow @ given + _LEAK * mean), dtype=np.float32)


_RIGHT = ((slice(None), slice(None, -1)), (slice(None), slice(1, None)))
_DOWN = ((slice(None, -1), slice(None)), (slice(1, None), slice(None)))
_FALLING = ((slice(None, -1), slice(None, -1)), (slice(1, None), slice(1, None)))
_RISING = ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1)))


def _links(
    index: npt.NDArray[np.int32], tensor: F32 | None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Neighbour pairs among cells with an index, and the weight of their link, never negative.

    The cross term of the tensor goes along the diagonals: with xy no larger than xx and yy this is a stencil of
    ``div(D grad u)`` that keeps the maximum principle.
    """
    shape = index.shape
    if tensor is None:
        strengths = [(_RIGHT, np.ones(shape, np.float32)), (_DOWN, np.ones(shape, np.float32))]
    else:
        xx, xy, yy = tensor
        skew = np.abs(xy)
        strengths = [
            (_RIGHT, xx - skew),
            (_DOWN, yy - skew),
            (_FALLING, np.maximum(xy, 0)),
            (_RISING, np.maximum(-xy, 0)),
        ]
    i, j, weight = [], [], []
    for (a, b), strength in strengths:
        here, there = index[a], index[b]
        both = (here >= 0) & (there >= 0)
        i.append(here[both])
        j.append(there[both])
        weight.append((strength[a][both] + strength[b][both]) / 2)
    return np.concatenate(i), np.concatenate(j), np.concatenate(weight)


def along_gradients(values: F32, known: Bool, size: int) -> F32:
    """(3, rows, columns) diffusion along the direction in which the known cells vary least.

    The mean structure tensor of the colour gradients in a square of ``size`` cells, turned by a right angle and scaled
    to the trace of the identity; where nothing is known or nothing varies it is the identity.

    Args:
        values: (rows, columns, c).
        known: (rows, columns) cells that count.
        size: Edge of the square, an odd number of cells.
    """
    inner = (slice(None, -1), slice(None, -1))
    dx, dy = (values[inner[0], 1:] - values[inner], values[1:, inner[1]] - values[inner])
    valid = np.zeros(known.shape, dtype=np.float32)
    valid[inner] = known[inner] & known[:-1, 1:] & known[1:, :-1]
    products = np.zeros((*known.shape, 3), dtype=np.float32)
    for k, product in enumerate((dx * dx, dx * dy, dy * dy)):
        products[..., k][inner] = product.sum(axis=2)
    mean, _ = normalised_blur(products, valid, size)
    xx, xy, yy = np.moveaxis(mean, -1, 0) + np.array([_FLAT, 0.0, _FLAT], np.float32)[:, None, None]
    half = (xx + yy) / 2
    across = np.clip(-xy / half, -_MAX_SKEW, _MAX_SKEW)
    return np.asarray(
        np.stack([yy / half, np.clip(across, -np.minimum(xx, yy) / half, np.minimum(xx, yy) / half), xx / half]),
        dtype=np.float32,
    )
