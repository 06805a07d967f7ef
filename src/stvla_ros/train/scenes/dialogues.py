"""Conversations about a rendered scene in the planners' protocol, with true answers, to train the nano model."""

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
from stvla_ros.train.scenes.ground_truth import MIN_VISIBLE_PX, step_ends, tool_path
from stvla_ros.train.scenes.shards import Scenes

POINTS = 4
UNKNOWN_SHARE = 0.06
TOGETHER_SHARE = 0.7
"""Share of scenes whose task is asked about in one conversation instead of one per question."""

NEAR_M = 0.05
"""The tool's point is at most this far behind the visible surface of the object that it holds."""

NONSENSE = "gromble"
"""A word that the tokenizer does not have; all such words are one token."""


@dataclass(frozen=True)
class Exchange:
    """A question and its answer.

    Attributes:
        question: In the protocol's words.
        answer: What the model should write.
        kind: ``points``, ``offsets``, ``words``.
        with_depth: The colourised depth image accompanies the question.
        ends: Indices of the objects at which the answer's path begins and ends; equal for a point, -1: none.
    """

    question: str
    answer: str
    kind: str
    with_depth: bool = False
    ends: tuple[int, int] = (-1, -1)


def pointing_conversations(scenes: Scenes, index: int, rng: np.random.Generator) -> list[list[Exchange]]:
    """Up to :data:`POINTS` conversations of one exchange each."""
    a = scenes.arrays
    shown = [i for i in range(int(a["count"][index])) if a["visible_px"][index, i] >= MIN_VISIBLE_PX]
    chosen = rng.permutation(shown)[:POINTS]
    return [[_point(scenes, index, int(i), rng)] for i in chosen]


def _point(scenes: Scenes, index: int, which: int, rng: np.random.Generator) -> Exchange:
    name = scenes.name(index, which)
    spoken = str(name) if rng.random() < 0.5 else _spoken(Goal("point", (name,)), rng)
    if rng.random() < UNKNOWN_SHARE:
        return Exchange(pointing_prompt(" ".join([NONSENSE, *spoken.split()[1:]])), UNKNOWN_ANSWER, "words")
    answer = write_points(scenes.arrays["uv"][index, which][None])
    return Exchange(pointing_prompt(spoken), answer, "points", ends=(which, which))


def _spoken(goal: Goal, rng: np.random.Generator) -> str:
    """A wording that is just a name."""
    while True:
        text = say(goal, rng)
        if not text.startswith(("point", "where", "find", "locate", "show", "the")):
            return text


def task_conversations(
    scenes: Scenes, index: int, rng: np.random.Generator, depth: bool, together: float = TOGETHER_SHARE
) -> list[list[Exchange]]:
    """Progress, next action, path (and depth) of the scene's own task.

    Args:
        scenes: All scenes.
        index: The scene.
        rng: Chooses words, step and history.
        depth: Ask for the path's depth too.
        together: Probability of one conversation, as :mod:`stvla_ros.planning.dialogue` leads it, instead of one each.
    """
    goal = scenes.goal(index)
    words = f"{say(goal, rng)}."
    words = words[:1].upper() + words[1:]
    step = int(rng.integers(goal.steps))
    progress, lines = _progress(goal, words, scenes.phase(index), step, rng)
    parts = [[progress]]
    if not progress.answer.endswith("yes"):
        past = [goal.sentence(k) for k in range(step)]
        parts.append([Exchange(next_action_prompt(words, past), goal.sentence(step), "words")])
        if path_is_seen(scenes, index, step):
            parts.append(_path(scenes, index, goal, step, rng, depth, lines))
    return [[exchange for part in parts for exchange in part]] if rng.random() < together else parts


def _progress(goal: Goal, words: str, phase: str, step: int, rng: np.random.Generator) -> tuple[Exchange, list[str]]:
    """The planner's question about progress, and the lines of what was executed (:mod:`stvla_ros.planning.task_memory`).

    The lines are for the path's question, which is asked after the next action is known.
    """
    past = [described(goal.sentence(k), 2, _events(goal, k)) for k in range(step)]
    finished, happened = phase == "done", _events(goal, step)
    if goal.action == "push":
        finished = step == goal.steps - 1 and rng.random() < 0.4
    if not finished:
        happened = happened[:1] if phase == "held" or (happened[0] == "close" and rng.random() < 0.1) else ()
    keyposes = 2 if happened else int(rng.integers(2))
    present = [described(goal.sentence(step), keyposes, happened)] if happened or rng.random() < 0.5 else []
    question = progress_prompt(words, past + present)
    if step and not present:
        present = [described(goal.sentence(step), 0, ())]
    return Exchange(question, write_progress(step + 1, goal.steps, finished), "words"), past + present


