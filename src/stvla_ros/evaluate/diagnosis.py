"""What the errors of a pointing model have in common: another convention, swapped axes, a scale, an offset, nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.types import F64

MIN_HIT_RATE = 0.75
"""Share of the objects that must be hit."""

MAX_OFF = 20.0
"""Median distance, in thousandths of the image, up to which answers count as explained."""

MIN_ANSWERS = 3
"""With fewer answers no pattern is looked for."""


@dataclass(frozen=True)
class Diagnosis:
    """What the answers mean.

    Attributes:
        good: The planner points at the objects.
        pattern: For programs: ``right``, ``pixel``, ``norm1``, ``norm1000``, ``percent``, ``swapped``,
            ``mirrored``, ``scale``, ``offset``, ``scatter``, ``silent``.
        sentence: For the operator: what is wrong and what to do.
        median_off: Median error in thousandths of the image, by the configured convention; NaN without answers.
    """

    good: bool
    pattern: str
    sentence: str
    median_off: float


def diagnose(
    expected_uv: F64, numbers: F64, hits: Sequence[bool], convention: str, size_px: tuple[int, int]
) -> Diagnosis:
    """Compare answers with the true places.

    Args:
        expected_uv: (N, 2) where the objects are, 0..1000.
        numbers: (N, 2) the unconverted answers.
        hits: For every question, including those without an answer: whether the object was hit.
        convention: The configured meaning of the numbers.
        size_px: Width and height of the image.
    """
    asked, hit = len(hits), sum(hits)
    if len(numbers) == 0:
        return Diagnosis(False, "silent", f"None of {asked} questions got a usable answer.", float("nan"))
    read = conventions(size_px)
    off = _off(read[convention](numbers), expected_uv)
    if hit >= MIN_HIT_RATE * asked:
        return Diagnosis(True, "right", f"{hit} of {asked} objects were hit; the median error is {off:.0f}/1000.", off)
    pattern, sentence = _explain(expected_uv, numbers, convention, read)
    return Diagnosis(False, pattern, f"{hit} of {asked} objects were hit. {sentence}", off)


Reading = Callable[[F64], F64]


def conventions(size_px: tuple[int, int]) -> dict[str, Reading]:
    """Convention -> what makes its numbers 0..1000, given the image's width and height; nothing is clipped."""
    size = np.array(size_px, dtype=np.float64)
    return {
        "norm1000": lambda n: n,
        "norm1": lambda n: n * 1000,
        "pixel": lambda n: (n + 0.5) / size * 1000,
        "percent": lambda n: n * 10,
    }


def _explain(expected: F64, numbers: F64, convention: str, read: dict[str, Reading]) -> tuple[str, str]:
    if len(numbers) < MIN_ANSWERS:
        return "scatter", "Too few answers to see what they have in common."
    named = {name: reading(numbers) for name, reading in read.items() if name != convention}
    seen = read[convention](numbers)
    named |= {"swapped": seen[:, ::-1], "mirrored": np.array([1000.0, 0.0]) + np.array([-1.0, 1.0]) * seen}
    best = min(named, key=lambda name: _off(named[name], expected))
    scale, offset, rest = _fit(expected, seen)
    if _off(named[best], expected) <= MAX_OFF:
        return best, _NAMED.get(best, _OTHER_CONVENTION).format(name=best)
    if rest > MAX_OFF:
        return (
            "scatter",
            "The answers are unrelated to the objects' places: this model does not ground, or does not see the image.",
        )
    if np.abs(scale - 1).max() < 0.03:
        return (
            "offset",
            f"All answers are off by ({offset[0]:+.0f}, {offset[1]:+.0f})/1000: the server shifts coordinates.",
        )
    return "scale", (
        f"The answers are the truth times ({scale[0]:.3f}, {scale[1]:.3f}) plus "
        f"({offset[0]:+.0f}, {offset[1]:+.0f})/1000: "
        "another convention of coordinates, or the server resizes or crops the image."
    )


_OTHER_CONVENTION = "The numbers are in another convention: set 'coordinates' of the planner to {name}."
_NAMED = {
    "swapped": "The axes are swapped: the model answers (y, x).",
    "mirrored": "Left and right are mirrored: the image reaches the model flipped.",
    "percent": "The answers are percentages, which no setting reads: ask the model for 0 to 1000.",
}


def _off(uv: F64, expected: F64) -> float:
    return float(np.median(np.linalg.norm(uv - expected, axis=1)))


def _fit(expected: F64, seen: F64) -> tuple[F64, F64, float]:
    """Scale and offset per axis that turn the truth into the answers, and the median distance that remains.

    The scale is the median of the slopes between pairs (Theil, Sen).
    """
    i, j = np.triu_indices(len(expected), 1)
    scale = np.ones(2)
    for axis in range(2):
        step = expected[j, axis] - expected[i, axis]
        apart = np.abs(step) > 30  # between neighbours the slope is noise
        if apart.any():
            scale[axis] = np.median((seen[j, axis] - seen[i, axis])[apart] / step[apart])
    offset = np.median(seen - scale * expected, axis=0)
    return scale, offset, _off(scale * expected + offset, seen)
