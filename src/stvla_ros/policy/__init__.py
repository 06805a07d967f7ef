"""Policies: from a guided observation to the next keypose of the tool (paper 3.4.1)."""
