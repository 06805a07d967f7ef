"""Does a planner point at the objects of a known image? If not: what do its errors have in common?

Some servers shift or scale the coordinates of vision-language models, and models differ in what their numbers mean. The
image is not square, so that pixels, fractions and swapped axes can be distinguished.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.evaluate.diagnosis import Diagnosis, Reading, conventions, diagnose
from stvla_ros.geometry.cameras import px_to_uv, uv_to_px
from stvla_ros.interfaces import Planner
from stvla_ros.planning.answer import answer_of, groups
from stvla_ros.planning.chat import UNANSWERED, ChatModel, Turn
from stvla_ros.planning.parse import MAX_BYTES
from stvla_ros.planning.prompt import explained, pointing_prompt
from stvla_ros.sim.cell import Cell
from stvla_ros.types import F64, Bool, PlanRequest, RgbdFrame

SEED = 7
DISTRACTORS = 5
MIN_PX = 60
"""The model is not asked for objects with fewer visible pixels."""

MAX_TOKENS = 256


@runtime_checkable
class HasChatModel(Protocol):
    """A planner whose model can be asked to point."""

    @property
    def model(self) -> ChatModel: ...


@dataclass(frozen=True, eq=False)
class Target:
    """An object in the image.

    Attributes:
        name: In plain English.
        uv: (2,) centre of its visible pixels, 0..1000.
        mask: (H, W) its pixels.
    """

    name: str
    uv: F64
    mask: Bool


@dataclass(frozen=True, eq=False)
class Answer:
    """The answer to one question.

    Attributes:
        target: The object asked for.
        numbers: (2,) the planner's unconverted numbers; None without a usable answer.
        uv: (2,) the same in 0..1000 by the planner's setting ``coordinates``; not clipped to the image.
        hit: They lie on the object.
        said: The reply, or why there is none.
    """

    target: Target
    numbers: F64 | None
    uv: F64 | None
    hit: bool
    said: str


@dataclass(frozen=True, eq=False)
class Grounding:
    """All answers and what they mean.

    Attributes:
        frame: The image.
        convention: How the planner's numbers were interpreted.
        answers: One per question.
        path_uv: (8, 2) the path, which is asked for last; None: there is none, and ``path_said`` says why.
        path_said: What the path's two ends hit.
        path_hit: It begins on the block and ends on the plate.
        diagnosis: Good, or how the answers are off.
    """

    frame: RgbdFrame
    convention: str
    answers: tuple[Answer, ...]
    path_uv: F64 | None
    path_said: str
    path_hit: bool
    diagnosis: Diagnosis


def check_grounding(planner: Planner, cell: Cell, convention: str = "norm1000", seed: int = SEED) -> Grounding:
    """Ask for everything in a seeded scene, then for one path.

    A planner with a model is asked to point; of any other planner the starts of its paths count.

    Args:
        planner: Under test.
        cell: Lays the scene and renders it.
        convention: The planner's setting ``coordinates``.
        seed: Of the scene.

    Raises:
        StageError: One of UNANSWERED: there is nothing to judge.
    """
    words = cell.reset("pick_place", seed, DISTRACTORS)
    frame, targets = cell.render(ideal=True), _targets(cell)
    ask = _pointer(planner, cell, frame, convention)
    size_px = (frame.camera.width_px, frame.camera.height_px)
    read = conventions(size_px)[convention]
    answers = tuple(_ask(ask, target, read, frame) for target in targets)
    diagnosis = diagnose(
        np.array([a.target.uv for a in answers if a.numbers is not None]).reshape(-1, 2),
        np.array([a.numbers for a in answers if a.numbers is not None]).reshape(-1, 2),
        [a.hit for a in answers],
        convention,
        size_px,
    )
    return Grounding(frame, convention, answers, *_path(planner, cell, frame, words, targets), diagnosis)


def _targets(cell: Cell) -> tuple[Target, ...]:
    truth, found = cell.truth(), []
    for i, name in enumerate(truth.names, 1):
        mask = truth.labels == i
        if mask.sum() >= MIN_PX:
            v, u = np.nonzero(mask)
            uv = px_to_uv(np.array([u.mean(), v.mean()]), cell.camera)
            found.append(Target(name.replace("_", " "), uv, mask))
    return tuple(found)


def _pointer(planner: Planner, cell: Cell, frame: RgbdFrame, convention: str) -> Callable[[Target], tuple[F64, str]]:
    """How this planner is asked for a place: gives its unconverted numbers and its words."""

    def by_model(target: Target) -> tuple[F64, str]:
        assert isinstance(planner, HasChatModel)
        question = explained(pointing_prompt(target.name), "points", convention)
        said = planner.model.reply((Turn("user", question, (frame.rgb,)),), MAX_TOKENS)
        return _numbers(said), said

    def by_plan(target: Target) -> tuple[F64, str]:
        plate = target.name == "plate"
        other = next(name for name in cell.truth().names if name.endswith("_block"))
        moved = other.replace("_", " ") if plate else target.name
        request = PlanRequest(f"Put the {moved} in the plate.", frame, cell.state())
        uv = planner.plan(request).uv[-1 if plate else 0]
        return uv, f"the path {'ends' if plate else 'begins'} there"

    return by_model if isinstance(planner, HasChatModel) else by_plan


def _numbers(said: str) -> F64:
    """The last pair of numbers of a reply, whatever they mean. Raises REPLY_UNPARSABLE."""
    pairs = [g.numbers for g in groups(answer_of(said[:MAX_BYTES])) if g.numbers is not None and len(g.numbers) == 2]
    if not pairs:
        raise StageError(OutcomeCode.REPLY_UNPARSABLE, f"no point in the reply {said[:80]!r}")
    return np.array(pairs[-1], dtype=np.float64)


def _ask(ask: Callable[[Target], tuple[F64, str]], target: Target, read: Reading, frame: RgbdFrame) -> Answer:
    try:
        numbers, said = ask(target)
    except StageError as error:
        if error.code in UNANSWERED:
            raise
        return Answer(target, None, None, False, f"{error.code.name}: {error.sentence}")
    uv = read(numbers)
    return Answer(target, numbers, uv, _inside(target.mask, uv_to_px(uv, frame.camera)), said)


def _inside(mask: Bool, px: F64) -> bool:
    column, row = np.rint(px).astype(int)
    h, w = mask.shape
    return bool(0 <= column < w and 0 <= row < h and mask[row, column])


def _path(
    planner: Planner, cell: Cell, frame: RgbdFrame, words: str, targets: tuple[Target, ...]
) -> tuple[F64 | None, str, bool]:
    masks = {target.name: target.mask for target in targets}
    block = " ".join(words.split()[2:4])
    try:
        uv = planner.plan(PlanRequest(words, frame, cell.state())).uv
    except StageError as error:
        if error.code in UNANSWERED:
            raise
        return None, f"no path: {error.code.name}: {error.sentence}", False
    px = uv_to_px(uv, frame.camera)
    begins, ends = _inside(masks[block], px[0]), _inside(masks["plate"], px[-1])
    said = f"begins {'on' if begins else 'beside'} the {block}, ends {'over' if ends else 'beside'} the plate"
    return uv, said, begins and ends
