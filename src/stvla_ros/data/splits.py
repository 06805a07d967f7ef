"""Splits scenes into training and test by the names in their instruction (colours or items), and by seed.

As in the paper (appendix D), 15 of the 20 colours are seen in training and 5 are not. They are chosen so that every
unseen colour has seen neighbours in hue (navy: blue; cyan: teal, azure; orange: red, yellow; purple: violet, magenta)
and one has no hue (silver: gray, white). Only names in the instruction count: distractors have any.

The splits ``paper_*`` hold out the names that the paper gives as examples instead, where it gives some.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from stvla_ros.colours import COLOURS
from stvla_ros.config import ConfigError, lookup
from stvla_ros.sim.tasks import TASKS, make_task

UNSEEN = ("cyan", "navy", "orange", "purple", "silver")
SEEN = tuple(colour for colour in COLOURS if colour not in UNSEEN)


@dataclass(frozen=True)
class Split:
    """Scenes by seed and names.

    Attributes:
        seeds: Range of seeds; the ranges of training, validation and test never overlap.
        unseen: Whether its scenes name something unseen; False: none of them does.
        paper: Unseen is what the paper gives as examples, not this module's choice.
    """

    seeds: range
    unseen: bool
    paper: bool = False


SPLITS = {
    f"{prefix}{name}": Split(seeds, unseen, paper)
    for prefix, paper in (("", False), ("paper_", True))
    for name, seeds, unseen in (
        ("seen", range(100_000), False),
        ("unseen", range(100_000), True),
        ("val", range(100_000, 200_000), False),
        ("train", range(200_000, 1_000_000), False),
    )
}
"""``seen`` and ``unseen`` are for tests. ``stvla evaluate`` counts seeds from 0 too: it never runs a training scene."""


def named(words: str, names: Iterable[str] = COLOURS) -> tuple[str, ...]:
    """Which of the names a sentence has, in its order; a name that contains another one counts alone."""
    longest_first = sorted(names, key=len, reverse=True)
    return tuple(word.lower() for word in re.findall(rf"\b(?:{'|'.join(longest_first)})\b", words, re.IGNORECASE))


def is_unseen(words: str, names: Iterable[str] = COLOURS, held_out: Iterable[str] = UNSEEN) -> bool:
    """Whether a sentence has a name that training does not see."""
    return not set(held_out).isdisjoint(named(words, names))


def held_out(task: str, split: str) -> tuple[str, ...]:
    """The names that the training of a split does not see.

    Raises:
        ConfigError: Unknown split, or the paper gives no examples for this task.
    """
    kind = TASKS[task]
    if not lookup(SPLITS, split, "split").paper:
        return UNSEEN if kind.held_out is None else kind.held_out
    if not kind.paper_held_out:
        raise ConfigError(
            f"split {split}: the paper names no unseen ones for {task}: use {split.removeprefix('paper_')}."
        )
    return kind.paper_held_out


def seeds_of(task: str, split: str, first: int = 0, count_named: int = 0) -> Iterator[int]:
    """The seeds of a split, ascending. Lays out each scene without physics or images, a millisecond each.

    Args:
        task: Name of the task.
        split: One of :data:`SPLITS`.
        first: Offset into the split's range.
        count_named: Only scenes whose instruction names so many things; 0: all.

    Raises:
        ConfigError: See :func:`held_out`.
    """
    out, names, chosen = held_out(task, split), TASKS[task].names, SPLITS[split]

    def fits(seed: int) -> bool:
        words = make_task(task, seed).instruction
        return is_unseen(words, names, out) == chosen.unseen and count_named in (0, len(named(words, names)))

    return filter(fits, chosen.seeds[first:])


def first_seeds(task: str, split: str, count: int, first: int = 0) -> tuple[int, ...]:
    """The first ``count`` seeds of :func:`seeds_of`.

    Raises:
        ConfigError: Unknown split, or the split has fewer.
    """
    seeds = tuple(islice(seeds_of(task, split, first), count))
    if len(seeds) < count:
        raise ConfigError(f"split {split} of {task} from {first} on: wanted {count} scenes, found {len(seeds)}.")
    return seeds
