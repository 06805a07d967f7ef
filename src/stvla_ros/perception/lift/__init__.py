"""A trace on the image becomes a path in space (paper 3.3.2)."""

from stvla_ros.perception.lift.config import LiftConfig
from stvla_ros.perception.lift.lifter import lift

__all__ = ["LiftConfig", "lift"]