def _events(goal: Goal, step: int) -> tuple[str, ...]:
    """What the gripper does in a step, as :func:`stvla_ros.planning.task_memory.events` reports it."""
    if goal.action == "push":
        return ("touch",) if step else ("close", "touch")
    return ("close", "open")


def path_is_seen(scenes: Scenes, index: int, step: int) -> bool:
    """Whether the step has a path and both of its ends are visible."""
    a, action = scenes.arrays, scenes.goal(index).action
    first, last = step_ends(action, step)
    held = scenes.phase(index) == "held"
    drawn = bool(np.isfinite(a["path_uv"][index, step]).all())
    # the fingers hide the point of a held block, the middle of its top: its depth shows whether the block is visible
    start_seen = (
        abs(a["offset_m"][index, step, 0]) < NEAR_M if held else a["visible_px"][index, first] >= MIN_VISIBLE_PX
    )
    return drawn and bool(start_seen and a["visible_px"][index, last] >= MIN_VISIBLE_PX)


def _path(
    scenes: Scenes, index: int, goal: Goal, step: int, rng: np.random.Generator, depth: bool, lines: Sequence[str]
) -> list[Exchange]:
    """The path of one step, with or without history, in the step's own sentence or another wording; then its depth."""
    single = Goal(goal.action, goal.names if goal.action != "push" else (goal.names[step],))
    question = trace_prompt(goal.sentence(step) if rng.random() < 0.7 else say(single, rng))
    a = scenes.arrays
    if lines and rng.random() < 0.7:
        tool_uv = uv_in_view(scenes.camera(index), a["tool_m"][index])
        question = f"{question} {remaining_prompt(tool_uv, lines[-1:])}"
    path = write_points(a["path_uv"][index, step])
    conversation = [Exchange(question, path, "points", ends=step_ends(goal.action, step))]
    if depth:
        question = depth_prompt(float(a["start_depth_m"][index, step]))
        conversation.append(Exchange(question, write_offsets(a["offset_m"][index, step]), "offsets", with_depth=True))
    return conversation


def further_paths(
    scenes: Scenes, index: int, rng: np.random.Generator, max_paths: int, colours: Sequence[str] = SEEN
) -> list[list[Exchange]]:
    """True paths of other tasks that are possible in a scene; none while an object is held or the task is done.

    Args:
        scenes: All scenes.
        index: The scene.
        rng: Chooses tasks and words.
        max_paths: At most so many.
        colours: Those that tasks may name (:mod:`stvla_ros.data.splits`).
    """
    a = scenes.arrays
    if scenes.phase(index) != "before":
        return []
    names = [scenes.name(index, i) for i in range(int(a["count"][index]))]
    of: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for i, name in enumerate(names):
        if a["visible_px"][index, i] >= MIN_VISIBLE_PX and (not name.colour or name.colour in colours):
            of[name.kind].append(i)
    tasks = {
        "place": [(i, j) for i in of["block"] for j in of["plate"]],
        "stack": [(i, j) for i in of["block"] for j in of["block"] if i != j],
        "push": [(i, i) for i in of["button"]],
    }
    frame, points = scenes.frame(index), a["point_m"][index].astype(np.float64)
    conversations: list[list[Exchange]] = []
    for action in rng.permutation(
        [action for action, ends in tasks.items() if ends for _ in range(max_paths)]
    ).tolist():
        if len(conversations) == max_paths:
            break
        ends = tasks[action][rng.integers(len(tasks[action]))]
        drawn = draw(tool_path(action, [n.kind for n in names], points, ends, frame.camera), frame)
        if drawn is not None:
            goal = Goal(action, (names[ends[0]],) if action == "push" else (names[ends[0]], names[ends[1]]))
            asked = goal.sentence(0) if rng.random() < 0.5 else say(goal, rng)
            conversations.append([Exchange(trace_prompt(asked), write_points(drawn[0]), "points", ends=ends)])
    return conversations
