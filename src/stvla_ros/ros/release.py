"""Ask the running stack to put down what the gripper holds."""

from __future__ import annotations

from collections.abc import Callable

from stvla_msgs.action import ReleaseObject

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros.action_client import EXECUTOR_CANCEL_S, StageClient
from stvla_ros.ros.client import client_node
from stvla_ros.ros.convert import outcome_from_msg
from stvla_ros.types import Outcome

DEADLINE_S = 120.0


def release_object(tell: Callable[[str, float], None], cancel: CancelToken, connect_s: float) -> Outcome:
    """Put down what the gripper holds and wait for the end.

    Args:
        tell: Called with phase and elapsed seconds, from another thread.
        cancel: Stops the arm.
        connect_s: How long to wait for an executor.

    Raises:
        ConnectionError: No executor answers, or it went away meanwhile.
    """
    with client_node("release_client") as node:
        remote = StageClient(node, ReleaseObject, "stvla/release_object", EXECUTOR_CANCEL_S)
        try:
            result = remote.call(
                ReleaseObject.Goal(), cancel, DEADLINE_S, lambda f: tell(f.phase, f.elapsed_s), connect_s
            )
        except StageError as error:
            if error.code in (OutcomeCode.NODE_LOST, OutcomeCode.SERVER_TIMEOUT):
                raise ConnectionError(error.sentence) from error
            return Outcome(error.code, error.sentence)
    return outcome_from_msg(result.outcome)
