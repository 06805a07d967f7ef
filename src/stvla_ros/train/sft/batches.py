"""Which samples go into which step: packed once, drawn by the step's number, so that a resumed run sees the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human import Sample
from stvla_ros.files import read_arrays, written
from stvla_ros.train.sft.encode import Encoder
from stvla_ros.train.sft.packing import Batch, collate, pack
from stvla_ros.types import I32


def token_counts(
    samples: Sequence[Sample], encoder: Encoder, cache: Path, key: str, tell: Callable[[int], None] = lambda _: None
) -> I32:
    """Tokens of every sample; kept in a file, because every image is looked at.

    Args:
        samples: All of them.
        encoder: Makes tokens.
        cache: A file that may be written; what another key wrote into it is made anew.
        key: Names what else decides the counts: the model and its settings.
        tell: Hears of every sample that is counted.
    """
    digest = hashlib.sha256(repr([key, *((s.id, s.messages, s.images, s.root) for s in samples)]).encode()).hexdigest()
    if cache.is_file():
        content = read_arrays(cache, wanted="counts of tokens")
        if str(content.get("key")) == digest and "counts" in content:
            tell(len(samples))
            return np.asarray(content["counts"], np.int32)
    counts = np.zeros(len(samples), np.int32)
    for i, sample in enumerate(samples):
        counts[i] = encoder.count(sample)
        tell(1)
    with written(cache) as part, part.open("wb") as file:
        np.savez(file, key=np.array(digest), counts=counts)
    return counts


class Packs(torch.utils.data.Dataset[Batch]):
    """The forward passes of one process, in order.

    Args:
        samples: All samples.
        encoder: Makes tokens.
        counts: Tokens of every sample; those beyond ``capacity`` are left out.
        capacity: Tokens of a sequence.
        rows: Sequences per forward pass.
        rank: Number of this process.
        world: How many there are; each gets every ``world``-th forward pass.
        epochs: How often every sample is seen; packed anew every time.
        seed: Of the order.
        accumulate: Passes per step; what is left of an epoch is filled up with sequences from its beginning.

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

    def __getitem__(self, index: int) -> Batch:
        packs = [[self._encoder(self._samples[i]) for i in pack_] for pack_ in self._passes[index]]
        return collate(packs, self._padding_id)
