"""The ROS 2 side: messages, parameters, frames, and the mailbox around a stage. ``rclpy`` lives here and in nodes/."""

SUPERVISOR = "STVLA_SUPERVISOR_PID"
"""Environment variable with the id of the process that a node must not outlive. Here, so that reading it is cheap."""
