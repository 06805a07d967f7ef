"""Arms behind one interface: a kinematic fake and the simulated Panda."""
