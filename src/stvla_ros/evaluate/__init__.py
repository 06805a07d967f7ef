"""Rollouts in the simulated cell: episodes in parallel processes, records, success rates. No ROS in here.

Importing this package names the planner ``oracle``. Commands and nodes import it for that: the oracle then says itself
why it works in simulation only.
"""

from stvla_ros import registry

registry.add("planner", "oracle", f"{__name__}.oracle:OraclePlanner")
