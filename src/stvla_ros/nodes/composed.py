"""Planner, guidance, policy and task in one process, for small computers.

Camera, robot and executor have their own processes: the executor must answer a stop while a model computes. Never
start this program with ``__node:=``, which would rename all four nodes.
"""

from __future__ import annotations

import sys

from stvla_ros.nodes.guidance import GuidanceNode
from stvla_ros.nodes.planner import PlannerNode
from stvla_ros.nodes.policy import PolicyNode
from stvla_ros.nodes.task import TaskNode
from stvla_ros.ros.run import run


def main() -> int:
    """Entry point."""
    return run(PlannerNode, GuidanceNode, PolicyNode, TaskNode)


if __name__ == "__main__":
    sys.exit(main())
