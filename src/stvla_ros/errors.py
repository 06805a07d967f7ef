"""Typed outcomes, the exception that carries them, and the cancel token.

Every way in which a task, plan, keypose or motion can end has one code here. The numbers are the constants of
``stvla_msgs/msg/Outcome``; a test keeps the two in sync.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import IntEnum


class OutcomeCode(IntEnum):
    """How something ended. ``OK`` alone means success."""

    OK = 0
    INVALID_GOAL = 1  # empty, too long, or control characters in the instruction
    GOAL_NOT_GROUNDED = 2  # the planner cannot find the named object in the image
    REPLY_UNPARSABLE = 3  # the model answered, but not with a plan
    LIFT_NO_DEPTH = 4  # no valid depth near the start of the path
    LIFT_IMPLAUSIBLE = 5  # the lifted path leaves the workspace or enters a surface
    MASK_EMPTY = 6  # the tube touches no object to act on
    KEYPOSE_OUT_OF_BOUNDS = 7  # not finite, or outside the workspace
    NO_IK = 8
    NO_PATH = 9
    COLLISION = 10  # start or straight-line motion in collision
    REFLEX = 11  # the robot stopped itself (contact force, limit, missed commands)
    GRASP_FAILED = 12  # the gripper closed on nothing
    STALE_IMAGE = 13  # no recent camera image
    STALE_STATE = 14  # no recent joint state
    SERVER_TIMEOUT = 15  # a stage did not answer before its deadline
    NODE_LOST = 16  # a node stopped sending heartbeats
    CONTROLLER_FAILED = 17  # the controller refused or aborted a trajectory
    STEP_LIMIT = 18  # ran out of keyposes; never a success
    NO_PROGRESS = 19  # the policy has nothing left to do, but the planner sees the task unfinished
    CANCELED = 20
    PREEMPTED = 21
    INTERNAL = 22  # a defect in this software
    SCENE_CHANGED = 23  # the object that the path was drawn for has moved
    NO_DEPTH = 24  # too little of the policy's view has depth
    WRONG_GUIDANCE = 25  # the policy was trained on images with (or without) a drawn path and gets the other kind
    SERVER_ERROR = 26  # a model gave no answer for a reason other than time: not reached, refused, failed
    CANCEL_UNCONFIRMED = 27  # canceled, but it is not confirmed that the arm is at rest
    USER_STOPPED = 28  # the robot's own stop button (external enabling device, pilot) is pressed
    SAFETY_FUNCTION = 29  # a safety function of the robot is active
    ROBOT_LOST = 30  # the connection to the robot broke
    CAMERA_MOVED = 31  # the camera is not where its transform says
    NOT_APPROVED = 32  # nobody approved the motion in time
    MOTION_REFUSED = 33  # an operator refused the motion
    DRY_RUN = 34  # everything but the motion was asked for, and done


INTERRUPTED = frozenset({OutcomeCode.CANCELED, OutcomeCode.PREEMPTED})
"""Codes that only say that work was interrupted; its cancel token knows why."""


class StageError(Exception):
    """A stage could not do its work; the reason is written for an operator.

    Attributes:
        code: The typed reason; never ``OK``.
        sentence: One sentence: what was wanted, what was found, what to do.
    """

    def __init__(self, code: OutcomeCode, sentence: str) -> None:
        if code is OutcomeCode.OK:
            raise ValueError("StageError needs a failure code, got OK")
        super().__init__(f"{code.name}: {sentence}")
        self.code = code
        self.sentence = sentence


class CancelToken:
    """Tells long-running work to end, and why. Thread safe; the first reason is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = threading.Event()
        self._reason: StageError | None = None
        self._listeners: list[Callable[[], None]] = []

    def cancel(self, code: OutcomeCode = OutcomeCode.CANCELED, sentence: str = "Canceled by the operator.") -> None:
        """Set the token and call every listener once."""
        with self._lock:
            if self._reason is not None:
                return
            self._reason = StageError(code, sentence)
            self._set.set()
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def is_set(self) -> bool:
        return self._set.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep until canceled or ``timeout_s`` passed; True when canceled."""
        return self._set.wait(timeout_s)

    def raise_if_set(self) -> None:
        """Raise the reason given to :meth:`cancel`, if it was called.

        Raises:
            StageError: With the code and sentence of the cancel.
        """
        if self._reason is not None:
            raise StageError(self._reason.code, self._reason.sentence)

    def explain(self, error: StageError) -> StageError:
        """What to report for a failure: the reason of the cancel if it interrupted the work, otherwise the failure
        itself.

        A failure during a cancel (CONTROLLER_FAILED: "use the emergency stop") is more important than the cancel.
        """
        if self._reason is None or error.code not in INTERRUPTED:
            return error
        return StageError(self._reason.code, self._reason.sentence)

    def on_cancel(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` on cancel (at once if already canceled).

        Returns:
            A function that removes the listener.
        """
        with self._lock:
            if self._reason is None:
                self._listeners.append(listener)
                return lambda: self._remove(listener)
        listener()
        return lambda: None

    def _remove(self, listener: Callable[[], None]) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
