"""The ROS 2 side: messages, parameters, frames, and the mailbox around a stage. ``rclpy`` lives here and in nodes/."""
