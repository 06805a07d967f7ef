"""Images side by side with captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stvla_ros.types import U8

VIEWS = ("camera", "guidance", "third view")
WIDTH_PX, HEIGHT_PX = 424, 318
STRIP_PX = 26
INK, PAPER, FAINT = (235, 238, 242), (24, 27, 32), (150, 158, 168)


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def fit(rgb: U8 | None) -> U8:
    """``rgb`` (H, W, 3) in a panel of ``HEIGHT_PX`` x ``WIDTH_PX``, with its aspect ratio; dark without an image."""
    panel = np.full((HEIGHT_PX, WIDTH_PX, 3), PAPER, np.uint8)
    if rgb is None:
        return panel
    scale = min(HEIGHT_PX / rgb.shape[0], WIDTH_PX / rgb.shape[1])
    height, width = max(1, round(rgb.shape[0] * scale)), max(1, round(rgb.shape[1] * scale))
    top, left = (HEIGHT_PX - height) // 2, (WIDTH_PX - width) // 2
    panel[top : top + height, left : left + width] = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    return panel


def strip(text: str, width_px: int, colour: tuple[int, int, int] = INK) -> U8:
    """One line of text, (``STRIP_PX``, width, 3); cut with an ellipsis if it is too long."""
    image = Image.new("RGB", (width_px, STRIP_PX), PAPER)
    draw, font = ImageDraw.Draw(image), _font(14)
    while draw.textlength(text, font) > width_px - 16:
        text = text[:-2].rstrip("…") + "…"
    draw.text((8, STRIP_PX / 2), text, fill=colour, font=font, anchor="lm")
    return np.asarray(image)


def row(views: Mapping[str, U8 | None], caption: str, names: Sequence[str] = VIEWS) -> U8:
    """The views (fitted panels) of these names side by side under one line of text."""
    panels = [views[name] if views.get(name) is not None else fit(None) for name in names]
    return np.vstack([strip(caption, WIDTH_PX * len(names)), np.hstack(panels)])  # type: ignore[arg-type]


def sheet(title: str, rows: Sequence[U8], names: Sequence[str] = VIEWS) -> U8:
    """Rows under a title and the names of the columns."""
    heads = np.hstack([strip(name, WIDTH_PX, FAINT) for name in names])
    return np.vstack([strip(title, WIDTH_PX * len(names)), heads, *rows])
