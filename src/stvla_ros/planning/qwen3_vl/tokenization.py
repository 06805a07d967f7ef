"""From turns to tokens and image patches."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stvla_ros.planning.chat import Turn
from stvla_ros.planning.qwen3_vl.processor import IMAGE_TOKEN, ImageOnlyQwen3VLProcessor
from stvla_ros.types import U8


@dataclass(frozen=True, eq=False)
class Patches:
    """One image as input of the vision tower.

    Attributes:
        digest: Identifies the image.
        pixels: (N, D) float32.
        grid: (1, 3) patches in time, height and width.
        tokens: Number of its tokens in the conversation.
    """

    digest: str
    pixels: torch.Tensor
    grid: torch.Tensor
    tokens: int


@dataclass(frozen=True)
class ImageSpan:
    """The tokens of an image: ``start`` to ``end``, exclusive."""

    start: int
    end: int
    digest: str


@dataclass(frozen=True, eq=False)
class TokenSequence:
    """A conversation as input of the network.

    Attributes:
        ids: All tokens.
        images: Images in order.
        places: Their spans.
    """

    ids: tuple[int, ...]
    images: tuple[Patches, ...]
    places: tuple[ImageSpan, ...]

    def common(self, other: TokenSequence | None, known: int) -> int:
        """Length of the common prefix with another conversation, images included.

        Args:
            other: The last conversation, with its answer.
            known: How many of its tokens may count.

        Returns:
            At most all tokens but one (something must be left to compute), and never a position inside an image.
        """
        if other is None:
            return 0
        limit = min(known, len(other.ids), len(self.ids) - 1)
        same = next((i for i in range(limit) if self.ids[i] != other.ids[i]), limit)
        for mine, theirs in zip(self.places, (*other.places, *[None] * len(self.places)), strict=False):
            if mine.start < same and (mine != theirs or mine.end > same):
                return mine.start
        return same

    def followed_by(self, answer: Sequence[int]) -> TokenSequence:
        """This sequence with the tokens of an answer appended."""
        return TokenSequence((*self.ids, *answer), self.images, self.places)


class Composer:
    """Tokenizes conversations and caches the patches of the last images."""

    def __init__(self, processor: ImageOnlyQwen3VLProcessor) -> None:
        self._processor = processor
        self._patches: dict[str, Patches] = {}
        special = {str(t) for t in processor.tokenizer.all_special_tokens} | {
            str(token) for token in processor.tokenizer.added_tokens_decoder.values() if token.special
        }
        self._special = re.compile("|".join(re.escape(t) for t in sorted(special, key=len, reverse=True) if len(t) > 1))
        self._image_id = int(processor.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))

    def compose(self, turns: Sequence[Turn]) -> TokenSequence:
        """Tokens and patches of turns, up to the beginning of the answer."""
        images = tuple(self._image(rgb) for turn in turns for rgb in turn.images)
        self._patches = {image.digest: image for image in images}
        ids = tuple(self._tokens(self._text(turns), images))
        return TokenSequence(ids, images, _places(ids, self._image_id, images))

    def _text(self, turns: Sequence[Turn]) -> str:
        messages = [
            {
                "role": turn.role,
                "content": [
                    *({"type": "image"} for _ in turn.images),
                    {"type": "text", "text": self.escaped(turn.text)},
                ],
            }
            for turn in turns
        ]
        return str(self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def escaped(self, text: str) -> str:
        """The text with every special token broken up, so that it cannot structure the conversation."""
        return self._special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    def _tokens(self, text: str, images: Sequence[Patches]) -> list[int]:
        first, *rest = text.split(IMAGE_TOKEN)
        if len(rest) != len(images):
            raise ValueError(f"the chat template names {len(rest)} images, the conversation has {len(images)}")
        whole = first + "".join(IMAGE_TOKEN * i.tokens + piece for i, piece in zip(images, rest, strict=True))
        return list(self._processor.tokenizer(whole, add_special_tokens=False)["input_ids"])

    def _image(self, rgb: U8) -> Patches:
        digest = hashlib.sha256(f"{rgb.shape}".encode() + np.ascontiguousarray(rgb).tobytes()).hexdigest()
        if digest in self._patches:
            return self._patches[digest]
        images = self._processor.image_processor
        made: Any = images(images=[rgb], return_tensors="pt", input_data_format="channels_last")
        grid = made["image_grid_thw"]
        return Patches(digest, made["pixel_values"], grid, int(grid.prod()) // images.merge_size**2)


def _places(ids: Sequence[int], image_id: int, images: Sequence[Patches]) -> tuple[ImageSpan, ...]:
    """Each image's run of placeholder tokens. Other tokens always separate two images."""
    places, start = [], 0
    for image in images:
        start = ids.index(image_id, start)
        places.append(ImageSpan(start, start + image.tokens, image.digest))
        start += image.tokens
    return tuple(places)
