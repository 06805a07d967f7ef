"""Conversations about a rendered scene in the planners' protocol, with the true answers: what the nano model learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.data.splits import SEEN
from stvla_ros.geometry.cameras import uv_in_view
from stvla_ros.planning.heatmap.words import KINDS, Goal, say
from stvla_ros.planning.nano.tokens import UNKNOWN_ANSWER
from stvla_ros.planning.prompt import (
    depth_prompt,
    next_action_prompt,
    pointing_prompt,
    progress_prompt,
    remaining_prompt,
    trace_prompt,
    write_offsets,
    write_points,
    write_progress,
)
from stvla_ros.planning.route import draw
from stvla_ros.planning.task_memory import described
from stvla_ros.train.planner.answers import LEAST_PX, ends_of, way
from stvla_ros.train.planner.layouts import MOMENTS
from stvla_ros.train.planner.shards import Scenes

POINTS = 4
UNKNOWN_SHARE = 0.06
TOGETHER_SHARE = 0.7
"""Of a scene's questions about its task that are asked in one conversation."""

NEAR_M = 0.05
"""The tool's point is this close behind the surface that is seen of what it holds."""

NONSENSE = "gromble"
"""A word that the tokenizer has not: all such words are one token."""


@dataclass(frozen=True)
class Exchange:
    """A question and its answer.

    Attributes:
        question: In the protocol.
        answer: As the model shall write it.
        kind: ``points``, ``offsets``, ``words``.
        with_depth: The colourised depth goes with the question.
        ends: Indices of the scene's things where the answer's way begins and ends, twice the same for a point; -1: none.
    """

    question: str
    answer: str
    kind: str
    with_depth: bool = False
    ends: tuple[int, int] = (-1, -1)


def pointing(scenes: Scenes, index: int, rng: np.random.Generator) -> list[list[Exchange]]:
    """Up to :data:`POINTS` conversations of one exchange."""
    a = scenes.arrays
    shown = [i for i in range(int(a["count"][index])) if a["visible_px"][index, i] >= LEAST_PX]
    chosen = rng.permutation(shown)[:POINTS]
    return [[_point(scenes, index, int(i), rng)] for i in chosen]


def _point(scenes: Scenes, index: int, thing: int, rng: np.random.Generator) -> Exchange:
    name = scenes.name(index, thing)
    spoken = str(name) if rng.random() < 0.5 else _spoken(Goal("point", (name,)), rng)
    if rng.random() < UNKNOWN_SHARE:
        return Exchange(pointing_prompt(" ".join([NONSENSE, *spoken.split()[1:]])), UNKNOWN_ANSWER, "words")
    answer = write_points(scenes.arrays["uv"][index, thing][None])
    return Exchange(pointing_prompt(spoken), answer, "points", ends=(thing, thing))


def _spoken(goal: Goal, rng: np.random.Generator) -> str:
    """The bare name in one of its wordings."""
    while True:
        text = say(goal, rng)
        if not text.startswith(("point", "where", "find", "locate", "show", "the")):
            return text


def task(
    scenes: Scenes, index: int, rng: np.random.Generator, depth: bool, together: float = TOGETHER_SHARE
) -> list[list[Exchange]]:
    """Progress, next action, path (and depth) of the scene's own task.

    Args:
        scenes: All there are.
        index: Which one.
        rng: Chooses words, step and what was executed.
        depth: Ask for the path's depth too.
        together: How often it is one conversation, as the planner leads it (:mod:`stvla_ros.planning.dialogue`), and not one for each.
    """
    goal, a = scenes.goal(index), scenes.arrays
    words = f"{say(goal, rng)}."
    words = words[:1].upper() + words[1:]
    step = int(rng.integers(goal.steps))
    progress, lines = _progress(goal, words, MOMENTS[a["moment"][index]], step, rng)
    parts = [[progress]]
    if not progress.answer.endswith("yes"):
        past = [goal.sentence(k) for k in range(step)]
        parts.append([Exchange(next_action_prompt(words, past), goal.sentence(step), "words")])
        if path_is_seen(scenes, index, step):
            parts.append(_path(scenes, index, goal, step, rng, depth, lines))
    return [[exchange for part in parts for exchange in part]] if rng.random() < together else parts


