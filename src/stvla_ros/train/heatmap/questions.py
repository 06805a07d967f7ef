"""Questions about rendered scenes with true answers, in new words every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.data.splits import SEEN
from stvla_ros.planning.groceries import ITEMS
from stvla_ros.planning.heatmap.words import ACTIONS, COLOURED, KINDS, MAX_STEPS, PALETTE, Goal, Name, say
from stvla_ros.train.scenes.ground_truth import MIN_VISIBLE_PX
from stvla_ros.train.scenes.layouts import UNSEEN_ITEMS
from stvla_ros.train.scenes.shards import Scenes

TAUGHT = (*SEEN, *(item for item in ITEMS if item not in UNSEEN_ITEMS))
"""Colours and items that tasks of the training name (:mod:`stvla_ros.data.splits`)."""

EVERYTHING = (*PALETTE, *ITEMS)

MIN_CELLS = 2
FITTINGS = ("jar", "bulb", "holder")
"""Kinds of which the training shows no answer in a colour that its tasks do not name."""

POINTS = 3
"""Objects per scene that are pointed at."""


@dataclass(frozen=True, eq=False)
class SceneQuestion:
    """One text about one scene.

    Attributes:
        text: The words.
        goal: Their meaning.
        step: The step that is asked for.
        uv: (2, 2) start and end of the step, 0..1000; NaN: not in the image.
        counts: (2,) whether that answer is certain; it is not for an object that is hidden.
    """

    text: str
    goal: Goal
    step: int
    uv: np.ndarray
    counts: np.ndarray


def questions(
    scenes: Scenes, index: int, rng: np.random.Generator, taught: Sequence[str] = TAUGHT
) -> list[SceneQuestion]:
    """Pointing at objects in the scene and at an absent one, and the scene's own task or a made-up one.

    Args:
        scenes: All scenes.
        index: The scene.
        rng: Makes all random choices.
        taught: Colours and items that made-up tasks name; pointing asks for others too, as far as :func:`may_point`.
    """
    names = [scenes.name(index, i) for i in range(int(scenes.arrays["count"][index]))]
    shown = [n for i, n in enumerate(names) if is_shown(scenes, index, i)]
    pointed = [n for n in shown if may_point(n, taught)]
    chosen = [pointed[i] for i in rng.permutation(len(pointed))[:POINTS]]
    goals = [Goal("point", (name,)) for name in [*chosen, absent(names, rng, taught)]]
    goals.append(scenes.goal(index) if rng.random() < 0.7 else _made_up_task(rng, shown, taught))
    goals.append(scenes.goal(index) if rng.random() < 0.3 else _made_up_task(rng, shown, taught))
    return [_question(scenes, index, goal, int(rng.integers(goal.steps)), rng) for goal in goals]


def may_point(name: Name, taught: Sequence[str]) -> bool:
    """Whether an object may be asked for by its name alone: jars, bulbs and holders only in colours that tasks name."""
    return name.kind not in FITTINGS or name.colour in taught


def is_shown(scenes: Scenes, index: int, which: int) -> bool:
    """Whether questions may name an object: its point is visible, or it is what another one was stacked or screwed on."""
    a = scenes.arrays
    if a["visible_px"][index, which] >= MIN_VISIBLE_PX:
        return True
    stacked = ACTIONS[a["action"][index]] in ("stack", "screw") and scenes.phase(index) == "done"
    inside = bool(np.isfinite(a["uv"][index, which]).all())
    return stacked and which == 1 and inside and int((a["labels"][index] == which + 1).sum()) >= MIN_CELLS


def task_question(scenes: Scenes, index: int, step: int, rng: np.random.Generator) -> SceneQuestion:
    """A step of the scene's own task."""
    return _question(scenes, index, scenes.goal(index), step, rng)


def absent(names: list[Name], rng: np.random.Generator, taught: Sequence[str] = EVERYTHING) -> Name:
    """A name that is not among ``names``, often with the kind or colour of one that is."""
    while True:
        near = names[rng.integers(len(names))]
        kind = near.kind if rng.random() < 0.5 else str(rng.choice(KINDS))
        colour = near.colour if near.colour and rng.random() < 0.4 else str(rng.choice(PALETTE))
        name = Name(kind, colour if kind in COLOURED else "")
        if name not in names and may_point(name, taught):
            return name


def _any_name(rng: np.random.Generator, taught: Sequence[str]) -> Name:
    while True:
        kind = str(rng.choice(KINDS))
        name = Name(kind, str(rng.choice(PALETTE)) if kind in COLOURED else "")
        if may_point(name, taught):
            return name


_MADE_UP = {"place": "block", "stack": "block", "push": "button", "lid": "jar", "bulb": "bulb", "store": "cupboard"}
"""Kinds of tasks, and what a scene has when they suit it."""


def _made_up_task(rng: np.random.Generator, shown: list[Name], taught: Sequence[str]) -> Goal:
    """A task with the given colours and items, mostly about objects in the scene."""
    kinds = {name.kind for name in shown}
    suitable = [task for task, kind in _MADE_UP.items() if kind in kinds]
    task = str(rng.choice(suitable if suitable and rng.random() < 0.8 else [*_MADE_UP]))
    if task == "store":
        items = [item for item in ITEMS if item in taught]
        there = [item for item in items if item in kinds]
        return Goal("store", (Name(str(rng.choice(there or items)), ""), Name("cupboard", "")))
    kind = _MADE_UP[task]
    real = [n for n in shown if n.kind == kind and n.colour in taught]
    count = {"stack": 2, "push": int(rng.integers(1, MAX_STEPS + 1))}.get(task, 1)
    chosen = [real[i] for i in rng.permutation(len(real))[:count]]
    while len(chosen) < count:
        name = Name(kind, str(rng.choice([colour for colour in PALETTE if colour in taught])))
        chosen += [name] if name not in chosen else []
    chosen = [chosen[i] for i in rng.permutation(count)]
    if task == "lid":
        return Goal("screw", (Name("lid", ""), *chosen))
    if task == "bulb":
        return Goal("screw", (*chosen, Name("lamp", "")))
    return Goal(task, (*chosen, Name("plate", "")) if task == "place" else tuple(chosen))


def text_questions(count: int, rng: np.random.Generator, taught: Sequence[str] = TAUGHT) -> list[tuple[str, Goal, int]]:
    """Texts without images, their meaning, and one of their steps; learning from words alone is cheap."""
    goals = [
        _made_up_task(rng, [], taught) if rng.random() < 0.85 else Goal("point", (_any_name(rng, taught),))
        for _ in range(count)
    ]
    return [(say(goal, rng), goal, int(rng.integers(goal.steps))) for goal in goals]


def _question(scenes: Scenes, index: int, goal: Goal, step: int, rng: np.random.Generator) -> SceneQuestion:
    there = {scenes.name(index, i): i for i in range(int(scenes.arrays["count"][index]))}
    uv, counts = np.full((2, 2), np.nan), np.ones(2, bool)
    for i, name in enumerate(goal.ends(step)):
        if name in there:
            uv[i] = scenes.arrays["uv"][index, there[name]]
            counts[i] = is_shown(scenes, index, there[name])
    return SceneQuestion(say(goal, rng), goal, step, uv, counts)


def class_labels(goal: Goal, step: int) -> tuple[list[int], list[int]]:
    """(2,) kinds and (2,) colours of a step's ends as class numbers; the last colour is none."""
    ends = goal.ends(step)
    return [KINDS.index(n.kind) for n in ends], [PALETTE.index(n.colour) if n.colour else len(PALETTE) for n in ends]
