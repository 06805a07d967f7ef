"""From a keypose to motion: collision world from depth, inverse kinematics, path search, timing, execution."""
