"""Several conversations about one image as one sequence: the image is computed once, no conversation sees another.

A row holds the image's tokens, then one conversation after another. A token attends to the image and to earlier tokens
of its own conversation, and the positions of every conversation continue from the image. Each conversation is thus
computed exactly as if it were alone; a test compares that with the library's own forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from stvla_ros.planning.nano.architecture import CELL_PX, MERGE, PATCH_PX
from stvla_ros.planning.nano.tokens import NUMBERS
from stvla_ros.train.scenes.dialogues import Exchange
from stvla_ros.types import U8

PLAIN, COORDINATE, OFFSET = 0, 1, 2
"""Kinds of answer tokens."""


@dataclass(eq=False)
class Row:
    """One sequence of L tokens.

    Attributes:
        ids: Token ids.
        positions: Time, height and width of each token.
        segment: 0: the image, k: the k-th conversation.
        images: Its images in order: the scene's, then depth images.
        image_at: Index of the scene image's first token.
        targets: (index, id, kind, begin, end) of each answer token; the last two as in :attr:`Exchange.ends`.
    """

    ids: list[int] = field(default_factory=list)
    positions: list[tuple[int, int, int]] = field(default_factory=list)
    segment: list[int] = field(default_factory=list)
    images: list[U8] = field(default_factory=list)
    image_at: int = 0
    targets: list[tuple[int, int, int, int, int]] = field(default_factory=list)


class Packer:
    """Makes rows and batches."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._image_pad = int(tokenizer.convert_tokens_to_ids("<|image_pad|>"))

    def row(self, image: U8, conversations: Sequence[Sequence[Exchange]], depth: U8 | None = None) -> Row:
        """One (H, W, 3) image, whose sides are multiples of 32 pixels, and its conversations."""
        row = Row()
        after = self._image(row, 0, 0, "<|im_start|>user\n", image)
        for number, conversation in enumerate(conversations, 1):
            at = after
            for k, exchange in enumerate(conversation):
                if k and exchange.with_depth and depth is not None:
                    at = self._image(row, at, number, "\n<|im_start|>user\n", depth)
                elif k:
                    at = self._text(row, at, number, "\n<|im_start|>user\n")
                at = self._text(row, at, number, f"{exchange.question}<|im_end|>\n<|im_start|>assistant\n")
                at = self._answer(row, at, number, exchange)
        return row

    def _text(self, row: Row, at: int, segment: int, text: str) -> int:
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        row.ids += ids
        row.positions += [(p, p, p) for p in range(at, at + len(ids))]
        row.segment += [segment] * len(ids)
        return at + len(ids)

    def _image(self, row: Row, at: int, segment: int, before: str, image: U8) -> int:
        at = self._text(row, at, segment, f"{before}<|vision_start|>")
        height, width = image.shape[0] // CELL_PX, image.shape[1] // CELL_PX
        row.image_at = row.image_at or len(row.ids)
        row.images.append(image)
        row.ids += [self._image_pad] * (height * width)
        row.positions += [(at, at + y, at + x) for y in range(height) for x in range(width)]
        row.segment += [segment] * (height * width)
        return self._text(row, at + max(height, width), segment, "<|vision_end|>")

    def _answer(self, row: Row, at: int, segment: int, exchange: Exchange) -> int:
        start = len(row.ids)
        end = self._text(row, at, segment, f"{exchange.answer}<|im_end|>")
        named = {"points": COORDINATE, "offsets": OFFSET}.get(exchange.kind, PLAIN)
        for i in range(start, len(row.ids)):
            kind = named if row.ids[i] < NUMBERS else PLAIN
            row.targets.append((i, row.ids[i], kind, *(exchange.ends if kind == COORDINATE else (-1, -1))))
        return end


@dataclass(frozen=True, eq=False)
class Packed:
    """B rows, padded to L tokens.

    Attributes:
        ids: (B, L).
        positions: (3, B, L).
        mask: (B, 1, L, L) True where the first token attends to the second.
        pixels: (P, D) patches of all images, row by row.
        grid: (I, 3) size of each image in patches.
        image_row: (I,) row of each image.
        row: (M,) row of each answer token.
        before: (M,) index of the token before it.
        target: (M,) its id.
        kind: (M,) its kind.
        ends: (M, 2) objects at which its path begins and ends; -1: none.
        first_image: (B, 2) first token of each row's first image, and the one after its last.
        cells: (B, 2) tokens of that image, down and across.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    pixels: Tensor
    grid: Tensor
    image_row: Tensor
    row: Tensor
    before: Tensor
    target: Tensor
    kind: Tensor
    ends: Tensor
    first_image: Tensor
    cells: Tensor


def pack(rows: Sequence[Row], pad: int) -> Packed:
    """Rows as one batch."""
    length = max(len(row.ids) for row in rows)
    ids, segment = torch.full((len(rows), length), pad), torch.full((len(rows), length), -1)
    positions = torch.zeros((3, len(rows), length), dtype=torch.long)
    for b, row in enumerate(rows):
        n = len(row.ids)
        ids[b, :n], segment[b, :n] = torch.tensor(row.ids), torch.tensor(row.segment)
        positions[:, b, :n] = torch.tensor(row.positions).T
    own = (segment[:, :, None] == segment[:, None, :]) | (segment[:, None, :] == 0)
    mask = (own & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
    targets = [(b, *target) for b, row in enumerate(rows) for target in row.targets]
    which, place, target, kind, begins, ends = (torch.tensor(column) for column in zip(*targets, strict=True))
    images = [image for row in rows for image in row.images]
    cells = torch.tensor([[row.images[0].shape[0] // CELL_PX, row.images[0].shape[1] // CELL_PX] for row in rows])
    begin = torch.tensor([row.image_at for row in rows])
    return Packed(
        ids, positions, mask, torch.cat([patches(image) for image in images]), torch.tensor([_grid(i) for i in images]),
        torch.tensor([b for b, row in enumerate(rows) for _ in row.images]),
        which, place - 1, target, kind, torch.stack([begins, ends], -1),
        torch.stack([begin, begin + cells.prod(-1)], -1), cells,
    )  # fmt: skip


def _grid(image: U8) -> tuple[int, int, int]:
    return 1, image.shape[0] // PATCH_PX, image.shape[1] // PATCH_PX


def patches(image: U8) -> Tensor:
    """(N, D) patches of an (H, W, 3) image in the image processor's order: the 2 x 2 that are merged are neighbours."""
    height, width = image.shape[0] // CELL_PX, image.shape[1] // CELL_PX
    x = torch.from_numpy(np.ascontiguousarray(image)).float() / 127.5 - 1
    x = x.reshape(height, MERGE, PATCH_PX, width, MERGE, PATCH_PX, 3).permute(0, 3, 1, 4, 6, 2, 5)
    return x[:, :, :, :, :, None].expand(-1, -1, -1, -1, -1, 2, -1, -1).reshape(-1, 3 * 2 * PATCH_PX * PATCH_PX)
