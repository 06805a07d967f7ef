"""A Franka Control Interface in front of the simulated cell: genuine libfranka drives it over the network."""
