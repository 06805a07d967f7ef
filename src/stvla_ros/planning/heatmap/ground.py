"""Grounding with the heatmap network: where in an image the named objects are, and when it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch

from stvla_ros.planning.heatmap.network import CELLS, NO_COLOUR, TextQuery, elsewhere, local_mean, positions
from stvla_ros.planning.heatmap.weights_file import UNKNOWN, Grounder, load, padded
from stvla_ros.planning.heatmap.words import ACTIONS, COLOURED, KINDS, MAX_WORDS, PALETTE, Goal, Name, named, split
from stvla_ros.planning.instruction import UnclearError, parse
from stvla_ros.planning.table_view import refused
from stvla_ros.types import F64, U8

WEIGHTS = Path(__file__).with_name("weights.safetensors")
IMAGE_PX = 256
NAMES = tuple(Name(kind, colour) for kind in KINDS for colour in (PALETTE if kind in COLOURED else ("",)))
"""All objects that can be pointed at."""

AMBIGUOUS = 0.2
"""A name is ambiguous when a second maximum has this share of the heatmap. With one such object it was at most 0.09
(383 objects in 75 scenes), with two at least 0.28 (40 scenes)."""

MORE_LIKELY = 0.1
"""An object gets another name that points to it with this much more confidence."""


@dataclass(frozen=True, eq=False)
class Found:
    """A step of a goal on an image.

    Attributes:
        uv: (2, 2) places of its start and end, 0..1000.
        confidence: (2,) share of the heatmap around them.
        words_confidence: Lowest probability among the interpretations of the words.
        second: (2,) share of the heatmap around its second maximum.
    """

    uv: F64
    confidence: F64
    words_confidence: float
    second: F64


def small(rgb: U8) -> torch.Tensor:
    """(1, 3, 256, 256) values 0..1 of an (H, W, 3) image, stretched to a square."""
    if rgb.shape[:2] != (IMAGE_PX, IMAGE_PX):
        mode = cv2.INTER_AREA if min(rgb.shape[:2]) > IMAGE_PX else cv2.INTER_LINEAR
        rgb = np.asarray(cv2.resize(rgb, (IMAGE_PX, IMAGE_PX), interpolation=mode), np.uint8)
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255


class Finder:
    """Grounds texts with a network: text to goal, goal and image to places. Deterministic.

    Args:
        grounder: Network and words.
        min_confidence: Answers below are refused, 0..1.
    """

    def __init__(self, grounder: Grounder, min_confidence: float) -> None:
        self._grounder, self._min_confidence = grounder, min_confidence
        self._understood: set[Goal] = set()

    @classmethod
    def of_file(cls, path: Path, min_confidence: float) -> Finder:
        """Raises ConfigError for a missing or damaged file."""
        return cls(load(path), min_confidence)

    def goal(self, text: str, rgb: U8 | None = None) -> Goal:
        """The task in an operator's words, or the object that they name.

        Rules parse the words (:mod:`stvla_ros.planning.instruction`). The network then gets one plain sentence per step
        and must interpret it correctly.

        Args:
            text: The words.
            rgb: (H, W, 3) image: only objects visible in it are suggested for a mistyped name.

        Raises:
            StageError: GOAL_NOT_GROUNDED: the words name no task, or the network does not understand the plain
                sentence.
        """
        name = named(text)
        try:
            goal = Goal("point", (name,)) if name else Goal.of(parse(text))
        except UnclearError as error:
            there = [name for name in error.things if rgb is not None and self.sees(rgb, name)]
            raise refused(f"Not understood: {error.message(there)}") from error
        for asked in goal.questions:
            if asked not in self._understood and self.meaning(asked.sentence(0)) != asked:
                raise refused(f"The weights do not understand '{asked.sentence(0)}': train them for longer.")
            self._understood.add(asked)
        return goal

    def sees(self, rgb: U8, name: str) -> bool:
        """An object ("red block") is in an (H, W, 3) image."""
        found = self.find(self.see(rgb), Goal("point", (Name.of(name),)).sentence(0))
        return bool(found.confidence[0] >= self._min_confidence)

    def meaning(self, text: str) -> Goal:
        """The network's interpretation of words like those of its training.

        Raises:
            StageError: GOAL_NOT_GROUNDED for an unknown word, a text that is too long, or one without a clear meaning.
        """
        tokens = self._tokens(text)
        (action, names, steps), sure = self._meaning(tokens, 0)
        if action == "push":
            rest = [self._meaning(tokens, step) for step in range(1, steps)]
            goal = Goal(action, (names[0], *(meaning[1][0] for meaning, _ in rest)))
            sure = min([sure, *(certain for _, certain in rest)])
        else:
            goal = Goal(action, names[:1] if action == "point" else names)
        self._check(goal, text, sure)
        return goal

    @torch.inference_mode()
    def see(self, rgb: U8) -> torch.Tensor:
        """Features of an (H, W, 3) image, for any number of texts."""
        return self._grounder.network.features(small(rgb))

    @torch.inference_mode()
    def find(self, seen: torch.Tensor, text: str, step: int = 0) -> Found:
        """Places of a step's start and end, whatever their confidence.

        Args:
            seen: Result of :meth:`see`.
            text: The words of the whole goal.
            step: Step of the goal, from 0.

        Raises:
            StageError: GOAL_NOT_GROUNDED for an unknown word.
        """
        asked = self._ask(self._tokens(text), step)
        heat = self._grounder.network.heat(seen, asked, torch.zeros(1, dtype=torch.long))
        uv, sure = positions(heat[0])
        return Found(
            uv.double().numpy(), sure.double().numpy(), _min_confidence(asked), elsewhere(heat[0]).double().numpy()
        )

    def locate(
        self,
        seen: torch.Tensor,
        text: str,
        goal: Goal,
        step: int = 0,
        needed: tuple[bool, bool] = (True, True),
        known: Callable[[Name, F64], bool] = lambda name, uv: False,
    ) -> F64:
        """(2, 2) places of a step's start and end, 0..1000.

        Args:
            seen: Result of :meth:`see`.
            text: The words of the whole goal.
            goal: What they mean.
            step: Step of the goal, from 0.
            needed: Which of the two must be found.
            known: Whether the object at a (2,) place was already told apart from others: it, or another one, may look
                different now.

        Raises:
            StageError: GOAL_NOT_GROUNDED when a needed object is not clearly in the image, is there twice, or looks
                more like another one.
        """
        found = self.find(seen, text, step)
        for name, uv, sure, second, must in zip(
            goal.ends(step), found.uv, found.confidence, found.second, needed, strict=True
        ):
            if not must:
                continue
            settled = known(name, uv)
            if second > AMBIGUOUS and not settled:
                raise refused(f"I see two objects that could be the {name}: remove one, or ask for another object.")
            if sure < self._min_confidence:
                raise refused(
                    f"I do not see the {name} clearly (confidence {sure:.2f}, wanted {self._min_confidence:.2f}): move the camera "
                    "or the objects, or ask for another one."
                )
            if not settled and (likely := self._likely(seen, uv, name)) != name:
                raise refused(
                    f"I do not see the {name}: the object most like it looks like a {likely}. Ask for that, or move it."
                )
        return found.uv

    @cached_property
    def _pointing(self) -> tuple[list[Name], TextQuery]:
        """All names whose words are known, and the network's queries for pointing to each; independent of the image."""
        names = [name for name in NAMES if KINDS.index(name.kind) < self._grounder.network.config.kinds]
        texts = {name: self._grounder.numbers(Goal("point", (name,)).sentence(0)) for name in names}
        known = {name: text for name, text in texts.items() if UNKNOWN not in text}
        asked = self._grounder.network.words(padded([*known.values()]), torch.zeros(len(known), dtype=torch.long))
        return [*known], asked

    @torch.inference_mode()
    def _likely(self, seen: torch.Tensor, uv: F64, name: Name) -> Name:
        """The name itself, or another that points to the same place with clearly more confidence."""
        names, asked = self._pointing
        heat = self._grounder.network.heat(seen, asked, torch.zeros(len(names), dtype=torch.long))
        u, v = np.clip(uv * CELLS / 1000, 0, CELLS - 1).astype(int)
        _, sure = local_mean(heat[:, 0].float().softmax(-1)[:, :-1], torch.full((len(names),), int(v * CELLS + u)))
        best = int(sure.argmax())
        return names[best] if sure[best] > sure[names.index(name)] + MORE_LIKELY else name

    def _tokens(self, text: str) -> torch.Tensor:
        numbers = self._grounder.numbers(text)
        unknown = [w for w, n in zip(split(text), numbers, strict=True) if n == UNKNOWN]
        if unknown:
            raise refused(
                f"The heatmap planner does not know the word '{unknown[0][:40]}' (it knows {len(self._grounder.words)}): "
                "say it as in 'put the red block in the plate', or use another planner."
            )
        if not 0 < len(numbers) <= MAX_WORDS:
            raise refused(f"Wanted 1 to {MAX_WORDS} words, got {len(numbers)}.")
        return padded([numbers])

    @torch.inference_mode()
    def _ask(self, tokens: torch.Tensor, step: int) -> TextQuery:
        asked: TextQuery = self._grounder.network.words(tokens, torch.tensor([step]))
        return asked

    def _meaning(self, tokens: torch.Tensor, step: int) -> tuple[tuple[str, tuple[Name, Name], int], float]:
        asked = self._ask(tokens, step)
        kinds = [KINDS[int(i)] for i in asked.kind[0].argmax(-1)]
        colours = [int(i) for i in asked.colour[0].argmax(-1)]
        names = [Name(k, PALETTE[c] if c != NO_COLOUR else "") for k, c in zip(kinds, colours, strict=True)]
        action = ACTIONS[int(asked.action[0].argmax())]
        return (action, (names[0], names[1]), int(asked.steps[0].argmax()) + 1), _min_confidence(asked)

    def _check(self, goal: Goal, text: str, sure: float) -> None:
        said = set(split(text))
        colours_said = {n.colour for n in goal.names if n.colour} <= said and all(
            c in {n.colour for n in goal.names} for c in PALETTE if c in said
        )
        whole = all(bool(n.colour) == (n.kind in COLOURED) for n in goal.names)
        if sure < self._min_confidence or not colours_said or not whole:
            raise refused(
                f"'{text.strip()[:80]}' is not clear to the heatmap planner: say it as in 'put the red block in the plate', "
                "'stack the red block on the blue block', 'push the red button, then push the blue button'."
            )


def _min_confidence(asked: TextQuery) -> float:
    parts = (asked.action, asked.steps, asked.kind, asked.colour)
    return min(float(p.float().softmax(-1).amax(-1).min()) for p in parts)
