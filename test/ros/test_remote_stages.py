"""The loop's verbs as calls of other nodes: what is done when the executor's answer is bad, or does not come."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stvla_msgs.action import ExecuteKeypose

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.ros.convert import error_to_msg, ok_msg
from stvla_ros.ros.remote_stages import Deadlines, RemoteStages
from stvla_ros.types import Keypose, TracePlan

PLAN = TracePlan("Go.", "go", np.zeros((8, 2)), 0.5, np.zeros(8), 0, False, "p", "", 1, "id")


class Executor:
    """Stands for the call of the executor: answers, or fails."""

    def __init__(self, end: StageError | Any) -> None:
        self._end = end

    def call(self, *_: Any, **__: Any) -> Any:
        if isinstance(self._end, StageError):
            raise self._end
        return ExecuteKeypose.Result(outcome=self._end)


def stops(end: StageError | Any) -> tuple[OutcomeCode, int]:
    """How a keypose ends, and how often the controllers were told to stop past the executor."""
    told: list[bool] = []
    stages = RemoteStages.__new__(RemoteStages)
    stages._deadlines, stages._executor, stages._executor_lost = Deadlines(), Executor(end), lambda: False
    stages._base_frame = "panda_link0"
    stages._canceler = type("GoalCanceler", (), {"cancel_all": lambda _: told.append(True)})()
    try:
        code = stages.execute(PLAN, Keypose(np.eye(4), True), CancelToken()).code
    except StageError as error:
        code = error.code
    return code, len(told)


def test_a_defect_in_the_executor_stops_the_arm_past_it() -> None:
    defect = error_to_msg(StageError(OutcomeCode.INTERNAL, "A defect in the node 'executor'."))
    assert stops(defect) == (OutcomeCode.INTERNAL, 1)


@pytest.mark.parametrize("code", [OutcomeCode.NODE_LOST, OutcomeCode.SERVER_TIMEOUT, OutcomeCode.CANCEL_UNCONFIRMED])
def test_without_an_answer_the_arm_is_stopped_past_the_executor(code: OutcomeCode) -> None:
    assert stops(StageError(code, "No answer.")) == (code, 1)


def test_an_answer_of_the_executors_own_needs_no_second_stop() -> None:
    assert stops(ok_msg("", {})) == (OutcomeCode.OK, 0)
    assert stops(error_to_msg(StageError(OutcomeCode.NO_PATH, "No way."))) == (OutcomeCode.NO_PATH, 0)
