"""What runs beside a motion: the guard that ends it when an input fails, and its feedback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from stvla_msgs.action import ExecuteKeypose

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros.action_server import GoalHandle

GUARD_PERIOD_S = 0.05
FEEDBACK_PERIOD_S = 0.2


@contextmanager
def guard(
    check: Callable[[], None], cancel: CancelToken, stop: Callable[[], None], defect: Callable[[BaseException], None]
) -> Iterator[None]:
    """Check the preconditions of a motion until it ends.

    Args:
        check: Raises StageError when the motion must not continue; the motion is then canceled with that error.
        cancel: Cancels the motion.
        stop: Stops the robot directly; called when ``check`` fails in any other way.
        defect: Receives such a failure, for the log.
    """
    done = Event()

    def look() -> None:
        try:
            while not done.wait(GUARD_PERIOD_S):
                check()
        except StageError as error:
            cancel.cancel(error.code, error.sentence)
        except BaseException as error:  # noqa: BLE001 - whatever it is: without checks nothing may move
            stop()
            cancel.cancel(
                OutcomeCode.INTERNAL, "A defect in the guard of the motion; the traceback is in the executor's log."
            )
            defect(error)

    thread = Thread(target=look, name="guard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def publishing_feedback(
    goal_handle: GoalHandle, activity: Callable[[], str], defect: Callable[[BaseException], None]
) -> Iterator[None]:
    """Publish feedback while the robot moves, from a separate thread, so that it never delays the motion.

    Args:
        goal_handle: The goal that gets it.
        activity: What the robot does now.
        defect: Receives whatever the middleware raises; the motion goes on without feedback.
    """
    started, done = time.monotonic(), Event()

    def publish() -> None:
        try:
            while not done.wait(FEEDBACK_PERIOD_S):
                elapsed_s = time.monotonic() - started
                goal_handle.publish_feedback(ExecuteKeypose.Feedback(phase=activity(), elapsed_s=elapsed_s))
        except Exception as error:  # noqa: BLE001 - any error of the middleware, such as RCLError
            defect(error)

    thread = Thread(target=publish, name="feedback", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(FEEDBACK_PERIOD_S)
