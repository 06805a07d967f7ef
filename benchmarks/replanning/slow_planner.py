"""The planner's node with a planner that thinks for STVLA_PLANNER_DELAY_S seconds (environment variable).

Takes the place of ``stvla_ros.nodes.planner``; the backend is the colour planner under its own name, only slower. Like
a model, it cannot be interrupted.
"""

from __future__ import annotations

import os
import sys
import time

from stvla_ros import registry
from stvla_ros.planning.colour import ColourPlanner
from stvla_ros.types import PlanRequest, TracePlan

DELAY = "STVLA_PLANNER_DELAY_S"


class SlowColourPlanner(ColourPlanner):
    """The colour planner's answer, late."""

    def plan(self, request: PlanRequest) -> TracePlan:
        """See :class:`stvla_ros.planning.colour.ColourPlanner`."""
        plan = super().plan(request)
        time.sleep(float(os.environ.get(DELAY, "0")))
        return plan


def main() -> int:
    """Entry point."""
    registry.BACKENDS["planner"]["colour"] = f"{SlowColourPlanner.__module__}:{SlowColourPlanner.__qualname__}"
    from stvla_ros.nodes import planner

    return planner.main()


if __name__ == "__main__":
    # a class of __main__ would be another one than the registry imports
    from benchmarks.replanning import slow_planner

    sys.exit(slow_planner.main())
