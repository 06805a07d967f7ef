"""Packs conversations into sequences, and sequences into the forward passes of every step.

Every conversation keeps the positions that it would have alone. A fourth row of positions restarts at 0 with every
conversation; transformers derives the block-diagonal causal mask (or FlashAttention's lengths) from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.samples import Sample
from stvla_ros.files import read_arrays, written
from stvla_ros.train.sft.encode import IGNORED, Encoder, Example
from stvla_ros.types import I32


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """B packed sequences, padded to T tokens.

    Attributes:
        ids: (B, T).
        labels: (B, T); see :class:`stvla_ros.train.sft.encode.Example`. A conversation's first token is never learned.
        positions: (4, B, T): index in the conversation, then time, height, width.
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
        """Number of tokens in the loss."""
        return int((self.labels != IGNORED).sum())

    def to(self, device: torch.device) -> TokenBatch:
        """The batch on a device."""
        parts = (self.ids, self.labels, self.positions, self.pixels, self.grids)
        return TokenBatch(*(None if part is None else part.to(device, non_blocking=True) for part in parts))


def pack(lengths: Sequence[int], order: Sequence[int], capacity: int) -> list[list[int]]:
    """Divide samples among sequences; each goes into the first one with room (first fit).

    Args:
        lengths: Tokens of every sample.
        order: Indices of samples, in the order of placement, without those longer than ``capacity``.
        capacity: Tokens of a sequence.

    Returns:
        Indices per sequence; every index of ``order`` once.
    """
    packs: list[list[int]] = []
    room: list[int] = []
    first = 0  # packs before this one have no room left
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


def collate(packs: Sequence[Sequence[Example]], padding_id: int) -> TokenBatch:
    """Make a batch of examples that are grouped by sequence."""
    rows = [_row(pack) for pack in packs]
    longest = max(len(ids) for ids, _, _ in rows)
    ids = torch.full((len(rows), longest), padding_id)
    labels = torch.full((len(rows), longest), IGNORED)
    positions = torch.zeros((4, len(rows), longest), dtype=torch.int64)  # each padding token is its own conversation
    for k, row in enumerate(rows):
        length = len(row[0])
        ids[k, :length], labels[k, :length], positions[:, k, :length] = row
    examples = [example for pack in packs for example in pack]
    pixels = [e.pixels for e in examples if e.pixels is not None]
    grids = [e.grids for e in examples if e.grids is not None]
    return TokenBatch(
        ids, labels, positions, torch.cat(pixels) if pixels else None, torch.cat(grids) if grids else None
    )


def _row(pack: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    labels = [torch.cat([torch.tensor([IGNORED]), e.labels[1:]]) for e in pack]
    places = [torch.cat([torch.arange(len(e))[None], e.positions]) for e in pack]
    return torch.cat([e.ids for e in pack]), torch.cat(labels), torch.cat(places, dim=1)


def token_counts(
    samples: Sequence[Sample],
    encoder: Encoder,
    cache: Path,
    key: str,
    on_progress: Callable[[int], None] = lambda _: None,
) -> I32:
    """Number of tokens of every sample; cached in a file, since counting reads every image.

    Args:
        samples: All of them.
        encoder: Encodes samples.
        cache: The file; it is written anew for another key.
        key: Everything else that affects the counts: the model and its settings.
        on_progress: Called with the number of samples counted since the last call.
    """
    digest = hashlib.sha256(repr([key, *((s.id, s.messages, s.images, s.root) for s in samples)]).encode()).hexdigest()
    if cache.is_file():
        content = read_arrays(cache, wanted="counts of tokens")
        if str(content.get("key")) == digest and "counts" in content:
            on_progress(len(samples))
            return np.asarray(content["counts"], np.int32)
    counts = np.zeros(len(samples), np.int32)
    for i, sample in enumerate(samples):
        counts[i] = encoder.count(sample)
        on_progress(1)
    with written(cache) as part, part.open("wb") as file:
        np.savez(file, key=np.array(digest), counts=counts)
    return counts


class PackedSamples(torch.utils.data.Dataset[TokenBatch]):
    """The forward passes of one process, in their order.

    Args:
        samples: All samples.
        encoder: Encodes samples.
        counts: Tokens of every sample; samples longer than ``capacity`` are left out.
        capacity: Tokens of a sequence.
        rows: Sequences per forward pass.
        padding_id: Token that fills a batch.
        rank: Number of this process.
        world: Number of processes; each gets every ``world``-th forward pass.
        epochs: Passes over the samples, each in a new order.
        seed: For the order.
        accumulate: Forward passes per step; an epoch's last step is filled up from its beginning.

    Raises:
        ConfigError: No sample is short enough.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        encoder: Encoder,
        counts: I32,
        capacity: int,
        rows: int,
        padding_id: int,
        rank: int = 0,
        world: int = 1,
        epochs: int = 1,
        seed: int = 0,
        accumulate: int = 1,
    ) -> None:
        fitting = np.flatnonzero(counts <= capacity)
        if not len(fitting):
            raise ConfigError(f"sft: wanted samples of at most {capacity} tokens, the shortest has {counts.min()}.")
        self.left_out = len(samples) - len(fitting)
        self._samples, self._encoder, self._padding_id = samples, encoder, padding_id
        self._passes: list[list[list[int]]] = []
        for epoch in range(epochs):
            order = np.random.default_rng([seed, epoch]).permutation(fitting).tolist()
            packs = pack(counts.tolist(), order, capacity)
            whole = -(-len(packs) // (rows * world * accumulate)) * rows * world * accumulate
            packs = [packs[i % len(packs)] for i in range(whole)]
            passes = [packs[i : i + rows] for i in range(0, whole, rows)]
            self._passes += passes[rank::world]

    def __len__(self) -> int:
        return len(self._passes)

    def __getitem__(self, index: int) -> TokenBatch:
        packs = [[self._encoder(self._samples[i]) for i in pack_] for pack_ in self._passes[index]]
        return collate(packs, self._padding_id)
