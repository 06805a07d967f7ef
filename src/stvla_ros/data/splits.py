"""Splits scenes into training and test by the colours that their instruction names, and by seed.

As in the paper (appendix D), 15 of the 20 colours are seen in training and 5 are not. They are chosen so that every
unseen colour has seen neighbours in hue (navy: blue; cyan: teal, azure; orange: red, yellow; purple: violet, magenta)
and one has no hue (silver: gray, white). Only colours that the instruction names count: distractors have any colour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from stvla_ros.colours import COLOURS
from stvla_ros.config import ConfigError, lookup
from stvla_ros.sim.tasks import make_task

UNSEEN = ("cyan", "navy", "orange", "purple", "silver")
SEEN = tuple(colour for colour in COLOURS if colour not in UNSEEN)

_COLOUR = re.compile(rf"\b({'|'.join(COLOURS)})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Split:
    """Scenes by seed and colours.

    Attributes:
        seeds: Range of seeds; the ranges of training, validation and test never overlap.
        unseen: Whether its scenes name an unseen colour; False: none of them does.
    """

    seeds: range
    unseen: bool


SPLITS = {
    "seen": Split(range(100_000), False),
    "unseen": Split(range(100_000), True),
    "val": Split(range(100_000, 200_000), False),
    "train": Split(range(200_000, 1_000_000), False),
}
"""``seen`` and ``unseen`` are for tests. ``stvla evaluate`` counts seeds from 0 too: it never runs a training scene."""


def named_colours(words: str) -> tuple[str, ...]:
    """The colours that a sentence names, in order."""
    return tuple(word.lower() for word in _COLOUR.findall(words))


def is_unseen(words: str) -> bool:
    """Whether a sentence names a colour that training does not name."""
    return any(colour in UNSEEN for colour in named_colours(words))


def seeds_of(task: str, split: str, first: int = 0) -> Iterator[int]:
    """The seeds of a split, ascending. Lays out each scene without physics or images, a millisecond each.

    Args:
        task: Name of the task.
        split: One of :data:`SPLITS`.
        first: Offset into the split's range.

    Raises:
        ConfigError: Unknown split.
    """
    chosen = lookup(SPLITS, split, "split")
    return (seed for seed in chosen.seeds[first:] if is_unseen(make_task(task, seed).instruction) == chosen.unseen)


def first_seeds(task: str, split: str, count: int, first: int = 0) -> tuple[int, ...]:
    """The first ``count`` seeds of :func:`seeds_of`.

    Raises:
        ConfigError: Unknown split, or the split has fewer.
    """
    seeds = tuple(islice(seeds_of(task, split, first), count))
    if len(seeds) < count:
        raise ConfigError(f"split {split} of {task} from {first} on: wanted {count} scenes, found {len(seeds)}.")
    return seeds
