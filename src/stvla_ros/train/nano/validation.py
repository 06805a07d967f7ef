"""Figures of a nano checkpoint on held-out rendered scenes, asked through the backend that serves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from stvla_ros.errors import StageError
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.conversation import NO_ANSWER
from stvla_ros.planning.parse import parse_offsets, parse_points, parse_progress
from stvla_ros.planning.qwen3_vl.chat import LocalModelConfig, Qwen3VlChat
from stvla_ros.train.scenes.dialogues import Exchange, pointing_conversations, task_conversations
from stvla_ros.train.scenes.shards import Scenes
from stvla_ros.types import U8

MAX_TOKENS = 80

T = TypeVar("T")


def validate(checkpoint: Path, scenes: Scenes, paths: bool, max_scenes: int = 40) -> dict[str, float]:
    """Figures on the first scenes; the questions are the same every time.

    Args:
        checkpoint: Folder of the model.
        scenes: Held-out scenes.
        paths: Ask for paths, depths and progress too.
        max_scenes: The first so many are asked about.

    Returns:
        ``point_median`` [1/1000], ``point_15``, ``point_30``, ``malformed`` (share of answers); with ``paths`` also
        ``path_rmse_median``, ``path_rmse_mean`` [1/1000], ``depth_mad_cm``,
        ``depth_median_cm`` (over paths, of each path's mean), ``step_accuracy``, ``action_accuracy`` (shares of right
        answers).
    """
    model = Qwen3VlChat(LocalModelConfig(model=str(checkpoint), device="cpu"), "validation")
    asked = _Asked(model)
    for index in range(min(max_scenes, len(scenes))):
        rng, rgb = np.random.default_rng([7, index]), scenes.rgb(index)
        for conversation in pointing_conversations(scenes, index, rng)[:2]:
            asked.point(rgb, conversation[0])
        for conversation in task_conversations(scenes, index, rng, depth=True) if paths else []:
            asked.task(rgb, scenes, index, conversation)
    return dict(asked.figures(paths))


class _Asked:
    """Asks questions and collects errors."""

    def __init__(self, model: Qwen3VlChat) -> None:
        self._model = model
        self.points: list[float] = []
        self.paths: list[float] = []
        self.depths: list[float] = []
        self.steps: list[bool] = []
        self.actions: list[bool] = []
        self.answers = self.malformed = 0

    def point(self, rgb: U8, exchange: Exchange) -> None:
        """Ask a pointing question."""
        if exchange.kind != "points":
            return
        reply = self._reply([Turn("user", exchange.question, (rgb,))])
        found = _read(lambda: parse_points(reply, 1))
        self._count(found is not None)
        if found is not None:
            self.points.append(float(np.hypot(*(found - parse_points(exchange.answer, 1))[0])))

    def task(self, rgb: U8, scenes: Scenes, index: int, conversation: list[Exchange]) -> None:
        """Lead a conversation with the model's own answers until one is unreadable; questions name the true action."""
        turns: list[Turn] = []
        for exchange in conversation:
            images = (rgb,) if not turns else (scenes.depth_image(index),) if exchange.with_depth else ()
            turns.append(Turn("user", exchange.question, images))
            reply = self._reply(turns)
            turns.append(Turn("assistant", reply or NO_ANSWER))
            if not self._scored(exchange, reply):
                return

    def _scored(self, exchange: Exchange, reply: str) -> bool:
        """Score an answer. False ends the conversation."""
        if exchange.kind == "points":
            path = _read(lambda: parse_points(reply))
            self._count(path is not None)
            if path is not None:
                self.paths.append(float(np.sqrt(((path - parse_points(exchange.answer)) ** 2).sum(-1).mean())))
            return path is not None
        if exchange.kind == "offsets":
            depth = _read(lambda: parse_offsets(reply))
            self._count(depth is not None)
            self.depths += [] if depth is None else [float(np.abs(depth - parse_offsets(exchange.answer)).mean())]
            return depth is not None
        if exchange.answer.startswith("step"):
            self.steps.append(_read(lambda: parse_progress(reply)) == parse_progress(exchange.answer))
            return self.steps[-1]
        self.actions.append(reply == exchange.answer)
        return self.actions[-1]

    def figures(self, paths: bool) -> Iterator[tuple[str, float]]:
        """See :func:`validate`."""
        far = np.array(self.points or [np.nan])
        yield "point_median", float(np.median(far))
        yield "point_15", float((far < 15).mean())
        yield "point_30", float((far < 30).mean())
        yield "malformed", self.malformed / max(self.answers, 1)
        if paths:
            rmse = np.array(self.paths or [np.nan])
            yield "path_rmse_median", float(np.median(rmse))
            yield "path_rmse_mean", float(np.mean(rmse))
            away = 100 * np.array(self.depths or [np.nan])
            yield "depth_mad_cm", float(np.mean(away))
            yield "depth_median_cm", float(np.median(away))
            yield "step_accuracy", float(np.mean(self.steps)) if self.steps else float("nan")
            yield "action_accuracy", float(np.mean(self.actions)) if self.actions else float("nan")

    def _count(self, ok: bool) -> None:
        self.answers += 1
        self.malformed += not ok

    def _reply(self, turns: list[Turn]) -> str:
        try:
            return self._model.reply(turns, MAX_TOKENS)
        except StageError:
            return ""


def _read(parse: Callable[[], T]) -> T | None:
    """The parsed reply; None if it is unreadable."""
    try:
        return parse()
    except StageError:
        return None
