"""A planner for any vision-language model: the paper's two stages as one conversation (3.3.1).

Per plan the model is asked for the current step and whether the task is finished, the next action, and the path of that
action on the image. Then it gets the sensor's depth at the start of the path and the colourised depth image, and is
asked for the depth of every waypoint relative to the start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np

from stvla_ros.config import param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import uv_in_view, uv_to_px
from stvla_ros.planning import prompt
from stvla_ros.planning.chat import ChatModel
from stvla_ros.planning.conversation import Conversation
from stvla_ros.planning.coordinates import CONVENTIONS, Coordinates
from stvla_ros.planning.depth_image import colourised_depth
from stvla_ros.planning.parse import (
    ReplyError,
    StepProgress,
    parse_action,
    parse_offsets,
    parse_points,
    parse_progress,
)
from stvla_ros.planning.plausibility import may_stay, path_fault
from stvla_ros.planning.task_memory import TaskMemory, described, events
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import F64, U8, WAYPOINTS, PlanRequest, TracePlan

T = TypeVar("T")


@dataclass(frozen=True)
class DialogueConfig:
    """Settings of the conversation with a model."""

    horizon: str = param(
        "long",
        "long: ask for progress and next action before each path; single: for progress only; off: never finished",
        choices=("long", "single", "off"),
    )
    spatial_first: bool = param(False, "let the model describe the key object first (ST4VLA)")
    remaining_path: bool = param(
        True, "in the middle of a task, tell the model where the tool is and what was executed"
    )
    tell_refusals: bool = param(True, "tell the model why its last path was refused")
    explain_form: bool = param(True, "describe the form of the answers; off for models trained on this protocol")
    constrain: bool = param(True, "constrain answers to a JSON schema if the model supports it")
    coordinates: str = param("norm1000", "coordinate convention of the model's points", choices=CONVENTIONS)
    retries: int = param(2, "times a question is repeated after an unusable answer", ge=0, le=10)
    max_tokens: int = param(512, "limit of each answer", ge=16, le=16384)
    deadline_s: float = param(60.0, "limit for all answers of one plan [s]", ge=0.1, le=3600.0)


class DialoguePlanner:
    """Two stages, one growing conversation per plan, one memory per task. Plans are made one at a time.

    The deadline is checked before and after each answer; the duration of a single answer is limited by the model's own
    setting. A cancel interrupts an answer.
    """

    Config = DialogueConfig

    def __init__(self, model: ChatModel, config: DialogueConfig) -> None:
        self._model, self._config = model, config
        self._memory = TaskMemory()
        self._busy = Lock()

    def plan(self, request: PlanRequest) -> TracePlan:
        """See :class:`stvla_ros.interfaces.Planner`.

        Raises:
            StageError: REPLY_UNPARSABLE after the last retry; GOAL_NOT_GROUNDED when the model answers "unknown", or
                starts its path where the sensor has no depth; SERVER_TIMEOUT past the deadline; the reason of a cancel.
        """
        deadline = time.monotonic() + self._config.deadline_s
        with self._alone():
            self._memory.follow(request)
            talk = Conversation(self._model, request.frame.rgb, self._config.retries, deadline, request.cancel)
            return _Planning(request, self._config, talk, self._memory, self._model.name).plan()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(timeout=self._config.deadline_s):
            raise StageError(
                OutcomeCode.SERVER_TIMEOUT,
                f"{self._model.name} was still working on an older plan after {self._config.deadline_s:g} s: ask again later.",
            )
        try:
            yield
        finally:
            self._busy.release()


@dataclass(frozen=True, eq=False)
class _Planning:
    """One plan."""

    request: PlanRequest
    config: DialogueConfig
    talk: Conversation
    memory: TaskMemory
    model: str

    def plan(self) -> TracePlan:
        task = self.request.instruction
        if self.config.spatial_first:
            self.talk.ask("thoughts", prompt.spatial_prompt(task), str, self.config.max_tokens)
        progress = self._progress()
        if progress.finished:
            last = self.memory.steps[-1].action if self.memory.steps else task
            return self._trace(progress, last, np.zeros((WAYPOINTS, 2)), float("nan"), np.zeros(WAYPOINTS))
        action = self._action(progress)
        self.memory.ask(progress.step, action)
        uv, start_m = self._path(action)
        return self._trace(progress, action, uv, start_m, self._offsets(start_m))

    def _progress(self) -> StepProgress:
        single = self.config.horizon == "single"
        if self.config.horizon == "off" or (single and not self.request.history):
            return StepProgress(1, None, finished=False)
        question = prompt.progress_prompt(self.request.instruction, self._executed())
        reply = self._ask("progress", question, parse_progress, prompt.PROGRESS_SCHEMA)
        return self.memory.bounded(StepProgress(1, 1, reply.finished) if single else reply)

    def _action(self, progress: StepProgress) -> str:
        if self.config.horizon != "long":
            return self.request.instruction
        question = prompt.next_action_prompt(self.request.instruction, self.memory.done(progress.step))
        return self._ask("action", question, parse_action, prompt.ACTION_SCHEMA)

    def _path(self, action: str) -> tuple[F64, float]:
        """(8, 2) path in 0..1000 and the sensor's depth at its start, m."""
        parts = [prompt.trace_prompt(action)]
        if self.config.remaining_path and self.request.history:
            tool_uv = uv_in_view(self.request.frame.camera, self.request.robot.T_base_tcp[:3, 3])
            parts.append(prompt.remaining_prompt(tool_uv, self._executed()[-1:], self._coordinates))
        if self.config.tell_refusals and self.request.feedback:
            parts.append(prompt.refusal(self.request.feedback))
        schema = prompt.points_schema(convention=self.config.coordinates)
        return self._ask("points", " ".join(parts), lambda text: self._checked_path(text, action), schema)

    def _checked_path(self, text: str, action: str) -> tuple[F64, float]:
        uv = parse_points(text, coordinates=self._coordinates)
        fault = path_fault(uv, still_ok=may_stay(action))
        if fault:
            raise ReplyError(fault, text)
        frame = self.request.frame
        start_m = start_depth(frame, uv_to_px(uv[0], frame.camera))
        if not np.isfinite(start_m):
            raise StageError(
                OutcomeCode.GOAL_NOT_GROUNDED,
                f"The path to '{action}' starts at {self._coordinates.written(uv[0])}, where the camera has no depth: "
                "it must start on a surface that is seen.",
            )
        return uv, start_m

    def _offsets(self, start_m: float) -> F64:
        """(8,) depth of each waypoint minus the start's, m."""
        depth = colourised_depth(self.request.frame)
        return self._ask("offsets", prompt.depth_prompt(start_m), parse_offsets, prompt.OFFSETS_SCHEMA, depth)

    def _ask(
        self,
        kind: str,
        question: str,
        read: Callable[[str], T],
        schema: Mapping[str, Any],
        image: U8 | None = None,
    ) -> T:
        if self.config.explain_form:
            question = prompt.explained(question, kind, self.config.coordinates)
        held = schema if self.config.constrain else None
        return self.talk.ask(kind, question, read, self.config.max_tokens, held, image)

    def _executed(self) -> tuple[str, ...]:
        """What was executed for each requested action, or for the whole task if this planner has no memory of it."""
        history = self.request.history
        known = self.memory.executed(history)
        if known or not history:
            return known
        return (described(self.request.instruction, len(history), events(history)),)

    @property
    def _coordinates(self) -> Coordinates:
        camera = self.request.frame.camera
        return Coordinates(self.config.coordinates, (camera.width_px, camera.height_px))

    def _trace(self, progress: StepProgress, action: str, uv: F64, start_m: float, offset_m: F64) -> TracePlan:
        return TracePlan(
            instruction=self.request.instruction,
            sub_instruction=action,
            uv=uv,
            start_depth_m=start_m,
            depth_offset_m=offset_m,
            step_index=progress.step - 1,
            finished=progress.finished,
            planner=self.model,
            raw_reply=self.talk.log,
            image_stamp_ns=self.request.frame.stamp_ns,
            plan_id=f"dialogue-{uuid4().hex[:12]}",
            step_total=progress.total,
        )
