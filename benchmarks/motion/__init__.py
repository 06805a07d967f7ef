"""Motion planning per keypose: ours beside OMPL and mplib on the same queries."""
