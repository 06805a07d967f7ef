"""The simulated cell: a Panda at a table under an RGB-D camera, with tasks and their scores. No ROS inside."""
