"""Batches for the nano model: packed conversations about scenes, and what each part of their images shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stvla_ros.planning.nano.architecture import CELL_PX
from stvla_ros.train.nano.loss import SUBCELLS
from stvla_ros.train.nano.packing import Packed, Packer, Row, pack
from stvla_ros.train.scenes.dialogues import further_paths, pointing_conversations, task_conversations
from stvla_ros.train.scenes.shards import Scenes, colour_jitter, resized
from stvla_ros.types import U8

DEPTH_SHARE = 0.7
"""Share of scenes whose paths' depth is asked for too, which costs a second image."""

FURTHER_PATHS = 2
"""Paths of other tasks per scene; a path costs little compared to its image."""


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Packed rows, and what the N tokens of their first images show in 16 parts each."""

    packed: Packed
    kind: Tensor  # (N, 16) class
    colour: Tensor  # (N, 16), -1: none
    object_index: Tensor  # (N, 16) index in the scene, negative: none
    uv: Tensor  # (N, 2) point of the object that a token mostly shows, 0..1000; NaN: none


class PackedBatches:
    """Draws batches."""

    def __init__(self, packer: Packer, pad: int) -> None:
        self._packer, self._pad = packer, pad

    def draw(self, scenes: Scenes, size: int, pointing_only: bool, rng: np.random.Generator) -> PackedBatch:
        """Random scenes with new conversations and jittered colours."""
        rows: list[Row] = []
        shows: list[tuple[Tensor, ...]] = []
        while len(rows) < size:
            index = int(rng.integers(len(scenes)))
            row = self._row(scenes, index, pointing_only, rng)
            if row is None:
                continue
            rows.append(row)
            shows.append(_shown(scenes, index, row.images[0]))
        return PackedBatch(pack(rows, self._pad), *(torch.cat(parts) for parts in zip(*shows, strict=True)))

    def _row(self, scenes: Scenes, index: int, pointing_only: bool, rng: np.random.Generator) -> Row | None:
        shape = scenes.shape_px(index)
        image = (255 * colour_jitter(scenes.rgb(index), rng)).astype(np.uint8)
        conversations = pointing_conversations(scenes, index, rng)
        depth = None
        if not pointing_only:
            wanted = rng.random() < DEPTH_SHARE
            conversations = [
                *conversations[:2],
                *task_conversations(scenes, index, rng, wanted),
                *further_paths(scenes, index, rng, FURTHER_PATHS),
            ]
            depth = resized(scenes.depth_image(index), shape) if wanted else None
        return self._packer.row(resized(image, shape), conversations, depth) if conversations else None


def _shown(scenes: Scenes, index: int, image: U8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Kind, colour, object index and uv of :class:`PackedBatch` for one image."""
    kind, colour = (_by_token(cells, image) for cells in scenes.cells(index))
    object_index = _by_token(scenes.arrays["labels"][index], image) - 1
    uv = torch.from_numpy(scenes.arrays["uv"][index])
    shows = (object_index[..., None] == torch.arange(len(uv))).sum(1)
    return kind, colour, object_index, torch.where(shows.any(-1, keepdim=True), uv[shows.argmax(-1)], torch.nan)


def _by_token(cells: np.ndarray, image: U8) -> Tensor:
    """(N, 16) what each image token shows, from (64, 64) cells."""
    down, across = (n // CELL_PX * SUBCELLS for n in image.shape[:2])
    y, x = ((np.arange(n) + 0.5) * 64 / n for n in (down, across))
    picked = cells[y.astype(int)[:, None], x.astype(int)[None]].astype(np.int64)
    parts = picked.reshape(down // SUBCELLS, SUBCELLS, across // SUBCELLS, SUBCELLS).transpose(0, 2, 1, 3)
    return torch.from_numpy(np.ascontiguousarray(parts.reshape(-1, SUBCELLS * SUBCELLS)))
