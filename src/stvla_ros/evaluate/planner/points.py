"""As many points as a model gives: for tests that ask for one or more."""

from __future__ import annotations

import numpy as np

from stvla_ros.planning.answer import answer_of, groups
from stvla_ros.planning.coordinates import Coordinates
from stvla_ros.planning.parse import MAX_BYTES, ReplyError
from stvla_ros.types import F64

MAX_POINTS = 256


def any_points(text: str, coordinates: Coordinates, least: int = 1) -> F64:
    """The points of an answer, in 0..1000.

    All pairs of numbers in brackets count; a point outside the image stays a point, and is moved to its border.

    Args:
        text: The reply.
        coordinates: What the numbers mean.
        least: Fewer are no answer.

    Raises:
        StageError: REPLY_UNPARSABLE: too few, too many, or a negative number.
    """
    if len(text) > MAX_BYTES:
        raise ReplyError(f"Wanted a reply of at most {MAX_BYTES} characters, found {len(text)}.", text)
    found = [g.numbers for g in groups(answer_of(text)) if g.numbers is not None and len(g.numbers) == 2]
    if not least <= len(found) <= MAX_POINTS:
        raise ReplyError(f"Wanted {least} to {MAX_POINTS} points, found {len(found)}.", text)
    points = np.array(found, np.float64)
    if (points < 0).any():
        raise ReplyError("Wanted points in the image, found a negative coordinate.", text)
    return coordinates.to_uv(points)
