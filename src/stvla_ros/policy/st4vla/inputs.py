"""Images and words as input of a Qwen-VL model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from stvla_ros.types import U8

IMAGE_TOKEN = "<|image_pad|>"


@dataclass(frozen=True, eq=False)
class VlmBatch:
    """B observations, padded on the left to L tokens.

    Attributes:
        ids: (B, L) int64.
        seen: (B, L) bool, False for padding.
        images: (B, L) bool, True for image tokens.
        pixels: (P, C) patches of all images, row by row.
        grid: (I, 3) patches of each image in time, height and width.
    """

    ids: Tensor
    seen: Tensor
    images: Tensor
    pixels: Tensor
    grid: Tensor

    def to(self, device: torch.device | str) -> VlmBatch:
        """The batch on a device."""
        return VlmBatch(*(t.to(device) for t in (self.ids, self.seen, self.images, self.pixels, self.grid)))

    def arguments(self) -> dict[str, Tensor]:
        """For a Qwen-VL model of transformers."""
        return {
            "input_ids": self.ids, "attention_mask": self.seen.long(), "pixel_values": self.pixels,
            "image_grid_thw": self.grid, "mm_token_type_ids": self.images.int(),
        }  # fmt: skip


def resized(image: U8, images: Any) -> U8:
    """An (H, W, 3) image at the size that the VLM sees. Once only: rounding would enlarge a reduced image again.

    Args:
        image: The camera's.
        images: ``Qwen2VLImageProcessorPil`` of transformers.
    """
    side, size = images.patch_size * images.merge_size, images.size
    height, width = smart_resize(
        *image.shape[:2], factor=side, min_pixels=size["shortest_edge"], max_pixels=size["longest_edge"]
    )
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC), np.uint8)


@dataclass(frozen=True, eq=False)
class VlmProcessor:
    """A VLM's tokenizer, image processor and chat template.

    Attributes:
        tokenizer: Of transformers.
        images: ``Qwen2VLImageProcessorPil`` of transformers.
        template: Chat template (Jinja).
    """

    tokenizer: Any
    images: Any
    template: str

    def resized(self, image: U8) -> U8:
        """See :func:`resized`."""
        return resized(image, self.images)

    def __call__(self, views: Sequence[Sequence[U8]], texts: Sequence[str]) -> VlmBatch:
        """One user turn per observation: its images of :meth:`resized`, then its text; up to the beginning of the answer.

        Raises:
            ValueError: An image has another size, or the chat template no place for it.
        """
        side = self.images.patch_size * self.images.merge_size
        if odd := [
            image.shape for images in views for image in images if image.shape[0] % side or image.shape[1] % side
        ]:
            raise ValueError(f"wanted images of multiples of {side} pixels, got {odd[0]}: resize them first.")
        made = self.images(
            images=[image for images in views for image in images],
            do_resize=False,
            return_tensors="pt",
            input_data_format="channels_last",
        )
        grid = made["image_grid_thw"]
        tokens = iter((grid.prod(-1) // self.images.merge_size**2).tolist())
        rows = [self._ids(text, [next(tokens) for _ in images]) for images, text in zip(views, texts, strict=True)]
        length = max(map(len, rows))
        ids = torch.full((len(rows), length), int(self.tokenizer.pad_token_id))
        for b, row in enumerate(rows):
            ids[b, length - len(row) :] = torch.tensor(row)
        seen = torch.arange(length) >= length - torch.tensor([[len(row)] for row in rows])
        image_id = int(self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
        return VlmBatch(ids, seen, (ids == image_id) & seen, made["pixel_values"], grid)

    def _ids(self, text: str, tokens: Sequence[int]) -> list[int]:
        content = [*({"type": "image"} for _ in tokens), {"type": "text", "text": self._plain(text)}]
        written = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=self.template,
            tokenize=False,
            add_generation_prompt=True,
        )
        first, *rest = str(written).split(IMAGE_TOKEN)
        if len(rest) != len(tokens):
            raise ValueError(f"the chat template names {len(rest)} images, the observation has {len(tokens)}")
        whole = first + "".join(IMAGE_TOKEN * n + piece for n, piece in zip(tokens, rest, strict=True))
        return list(self.tokenizer(whole, add_special_tokens=False)["input_ids"])

    def _plain(self, text: str) -> str:
        """The text with every special token broken up, so that it cannot structure the conversation."""
        special = sorted(map(str, self.tokenizer.all_special_tokens), key=len, reverse=True)
        pattern = "|".join(re.escape(token) for token in [*special, IMAGE_TOKEN] if len(token) > 1)
        return re.sub(pattern, lambda match: f"{match[0][0]} {match[0][1:]}", text)
