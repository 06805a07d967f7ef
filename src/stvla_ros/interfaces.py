"""The stages: each an object with one method from frozen values to a frozen value.

Every Protocol has at least one implementation that needs no weights, no GPU and no hardware. A stage that cannot do its
work raises :class:`stvla_ros.errors.StageError`; nothing else is an outcome. :mod:`stvla_ros.registry` creates backends
from one config dataclass; motion planners also take the arm's limits.
"""

from __future__ import annotations

from typing import Protocol

from stvla_ros.errors import CancelToken
from stvla_ros.types import (
    Guidance,
    JointPath,
    Keypose,
    MotionRequest,
    Observation,
    Outcome,
    PlanRequest,
    RgbdFrame,
    RobotState,
    Segments,
    Trace3d,
    TracePlan,
)


class FrameSource(Protocol):
    """A camera: live, simulated, or a recording."""

    def capture(self) -> RgbdFrame:
        """The newest frame. Raises StageError STALE_IMAGE if there is none."""
        ...


class Planner(Protocol):
    """Draws the path on the image (high level of ST-VLA)."""

    def plan(self, request: PlanRequest) -> TracePlan:
        """A path for the next step, or a plan with ``finished`` set.

        Raises StageError GOAL_NOT_GROUNDED, REPLY_UNPARSABLE, SERVER_TIMEOUT or SERVER_ERROR.
        """
        ...


class Segmenter(Protocol):
    """Splits a frame into instances."""

    def segment(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        """Labels of the frame's size; ids stay stable over time as far as the backend is able."""
        ...

    def refresh(self) -> None:
        """Look at the next frame anew, whatever earlier ones showed: a plan or a scene begins. Ids may go on."""
        ...


class Guide(Protocol):
    """Lifts a plan to 3D once, then cleans every frame with it."""

    def lift(self, plan: TracePlan, frame: RgbdFrame) -> Trace3d:
        """Lift on the frame that the plan was drawn on. Raises LIFT_NO_DEPTH, LIFT_IMPLAUSIBLE."""
        ...

    def guide(self, trace: Trace3d, frame: RgbdFrame, robot: RobotState) -> Guidance:
        """Mask and fill one frame. Raises MASK_EMPTY."""
        ...

    def reset(self) -> None:
        """Forget all earlier frames: another task begins."""
        ...


class Policy(Protocol):
    """Predicts the next keypose (low level of ST-VLA)."""

    def predict(self, observation: Observation) -> Keypose | None:
        """The next keypose; None if nothing is left to do on this path (the planner must plan again)."""
        ...


class MotionPlanner(Protocol):
    """Joint motion to a tool pose, free of collision, timed within the arm's limits."""

    def plan(self, request: MotionRequest) -> JointPath:
        """Raises StageError NO_IK, NO_PATH or COLLISION; a planner in another process also NODE_LOST, SERVER_TIMEOUT or
        SERVER_ERROR, and the reason of ``request.cancel``."""
        ...


class Robot(Protocol):
    """An arm with a parallel gripper. Only the executor holds one."""

    def state(self) -> RobotState:
        """The newest state. Raises StageError STALE_STATE."""
        ...

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        """Track a path to its end; returns at standstill.

        Raises StageError CANCELED/PREEMPTED (arm stopped), REFLEX, CONTROLLER_FAILED, STALE_STATE.
        """
        ...

    def move_gripper(self, width_m: float, cancel: CancelToken) -> float:
        """Open or close; returns the width reached in metres (larger than asked when it holds something)."""
        ...

    def stop(self) -> None:
        """Bring the arm to a standstill now. Never raises, and waits for nothing else."""
        ...


class KeyposeExecutor(Protocol):
    """Takes the tool to a keypose: plan, move with the old gripper state, actuate."""

    def execute(self, keypose: Keypose, frame: RgbdFrame, trace: Trace3d | None, cancel: CancelToken) -> Outcome:
        """Outcome with times; raises StageError with any motion code."""
        ...
