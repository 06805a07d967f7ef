"""Rollouts in the simulated cell: episodes in parallel processes, records, success rates. No ROS in here."""
