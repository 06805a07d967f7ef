"""Conversations about a rendered scene in the planners' protocol, with the true answers: what the nano model learns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stvla_ros.planning.heatmap.words import Goal, say
from stvla_ros.planning.heatmap.written import write_offsets, write_points, write_progress
from stvla_ros.planning.nano.tokens import UNKNOWN_ANSWER
from stvla_ros.planning.progress import described
from stvla_ros.planning.prompt import depth_prompt, next_action_prompt, pointing_prompt, progress_prompt, trace_prompt
from stvla_ros.train.planner.answers import LEAST_PX
from stvla_ros.train.planner.layouts import MOMENTS
from stvla_ros.train.planner.shards import Scenes, steps_of

POINTS = 4
UNKNOWN_SHARE = 0.06
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


def task(scenes: Scenes, index: int, rng: np.random.Generator, depth: bool) -> list[list[Exchange]]:
    """Path (and depth), next action and progress of the scene's own task."""
    goal, a = scenes.goal(index), scenes.arrays
    done = MOMENTS[a["moment"][index]] == "done"
    words = f"{say(goal, rng)}."
    words = words[:1].upper() + words[1:]
    step = int(rng.integers(goal.steps))
    past = [goal.sentence(k) for k in range(step)]
    talks = [_progress(goal, words, done, step, rng)]
    if not done:
        talks.append([Exchange(next_action_prompt(words, past), goal.sentence(step), "words")])
    if step < steps_of(scenes, index) and np.isfinite(a["path_uv"][index, step]).all():
        talks.append(_path(scenes, index, goal, step, rng, depth))
    return talks


def _progress(goal: Goal, words: str, done: bool, step: int, rng: np.random.Generator) -> list[Exchange]:
    """As the planner asks: what was executed for each action so far (:mod:`stvla_ros.planning.progress`)."""
    touched = {"push": ("touch",), "place": ("close", "open"), "stack": ("close", "open")}[goal.action]
    lines = [described(goal.sentence(k), 2, touched) for k in range(step)]
    finished = done
    if goal.action == "push":
        finished = step == goal.steps - 1 and rng.random() < 0.4
        happened = touched if finished else ()
    else:
        happened = touched if done else ("close",) if rng.random() < 0.3 else ()
    if finished or step or happened or rng.random() < 0.5:
        lines.append(described(goal.sentence(step), 2 if happened else int(rng.integers(2)), happened))
    return [Exchange(progress_prompt(words, lines), write_progress(step + 1, goal.steps, finished), "words")]


def _path(scenes: Scenes, index: int, goal: Goal, step: int, rng: np.random.Generator, depth: bool) -> list[Exchange]:
    """The path of one step, asked in its own sentence or in other words; then its depth."""
    single = Goal(goal.action, goal.names if goal.action != "push" else (goal.names[step],))
    asked = goal.sentence(step) if rng.random() < 0.5 else say(single, rng)
    a = scenes.arrays
    ends = (step, step) if goal.action == "push" else (0, 1)
    talk = [Exchange(trace_prompt(asked), write_points(a["path_uv"][index, step]), "points", ends=ends)]
    if depth:
        question = depth_prompt(float(a["start_depth_m"][index, step]))
        talk.append(Exchange(question, write_offsets(a["offset_m"][index, step]), "offsets", with_depth=True))
    return talk