def _progress(goal: Goal, words: str, moment: str, step: int, rng: np.random.Generator) -> tuple[Exchange, list[str]]:
    """As the planner asks, and what was executed for each action so far (:mod:`stvla_ros.planning.task_memory`).

    The lines are those of the path's question, by when the action was asked for.
    """
    past = [described(goal.sentence(k), 2, _events(goal, k)) for k in range(step)]
    finished, happened = moment == "done", _events(goal, step)
    if goal.action == "push":
        finished = step == goal.steps - 1 and rng.random() < 0.4
    if not finished:
        happened = happened[:1] if moment == "held" or (happened[0] == "close" and rng.random() < 0.1) else ()
    keyposes = 2 if happened else int(rng.integers(2))
    present = [described(goal.sentence(step), keyposes, happened)] if happened or rng.random() < 0.5 else []
    question = progress_prompt(words, past + present)
    if step and not present:
        present = [described(goal.sentence(step), 0, ())]
    return Exchange(question, write_progress(step + 1, goal.steps, finished), "words"), past + present


def _events(goal: Goal, step: int) -> tuple[str, ...]:
    """What the hand does in a step, as :func:`stvla_ros.planning.task_memory.events` tells: it presses with closed fingers."""
    if goal.action == "push":
        return ("touch",) if step else ("close", "touch")
    return ("close", "open")


def path_is_seen(scenes: Scenes, index: int, step: int) -> bool:
    """The step has a path whose ends can be seen: none that starts behind what stands before it, or ends there."""
    a, action = scenes.arrays, scenes.goal(index).action
    first, last = ends_of(action, step)
    held = MOMENTS[a["moment"][index]] == "held"
    drawn = bool(np.isfinite(a["path_uv"][index, step]).all())
    # the fingers hide the middle of a held block's top, where its point is: the depth tells whether it is seen
    start_seen = abs(a["offset_m"][index, step, 0]) < NEAR_M if held else a["visible_px"][index, first] >= LEAST_PX
    return drawn and bool(start_seen and a["visible_px"][index, last] >= LEAST_PX)


def _path(
    scenes: Scenes, index: int, goal: Goal, step: int, rng: np.random.Generator, depth: bool, lines: Sequence[str]
) -> list[Exchange]:
    """The path of one step, asked in its own sentence or in other words, with what was executed or without; then its depth."""
    single = Goal(goal.action, goal.names if goal.action != "push" else (goal.names[step],))
    question = trace_prompt(goal.sentence(step) if rng.random() < 0.7 else say(single, rng))
    a = scenes.arrays
    if lines and rng.random() < 0.7:
        tool_uv = uv_in_view(scenes.camera(index), a["tool_m"][index])
        question = f"{question} {remaining_prompt(tool_uv, lines[-1:])}"
    path = write_points(a["path_uv"][index, step])
    talk = [Exchange(question, path, "points", ends=ends_of(goal.action, step))]
    if depth:
        question = depth_prompt(float(a["start_depth_m"][index, step]))
        talk.append(Exchange(question, write_offsets(a["offset_m"][index, step]), "offsets", with_depth=True))
    return talk


def further_paths(
    scenes: Scenes, index: int, rng: np.random.Generator, most: int, colours: Sequence[str] = SEEN
) -> list[list[Exchange]]:
    """Paths of other tasks that the things of a scene allow, while nothing is held or done: the ways are as true as the scene's own.

    Args:
        scenes: All there are.
        index: Which one.
        rng: Chooses.
        most: So many.
        colours: That tasks may name (:mod:`stvla_ros.data.splits`).
    """
    a = scenes.arrays
    if MOMENTS[a["moment"][index]] != "before":
        return []
    names = [scenes.name(index, i) for i in range(int(a["count"][index]))]
    of: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for i, name in enumerate(names):
        if a["visible_px"][index, i] >= LEAST_PX and (not name.colour or name.colour in colours):
            of[name.kind].append(i)
    tasks = {
        "place": [(i, j) for i in of["block"] for j in of["plate"]],
        "stack": [(i, j) for i in of["block"] for j in of["block"] if i != j],
        "push": [(i, i) for i in of["button"]],
    }
    frame, points = scenes.frame(index), a["point_m"][index].astype(np.float64)
    talks: list[list[Exchange]] = []
    for action in rng.permutation([action for action, ends in tasks.items() if ends for _ in range(most)]).tolist():
        if len(talks) == most:
            break
        ends = tasks[action][rng.integers(len(tasks[action]))]
        drawn = draw(way(action, [n.kind for n in names], points, ends, frame.camera), frame)
        if drawn is not None:
            goal = Goal(action, (names[ends[0]],) if action == "push" else (names[ends[0]], names[ends[1]]))
            asked = goal.sentence(0) if rng.random() < 0.5 else say(goal, rng)
            talks.append([Exchange(trace_prompt(asked), write_points(drawn[0]), "points", ends=ends)])
    return talks
