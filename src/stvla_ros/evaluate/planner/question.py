"""What a planner is asked in a test, how, and the truth that its answer is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np

from stvla_ros.planning.chat import Turn
from stvla_ros.planning.prompt import RANGES
from stvla_ros.types import F64, U8


@dataclass(frozen=True, eq=False)
class Region:
    """Where correct points are: in a box, in a mask, or near a point.

    Attributes:
        box: x1, y1, x2, y2, all inclusive, in pixels of the image, or of ``box_size``.
        box_size: Width and height that the box belongs to; None: those of the image in the question.
        mask: Makes the (H, W) uint8 mask when it is needed.
        spot: (2,) a correct point, 0..1000.
    """

    box: tuple[float, float, float, float] | None = None
    box_size: tuple[int, int] | None = None
    mask: Callable[[], U8] | None = None
    spot: tuple[float, float] | None = None

    @cached_property
    def _mask(self) -> U8:
        assert self.mask is not None
        return self.mask()

    def values(self, uv: F64, size_px: tuple[int, int]) -> F64 | None:
        """(N,) 0..1 for how far inside points are; None if there is only a spot.

        A box gives 0 or 1; a mask its value over 255, which in a JPEG may be in between.

        Args:
            uv: (N, 2) in 0..1000.
            size_px: Width and height of the image.
        """
        if self.mask is not None:
            height, width = self._mask.shape
            px = np.clip((uv / 1000 * [width, height]).astype(int), 0, [width - 1, height - 1])
            return np.asarray(self._mask[px[:, 1], px[:, 0]] / 255.0, np.float64)
        if self.box is None:
            return None
        low, high = np.array(self.box[:2]), np.array(self.box[2:])
        px = uv / 1000 * (self.box_size or size_px)
        return np.asarray(((px >= low) & (px <= high)).all(axis=1), np.float64)


@dataclass(frozen=True, eq=False)
class Path2d:
    """A path on the image.

    Attributes:
        points: (N, 2) in pixels of the image, or of ``size``.
        size: Width and height that the points belong to; None: those of the image in the question.
    """

    points: F64
    size: tuple[int, int] | None = None

    def uv(self, size_px: tuple[int, int]) -> F64:
        """(N, 2) in 0..1000, for an image of this width and height."""
        return self.points / (self.size or size_px) * 1000


@dataclass(frozen=True, eq=False)
class Depths:
    """Depths along a path.

    Attributes:
        offset_m: (8,) depth minus the start depth.
        start_m: The start depth; None if the file has none.
    """

    offset_m: F64
    start_m: float | None


@dataclass(frozen=True)
class Choice:
    """Multiple choice.

    Attributes:
        right: Index of the correct option.
        options: The texts of the options; empty where only letters are known.
        lettered: The question names its options (A), (B), ...
    """

    right: int
    options: tuple[str, ...] = ()
    lettered: bool = True


@dataclass(frozen=True)
class Sentence:
    """A sentence."""

    text: str


@dataclass(frozen=True)
class Steps:
    """Progress of a task.

    Attributes:
        step: From 1.
        finished: The task is done; None if the file does not say.
    """

    step: int
    finished: bool | None


@dataclass(frozen=True)
class Order:
    """What an operator's words ask for.

    Attributes:
        action: The next action; empty: the planner must refuse the words.
    """

    action: str


Truth: TypeAlias = Region | Path2d | Depths | Choice | Sentence | Steps | Order


@dataclass(frozen=True, eq=False)
class Question:
    """One question of a test.

    Attributes:
        id: Unique in the data set.
        group: Its row of the table.
        truth: The correct answer.
        ask: Makes the conversation; reads images.
        tags: What the data set's own summary needs, e.g. a category.
    """

    id: str
    group: str
    truth: Truth
    ask: Callable[[], tuple[Turn, ...]]
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptStyle:
    """How questions are worded.

    Attributes:
        convention: The coordinates that the model must use: ``norm1000``, ``norm1`` or ``pixel``.
    """

    convention: str = "norm1000"

    def points(self, words: str) -> str:
        """A request for one or more points."""
        return f"{words} Answer with one or more points only, as [(x, y), ...], {RANGES[self.convention]}."

    def path(self, words: str) -> str:
        """A request for a path."""
        return f"{words} Answer with the points of the path only, as [(x, y), ...], {RANGES[self.convention]}."

    def letter(self, words: str) -> str:
        """A question with lettered options."""
        return f"{words}\nAnswer with the letter of the option only, as (A)."
