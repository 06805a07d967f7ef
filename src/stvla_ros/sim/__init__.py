"""The simulated cell: a Panda at a table under an RGB-D camera, with tasks and their scores. No ROS inside."""

LOOKS = ("plain", "hard")
"""How the cell looks: made of few plain surfaces, or as real tables do (:mod:`stvla_ros.sim.looks`)."""
