"""Square cells over a part of the image, and membranes over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu

from stvla_ros.types import F32, U8, Bool

Slices = tuple[slice, slice]

_LEAK = 1e-6
"""Pull towards the layer's mean colour; it only matters where no visible pixel determines the value."""


_FLAT = 9.0
"""Squared step between cells (of the sum of three colours) below which there is no direction to follow."""


_EXACT_STRIDE = 15
"""Up to this stride the number of a cell's pixels fits into 8 bits."""


@dataclass(frozen=True)
class Grid:
    """Cells of ``stride`` pixels.

    Attributes:
        window: The covered part of the image; its corner lies on a multiple of the stride.
        stride: Edge of a cell, px.
    """

    window: Slices
    stride: int

    @classmethod
    def around(cls, mask: U8, pad_px: int, stride: int) -> Grid:
        """The cells that contain a non-empty mask, with padding on each side."""
        h, w = mask.shape
        x, y, width, height = cv2.boundingRect(mask)
        top, left = max(y - pad_px, 0) // stride * stride, max(x - pad_px, 0) // stride * stride
        bottom, right = (-(-(end + pad_px) // stride) * stride for end in (y + height, x + width))
        return cls((slice(top, min(bottom, h)), slice(left, min(right, w))), stride)

    def part(self, mask: U8, pad_px: int) -> tuple[Grid, Slices]:
        """The cells around a mask over this window, and their place in it."""
        inner = Grid.around(mask, pad_px, self.stride)
        rows, columns = (
            slice(a.start + b.start, a.start + b.stop) for a, b in zip(self.window, inner.window, strict=True)
        )
        return Grid((rows, columns), self.stride), inner.window

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        rows, columns = (-(-(s.stop - s.start) // self.stride) for s in self.window)
        return rows, columns

    def share(self, mask: U8) -> F32:
        """(rows, columns) share of each cell that a mask of 0 and 255 covers."""
        rows, columns = self.cells
        s = self.stride
        if mask.shape != (rows * s, columns * s) or not 1 < s <= _EXACT_STRIDE:
            return self.pooled((mask > 0).astype(np.float32))
        small = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_AREA)
        return np.rint(small * np.float32(s * s / 255)) / np.float32(s * s)  # exact despite the rounding to 8 bits

    def pooled(self, image: F32) -> F32:
        """Mean over each cell of (h, w) or (h, w, c); pixels beyond the image count as 0."""
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
        unknown: (rows, columns) cells to solve for.
        known: (rows, columns) cells with a given value; others are ignored.
        tensor: (3, rows, columns) diffusion xx, xy, yy of each cell; isotropic if not given.

    Attributes:
        unknown: As given.
        boundary: Flat indices of the known cells whose values matter.
    """

    def __init__(self, unknown: Bool, known: Bool, tensor: F32 | None = None) -> None:
        cells = np.flatnonzero(unknown)
        n = len(cells)
        neighbours, weight = _links(cells, unknown.shape, tensor)
        flow = weight * known.ravel()[neighbours]
        inner = weight * unknown.ravel()[neighbours]
        rim = np.zeros(unknown.size, dtype=bool)
        rim[neighbours[flow > 0]] = True
        self.unknown, self.boundary = unknown, np.flatnonzero(rim)
        inner = np.column_stack([-inner, flow.sum(axis=1) + inner.sum(axis=1) + _LEAK])
        A = _rows(inner, np.column_stack([neighbours, cells]), cells, unknown.size)
        self._inflow = _rows(flow, neighbours, self.boundary, unknown.size)
        symmetric = sparse.csc_matrix((A.data, A.indices, A.indptr), shape=(n, n))
        options = {"SymmetricMode": True}
        self._factor = (
            splu(symmetric, permc_spec="MMD_AT_PLUS_A", options=options, diag_pivot_thresh=0.0) if n else None
        )

    def solve(self, values: F32, mean: npt.NDArray[np.floating]) -> F32:
        """(n, c) values of the unknown cells, in raster order.

        Args:
            values: (rows, columns, c); only boundary cells are read.
            mean: (c,) for cells that no boundary reaches.
        """
        if self._factor is None:
            return np.zeros((0, values.shape[-1]), dtype=np.float32)
        given = values.reshape(-1, values.shape[-1])[self.boundary].astype(np.float64)
        return np.asarray(self._factor.solve(self._inflow @ given + _LEAK * mean), dtype=np.float32)


def _rows(
    weight: npt.NDArray[np.floating], target: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], size: int
) -> sparse.csr_matrix:
    """Sparse (n, len(columns)) from (n, k) weights and the cells that they belong to, without zeros."""
    number = np.zeros(size, dtype=np.int32)
    number[columns] = np.arange(len(columns), dtype=np.int32)
    used = weight != 0
    start = np.zeros(len(weight) + 1, dtype=np.int32)
    np.cumsum(np.count_nonzero(used, axis=1), out=start[1:])
    entries = (weight[used].astype(np.float64), number[target[used]], start)
    return sparse.csr_matrix(entries, shape=(len(weight), len(columns)))


_STEPS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))


def _links(cells: npt.NDArray[np.intp], shape: tuple[int, ...], tensor: F32 | None) -> tuple[npt.NDArray[np.intp], F32]:
    """The (n, k) neighbours of n cells, and the weights of the links to them: never negative, 0 beyond the grid.

    The cross term of the tensor goes along the diagonals: with xy no larger than xx and yy this is a stencil of
    ``div(D grad u)`` that keeps the maximum principle.
    """
    steps = np.array(_STEPS[:4] if tensor is None else _STEPS)
    row, column = (a[:, None] + step for a, step in zip(np.divmod(cells, shape[1]), steps.T))
    exists = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    neighbours = np.where(exists, row * shape[1] + column, cells[:, None])
    if tensor is None:
        return neighbours, exists.astype(np.float32)
    xx, xy, yy = tensor
    skew = np.abs(xy)
    falling, rising = np.maximum(xy, 0), np.maximum(-xy, 0)
    strength = np.stack([a.ravel() for a in (xx - skew, yy - skew, falling, rising)])
    which = np.repeat(np.arange(4), 2)
    return neighbours, np.asarray(
        exists * (strength[which, cells[:, None]] + strength[which, neighbours]) / 2, np.float32
    )


def along_gradients(values: F32, known: Bool, size: int) -> F32:
    """(3, rows, columns) diffusion along the direction in which the known cells vary least.

    The mean structure tensor of the brightness in a square of ``size`` cells, turned by a right angle and scaled to the
    trace of the identity; where nothing is known or nothing varies it is the identity.

    Args:
        values: (rows, columns, 3) colour.
        known: (rows, columns) cells that count.
        size: Edge of the square, an odd number of cells.
    """
    grey = values[..., 0] + values[..., 1] + values[..., 2]
    head, tail = slice(None, -1), slice(1, None)
    dx, dy = grey[head, tail] - grey[head, head], grey[tail, head] - grey[head, head]
    valid = np.zeros(known.shape, dtype=np.float32)
    valid[head, head] = known[head, head] & known[head, tail] & known[tail, head]
    products = np.zeros((*known.shape, 3), dtype=np.float32)
    for k, product in enumerate((dx * dx, dx * dy, dy * dy)):
        products[head, head, k] = product
    mean, _ = normalised_blur(products, valid, size)
    xx, xy, yy = mean[..., 0] + np.float32(_FLAT), mean[..., 1], mean[..., 2] + np.float32(_FLAT)
    limit = np.minimum(xx, yy)
    return np.asarray(np.stack([yy, np.clip(-xy, -limit, limit), xx]) * (2 / (xx + yy)), dtype=np.float32)


def quadratic_terms(cells: npt.NDArray[np.intp], shape: tuple[int, ...], dtype: type[np.floating]) -> npt.NDArray[Any]:
    """(N, 6) quadratic monomials of cells given by flat index, over -1..1 in both directions."""
    y, x = (2 * k.astype(dtype) / n - 1 for k, n in zip(np.divmod(cells, shape[1]), shape, strict=True))
    return np.column_stack([np.ones_like(x), x, y, x * x, x * y, y * y])


def quadratic(model: npt.NDArray[np.floating], shape: tuple[int, ...]) -> F32:
    """(rows, columns) the same monomials on all cells, weighted with a (6,) model and summed."""
    y, x = (2 * np.arange(n, dtype=np.float32) / n - 1 for n in shape)
    one, dx, dy, xx, xy, yy = model.astype(np.float32)
    return np.asarray((one + dy * y + yy * y * y)[:, None] + (dx * x + xx * x * x) + (xy * y)[:, None] * x, np.float32)
