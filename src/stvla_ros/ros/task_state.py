"""The state of a task as a message: in feedback and result, and on the latched topic ``stvla/task_state``."""

from __future__ import annotations

import math

from stvla_msgs.msg import TaskState as TaskStateMsg

from stvla_ros.pipeline import TaskState
from stvla_ros.ros.convert import header

TOPIC = "stvla/task_state"
IDLE = "idle"

HOLDS_TOPIC = "stvla/gripper_holds"
"""Latched std_msgs/Bool of the executor: whether the fingers hold something, judged by their distance."""


def state_to_msg(state: TaskState, phase: str, stamp_ns: int) -> TaskStateMsg:
    """Exact, except that an unknown total becomes 0 and unknown percentiles become NaN."""
    p50, p95 = state.plan_latency_s or (math.nan, math.nan)
    return TaskStateMsg(
        header=header(stamp_ns, ""),
        instruction=state.instruction,
        phase=phase,
        sub_instruction=state.sub_instruction,
        step_index=state.step_index,
        step_total=state.step_total or 0,
        finished=state.finished,
        sub_instructions=list(state.sub_instructions),
        plan_id=state.plan_id,
        keyposes=state.keyposes,
        replans=state.replans,
        stale_plans=state.stale_plans,
        failed_plans=state.failed_plans,
        feedback=state.feedback,
        plan_times_s=list(state.plan_times_s),
        plan_p50_s=p50,
        plan_p95_s=p95,
        holding=state.holding,
    )


def state_from_msg(msg: TaskStateMsg) -> TaskState:
    """The pipeline's value."""
    return TaskState(
        msg.instruction,
        msg.sub_instruction,
        int(msg.step_index),
        int(msg.step_total) or None,
        msg.finished,
        tuple(msg.sub_instructions),
        msg.plan_id,
        int(msg.keyposes),
        int(msg.replans),
        int(msg.stale_plans),
        int(msg.failed_plans),
        msg.feedback,
        tuple(float(t) for t in msg.plan_times_s),
        msg.holding,
    )
