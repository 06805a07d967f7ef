"""Conversations as tokens, with the answers labelled, exactly as a served model reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stvla_ros.data.st_human.samples import Sample, SampleError
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint
from stvla_ros.planning.qwen3_vl.tokenization import Composer, TokenSequence

IGNORED = -100
"""Label of a token that is not learned."""


@dataclass(frozen=True, eq=False)
class Example:
    """One conversation of T tokens.

    Attributes:
        ids: (T,) int64.
        labels: (T,) int64: the token if it belongs to an answer (its end included), otherwise :data:`IGNORED`.
        positions: (3, T) int64: time, height, width, from 0.
        pixels: (N, D) float32 patches of all images, in order; None without images.
        grids: (I, 3) int64 patches in time, height and width per image; None without images.
    """

    ids: Tensor
    labels: Tensor
    positions: Tensor
    pixels: Tensor | None
    grids: Tensor | None

    def __len__(self) -> int:
        return len(self.ids)


class Encoder:
    """Encodes samples for one checkpoint.

    Args:
        checkpoint: The model, with its tokenizer, template, image processor and position numbering.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._composer = Composer(checkpoint.processor)
        self._stops = checkpoint.stops
        self._image_id = checkpoint.model.config.image_token_id
        self._positions: Any = checkpoint.model.model.get_rope_index

    def count(self, sample: Sample) -> int:
        """Number of tokens of a sample, its answers included. Raises SampleError if an image is missing."""
        whole = self._composer.compose(sample.turns())
        return 1 + max((i for i, token in enumerate(whole.ids) if token in self._stops), default=len(whole.ids) - 1)

    def __call__(self, sample: Sample) -> Example:
        """Encode a sample; all of its answers are labelled.

        Raises:
            SampleError: An image is missing, or the model's template does not repeat earlier answers literally
                (templates of thinking models leave thoughts out).
        """
        turns = sample.turns()
        whole = self._composer.compose(turns)
        labels = torch.full((len(whole.ids),), IGNORED)
        end = 0
        for k in range(1, len(turns), 2):
            asked = self._composer.compose(turns[:k]).ids
            begin, end = len(asked), self._answer_end(whole, len(asked))
            if whole.ids[:begin] != asked or end - begin < 2:
                raise SampleError(
                    f"{sample.id}: the model's chat template does not repeat the answer '{turns[k].text[:60]}' "
                    "literally: "
                    "take an Instruct model, not a Thinking one."
                )
            labels[begin:end] = torch.tensor(whole.ids[begin:end])
        return self._example(whole, labels, end)

    def _answer_end(self, whole: TokenSequence, begin: int) -> int:
        """Index after the token that ends the answer from ``begin`` on; 0 if there is none."""
        return next((i + 1 for i in range(begin, len(whole.ids)) if whole.ids[i] in self._stops), 0)

    def _example(self, whole: TokenSequence, labels: Tensor, end: int) -> Example:
        ids = torch.tensor(whole.ids[:end])
        grids = torch.cat([image.grid for image in whole.images]) if whole.images else None
        pixels = torch.cat([image.pixels for image in whole.images]) if whole.images else None
        kinds = (ids == self._image_id).int()
        positions, _ = self._positions(ids[None], kinds[None], grids)
        return Example(ids, labels[:end], positions[:, 0], pixels, grids)
