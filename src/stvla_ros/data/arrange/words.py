"""Ways to say what :class:`stvla_ros.sim.tasks.arrange.Arrange` asks for. Those of validation and test are none of training."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from stvla_ros.sim.objects import Block, SceneObject
from stvla_ros.sim.tasks.arrange import Arrange

SENTENCES = (
    "put the {a} {where}", "place the {a} {where}", "set the {a} down {where}", "move the {a} so that it is {where}",
    "take the {a} and put it {where}", "pick up the {a} and place it {where}", "i want the {a} {where}",
    "the {a} belongs {where}",
)  # fmt: skip
HELD_OUT_SENTENCES = (
    "lay the {a} {where}", "grab the {a} and set it {where}", "bring the {a} over and leave it {where}",
    "the {a} should be {where}",
)  # fmt: skip

PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "on": (("on the {b}", "on top of the {b}"), ("upon the {b}",)),
    "in": (("in the {b}", "within the {b}"), ("inside the {b}",)),
    "near": (("near the {b}", "close to the {b}", "next to the {b}"), ("beside the {b}",)),
    "left_of": (("to the left of the {b}", "left of the {b}"), ("on the left side of the {b}",)),
    "right_of": (("to the right of the {b}", "right of the {b}"), ("on the right side of the {b}",)),
    "in_front_of": (("in front of the {b}", "before the {b}"), ("on the near side of the {b}",)),
    "behind": (("behind the {b}", "at the back of the {b}"), ("on the far side of the {b}",)),
    "between": (("between the {b} and the {c}", "in the middle between the {b} and the {c}"),
                ("halfway between the {b} and the {c}",)),
}  # fmt: skip
"""Relation -> its places in words: for training, and held out."""

NOUNS = {"block": (("block", "cube"), ("brick",)), "plate": (("plate",), ("dish",))}
"""Kind of thing -> the same."""


def wordings(task: Arrange, held_out: bool) -> Iterator[str]:
    """All sentences for a task, each once; none is in both sets."""
    which = int(held_out)
    about = (task.moved, *task.references)
    sentences = HELD_OUT_SENTENCES if held_out else SENTENCES
    for sentence, place, *names in product(sentences, PLACES[task.relation][which], *(_names(o, which) for o in about)):
        a, b, c = (*names, "")[:3]
        said = sentence.format(a=a, where=place.format(b=b, c=c))
        yield f"{said[:1].upper()}{said[1:]}."


def wording(task: Arrange, rng: np.random.Generator, held_out: bool) -> str:
    """One of :func:`wordings`."""
    every = list(wordings(task, held_out))
    return every[int(rng.integers(len(every)))]


def _names(item: SceneObject, which: int) -> tuple[str, ...]:
    if isinstance(item, Block):
        return tuple(f"{item.colour} {noun}" for noun in NOUNS["block"][which])
    return NOUNS["plate"][which]
