"""Several conversations in one sequence, blind to each other.

Every conversation keeps the positions that it would have alone. A fourth row of positions, which restarts at 0 with
every conversation, is what transformers makes the block-diagonal causal mask (or FlashAttention's lengths) from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stvla_ros.train.sft.encode import IGNORED, Example


@dataclass(frozen=True, eq=False)
class Batch:
    """B packed sequences, filled up to the longest one's T tokens.

    Attributes:
        ids: (B, T).
        labels: (B, T); see :class:`stvla_ros.train.sft.encode.Example`. The first token of a conversation is never learned.
        positions: (4, B, T): place in the conversation, then time, height, width.
        pixels: (N, D) patches of all images, row by row; None without images.
        grids: (I, 3); None without images.
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor
    pixels: Tensor | None
    grids: Tensor | None

    @property
    def learned(self) -> int:
        """Tokens that count in the loss."""
        return int((self.labels != IGNORED).sum())

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        parts = (self.ids, self.labels, self.positions, self.pixels, self.grids)
        return Batch(*(None if part is None else part.to(device, non_blocking=True) for part in parts))


def pack(lengths: Sequence[int], order: Sequence[int], capacity: int) -> list[list[int]]:
    """Divide samples among sequences: each goes into the first one with room (first fit).

    Args:
        lengths: Tokens of every sample.
        order: Indices of samples, in the order in which they are placed.
        capacity: Tokens of a sequence; samples that are longer must not be in ``order``.

    Returns:
        Indices per sequence; every index of ``order`` once.
    """
    packs: list[list[int]] = []
    room: list[int] = []
    first = 0  # packs before this one are as good as full
    shortest = min((lengths[i] for i in order), default=0)
    for i in order:
        k = next((k for k in range(first, len(packs)) if room[k] >= lengths[i]), len(packs))
        if k == len(packs):
            packs.append([])
            room.append(capacity)
        packs[k].append(i)
        room[k] -= lengths[i]
        while first < len(packs) and room[first] < shortest:
            first += 1
    return packs


def collate(packs: Sequence[Sequence[Example]], padding_id: int) -> Batch:
    """Examples, grouped by sequence, as a batch."""
    rows = [_row(pack) for pack in packs]
    longest = max(len(ids) for ids, _, _ in rows)
    ids = torch.full((len(rows), longest), padding_id)
    labels = torch.full((len(rows), longest), IGNORED)
    positions = torch.zeros((4, len(rows), longest), dtype=torch.int64)  # each filler is a conversation of its own
    for k, row in enumerate(rows):
        length = len(row[0])
        ids[k, :length], labels[k, :length], positions[:, k, :length] = row
    examples = [example for pack in packs for example in pack]
    pixels = [e.pixels for e in examples if e.pixels is not None]
    grids = [e.grids for e in examples if e.grids is not None]
    return Batch(ids, labels, positions, torch.cat(pixels) if pixels else None, torch.cat(grids) if grids else None)


def _row(pack: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    labels = [torch.cat([torch.tensor([IGNORED]), e.labels[1:]]) for e in pack]
    places = [torch.cat([torch.arange(len(e))[None], e.positions]) for e in pack]
    return torch.cat([e.ids for e in pack]), torch.cat(labels), torch.cat(places, dim=1)
