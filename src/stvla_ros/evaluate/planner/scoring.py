"""The figures of one answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stvla_ros.evaluate.planner.answers import any_points, chosen, loosely_right
from stvla_ros.evaluate.planner.metrics import depth_errors, distance, path_errors, rouge_l, token_f1
from stvla_ros.evaluate.planner.question import Choice, Depths, Order, Path2d, Region, Sentence, Steps, Truth
from stvla_ros.planning.coordinates import Coordinates
from stvla_ros.planning.instruction import Task, UnclearError, parse
from stvla_ros.planning.parse import is_unknown, parse_action, parse_offsets, parse_points, parse_progress
from stvla_ros.types import F64


@dataclass(frozen=True)
class Judge:
    """Scores answers.

    Attributes:
        convention: What the numbers of the model's points mean: ``norm1000``, ``norm1`` or ``pixel``.
        spot_radius: A point counts as a success within this distance (thousandths of the image). The available text of
            the paper lacks its value.
        depth_ratio: See :func:`stvla_ros.evaluate.planner.metrics.depth_errors`.
        similar: BERTScore or the like; None: words only.
        strict_paths: A path must have exactly 8 points, as our protocol wants; otherwise two or more, as in public
            evaluators.
    """

    convention: str = "norm1000"
    spot_radius: float = 30.0
    depth_ratio: float = 0.05
    similar: Callable[[str, str], float] | None = None
    strict_paths: bool = False

    def figures(self, truth: Truth, reply: str, size_px: tuple[int, int]) -> Mapping[str, float]:
        """Figures of an answer.

        Args:
            truth: The correct answer.
            reply: The model's words.
            size_px: Width and height of the image that it saw.

        Raises:
            StageError: REPLY_UNPARSABLE; :meth:`worst` has the figures of such an answer.
        """
        coordinates = Coordinates(self.convention, size_px)
        if isinstance(truth, Region):
            return self._points(truth, any_points(reply, coordinates), size_px)
        if isinstance(truth, Path2d):
            exact = self.strict_paths
            uv = parse_points(reply, coordinates=coordinates) if exact else any_points(reply, coordinates, min_points=2)
            return dict(zip(("rmse", "mae"), path_errors(uv, truth.uv(size_px))))
        if isinstance(truth, Depths):
            mad, share = depth_errors(parse_offsets(reply), truth.offset_m, truth.start_m, self.depth_ratio)
            return {"mad_cm": mad} | ({} if share is None else {"depth_accuracy": share})
        if isinstance(truth, Choice):
            return _choice(truth, reply)
        if isinstance(truth, Sentence):
            return self._words(truth.text, parse_action(reply))
        if isinstance(truth, Order):
            return _order(truth, "" if is_unknown(reply) else parse_action(reply))
        return _steps(truth, reply)

    def refused(self, truth: Truth) -> Mapping[str, float] | None:
        """Figures of a refusal (GOAL_NOT_GROUNDED); None: it counts as an answer that cannot be parsed."""
        return _order(truth, "") if isinstance(truth, Order) else None

    def _points(self, truth: Region, uv: F64, size_px: tuple[int, int]) -> Mapping[str, float]:
        found: dict[str, float] = {}
        inside = truth.values(uv, size_px)
        if inside is not None:
            hits = (inside > 0.5).sum()
            found |= {"hit_rate": hits / len(uv), "hits": hits, "points": len(uv), "any_hits": (inside > 0).sum()}
            found |= {"soft_hit_rate": float(inside.mean())}
        if truth.spot is not None:
            away = distance(uv, np.array(truth.spot))
            found |= {"distance": away, "success_rate": float(away <= self.spot_radius)}
        return {name: float(value) for name, value in found.items()}

    def _words(self, text: str, said: str) -> Mapping[str, float]:
        found = {"token_f1": token_f1(said, text), "rouge_l": rouge_l(said, text)}
        return found | ({"bert_score": self.similar(said, text)} if self.similar else {})

    def worst(self, truth: Truth) -> Mapping[str, float]:
        """Rates of an answer that cannot be parsed; errors (distances) have no worst value and are left out."""
        names: dict[str, bool] = {}
        if isinstance(truth, Region):
            inside = truth.box is not None or truth.mask is not None
            names = {"hit_rate": inside, "soft_hit_rate": inside, "success_rate": truth.spot is not None}
        elif isinstance(truth, Depths):
            names = {"depth_accuracy": truth.start_m is not None}
        elif isinstance(truth, Choice):
            names = {"accuracy": True, "answered": True, "loose_accuracy": True}
        elif isinstance(truth, Sentence):
            names = {"token_f1": True, "rouge_l": True, "bert_score": self.similar is not None}
        elif isinstance(truth, Order):
            names = {"accuracy": True, "wrong_rate": True}
        elif isinstance(truth, Steps):
            names = {"step_accuracy": True, "status_accuracy": truth.finished is not None}
        return {name: 0.0 for name, there in names.items() if there}


def _choice(truth: Choice, reply: str) -> Mapping[str, float]:
    loosely = loosely_right(reply, truth.right, truth.options, truth.lettered)
    mine = chosen(reply, truth.options, truth.lettered)
    return {
        "accuracy": float(mine == truth.right),
        "answered": float(mine is not None),
        "loose_accuracy": float(loosely),
    }


def _order(truth: Order, said: str) -> Mapping[str, float]:
    """Right: the wanted action in any words, or a wanted refusal. Wrong: any other action."""
    right = _task(said) == _task(truth.action)
    return {"accuracy": float(right), "wrong_rate": float(bool(said) and not right)}


def _task(action: str) -> Task | str:
    try:
        return parse(action)
    except UnclearError:
        return action.strip().lower()


def _steps(truth: Steps, reply: str) -> Mapping[str, float]:
    progress = parse_progress(reply)
    found = {"step_accuracy": float(progress.step == truth.step), "step_mae": float(abs(progress.step - truth.step))}
    if truth.finished is not None:
        found["status_accuracy"] = float(progress.finished == truth.finished)
    return found
