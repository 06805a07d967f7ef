"""Grounding with the heatmap network: where in an image the named objects are, and when it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch

from stvla_ros.errors import StageError
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

AMBIGUOUS_SHAPES = 0.25
"""Of objects of one kind, a second one is meant as well if it has this share of what the heatmap has on all of them."""

SHAPED = 0.4
"""Part of the wanted confidence that is enough for an object whose kind its shape shows already."""

MORE_LIKELY = 0.1
"""An object gets another name that points to it with this much more confidence."""


@dataclass(frozen=True, eq=False)
class Found:
    """A step of a goal on an image.

    Attributes:
        uv: (2, 2) places of its start and end, 0..1000.
        confidence: (2,) share of the heatmap around them.
        words_confidence: Lowest probability among the interpretations of the words.
        second_uv: (2, 2) places of the second maxima.
        second: (2,) share of the heatmap around them.
    """

    uv: F64
    confidence: F64
    words_confidence: float
    second_uv: F64
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
        min_confidence: Answers below are refused, 0..1; 0: nothing is refused but words that name no task.
    """

    def __init__(self, grounder: Grounder, min_confidence: float) -> None:
        self._grounder, self._min_confidence = grounder, min_confidence
        self._understood: set[Name] = set()

    @classmethod
    def of_file(cls, path: Path, min_confidence: float) -> Finder:
        """Raises ConfigError for a missing or damaged file."""
        return cls(load(path), min_confidence)

    def goal(self, text: str, rgb: U8 | None = None) -> Goal:
        """The task in an operator's words, or the object that they name.

        Rules parse the words (:mod:`stvla_ros.planning.instruction`). The network then gets one plain sentence per thing
        ("point to the red block") and must interpret it correctly.

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
        for name in goal.asked:
            if name not in self._understood:
                self._check_understood(Goal("point", (name,)))
            self._understood.add(name)
        return goal

    def _check_understood(self, asked: Goal) -> None:
        text = asked.sentence(0)
        if not self._min_confidence:
            self._tokens(text)  # it has no unknown word
        elif self.meaning(text) != asked:
            raise refused(f"The weights do not understand '{text}': train them for longer.")

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
        uv, sure, second_uv, second = (t.double().numpy() for t in (*positions(heat[0]), *elsewhere(heat[0])))
        return Found(uv, sure, _min_confidence(asked), second_uv, second)

    def locate(self, seen: torch.Tensor, name: Name, known: Callable[[F64], bool] = lambda uv: False) -> F64:
        """(2,) place of an object, 0..1000.

        Args:
            seen: Result of :meth:`see`.
            name: The object.
            known: Whether what is at a (2,) place was already told apart from others as this object: it, or another one,
                may look different now.

        Raises:
            StageError: GOAL_NOT_GROUNDED when it is not clearly in the image, is there twice, or looks more like another
                one.
        """
        found = self.find(seen, Goal("point", (name,)).sentence(0))
        uv: F64 = found.uv[0]
        if not self._min_confidence:
            return uv
        settled = known(uv)
        if not settled and found.second[0] > AMBIGUOUS and self._likely(seen, found.second_uv[0], name) == name:
            raise _two(name)
        if not settled:
            self._check_likely(name, self._likely(seen, uv, name))
        self._check_seen(name, found.confidence[0], self._min_confidence)
        return uv

    def choose(
        self, seen: torch.Tensor, name: Name, places_uv: F64, known: Callable[[F64], bool] = lambda uv: False
    ) -> int:
        """Which of several objects of a kind bears a name. That they are of this kind is known by their shapes, so only
        other names of the kind compete.

        Args:
            seen: Result of :meth:`see`.
            name: The object.
            places_uv: (N, 2) where the objects are, 0..1000.
            known: As of :meth:`locate`.

        Returns:
            Index of a place.

        Raises:
            StageError: GOAL_NOT_GROUNDED when none bears the name clearly, two do, or it looks more like another one.
        """
        names, sure = self._confidence(seen, places_uv)
        rivals = [i for i, rival in enumerate(names) if rival.kind == name.kind]
        own = sure[names.index(name)]
        best = int(own.argmax())
        if not self._min_confidence:
            return best
        settled = known(places_uv[best])
        if not settled and len(own) > 1 and np.sort(own)[-2] > AMBIGUOUS_SHAPES * own.sum():
            raise _two(name)
        if not settled:
            self._check_likely(name, _preferred(name, [names[i] for i in rivals], sure[rivals, best]))
        self._check_seen(name, own[best], SHAPED * self._min_confidence)
        return best

    @cached_property
    def _pointing(self) -> tuple[list[Name], TextQuery]:
        """All names whose words are known, and the network's queries for pointing to each; independent of the image."""
        names = [name for name in NAMES if KINDS.index(name.kind) < self._grounder.network.config.kinds]
        texts = {name: self._grounder.numbers(Goal("point", (name,)).sentence(0)) for name in names}
        known = {name: text for name, text in texts.items() if UNKNOWN not in text}
        asked = self._grounder.network.words(padded([*known.values()]), torch.zeros(len(known), dtype=torch.long))
        return [*known], asked

    @torch.inference_mode()
    def _confidence(self, seen: torch.Tensor, places_uv: F64) -> tuple[list[Name], F64]:
        """The K names that are known, and the (K, N) shares of their heatmaps around (N, 2) places."""
        names, asked = self._pointing
        heat = self._grounder.network.heat(seen, asked, torch.zeros(len(names), dtype=torch.long))[:, 0]
        u, v = np.clip(places_uv * CELLS / 1000, 0, CELLS - 1).astype(int).T
        probability = heat.float().softmax(-1)[:, None, :-1].expand(-1, len(u), -1)
        _, sure = local_mean(probability, torch.from_numpy(v * CELLS + u).expand(len(names), -1))
        return names, sure.double().numpy()

    def _likely(self, seen: torch.Tensor, uv: F64, name: Name) -> Name:
        """The name itself, or another that points to the same place with clearly more confidence."""
        names, sure = self._confidence(seen, uv[None])
        return _preferred(name, names, sure[:, 0])

    def _check_seen(self, name: Name, sure: float, wanted: float) -> None:
        if sure < wanted:
            raise refused(
                f"I do not see the {name} clearly (confidence {sure:.2f}, wanted {wanted:.2f}): move the camera "
                "or the objects, or ask for another one."
            )

    def _check_likely(self, name: Name, likely: Name) -> None:
        if likely != name:
            raise refused(
                f"I do not see the {name}: the object most like it looks like a {likely}. Ask for that, or move it."
            )

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


def _two(name: Name) -> StageError:
    return refused(f"I see two objects that could be the {name}: remove one, or ask for another object.")


def _preferred(name: Name, names: list[Name], sure: F64) -> Name:
    """The name itself, or another one of (K,) names with clearly more confidence."""
    best = int(sure.argmax())
    return names[best] if sure[best] > sure[names.index(name)] + MORE_LIKELY else name


def _min_confidence(asked: TextQuery) -> float:
    parts = (asked.action, asked.steps, asked.kind, asked.colour)
    return min(float(p.float().softmax(-1).amax(-1).min()) for p in parts)
