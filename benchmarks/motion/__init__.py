"""Motion planning per keypose: ours, OMPL and mplib on the same queries."""
