"""Backends that need ROS: the robot behind ros2_control, and motion planning with MoveIt 2.

Importing this package names the motion planner ``moveit``. Commands and nodes import it for that; the planner then says
itself that it works in the executor node only.
"""

from stvla_ros import registry

registry.add("motion", "moveit", f"{__name__}.moveit:MoveItPlanner")
