"""Motions and stops of a Franka's driver in front of the simulated network interface."""
