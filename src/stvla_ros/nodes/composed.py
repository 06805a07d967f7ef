"""Planner, guidance, policy and task in one process: fewer processes on a small computer.

Camera, robot and executor stay on their own: the executor must answer a stop while a model computes. Never start this
with ``__node:=``, which would rename all of them.
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
