"""stvla: spatial-temporal guidance for robot manipulation (ST-VLA, arXiv 2603.13788) on ROS 2."""

__version__ = "0.1.0"
