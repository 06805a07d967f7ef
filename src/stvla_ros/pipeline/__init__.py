"""The ST-VLA loop (paper, algorithm 1): look, draw, lift, mask, predict, move; replan every k keyposes.

The loop is implemented once, in :func:`run_task`. It uses three verbs (:class:`Stages`): in one process they are direct
calls (:class:`LocalStages`), over ROS they are the task node's action clients. Nothing here imports ROS.
"""

from stvla_ros.pipeline.edited import PERSON, EditedPaths
from stvla_ros.pipeline.hand import SOMETHING, Hand, in_the_gripper, object_of, with_advice
from stvla_ros.pipeline.loop import REFUSED, RETRYABLE, run_task
from stvla_ros.pipeline.stages import LocalStages, Stages
from stvla_ros.pipeline.values import (
    MAX_INSTRUCTION_CHARS,
    LoopConfig,
    Progress,
    TaskResult,
    TaskState,
    check_instruction,
    percentiles,
)

__all__ = [
    "MAX_INSTRUCTION_CHARS",
    "PERSON",
    "REFUSED",
    "RETRYABLE",
    "SOMETHING",
    "EditedPaths",
    "Hand",
    "LocalStages",
    "LoopConfig",
    "Progress",
    "Stages",
    "TaskResult",
    "TaskState",
    "check_instruction",
    "in_the_gripper",
    "object_of",
    "percentiles",
    "run_task",
    "with_advice",
]
