"""Tests of a planner's answers: points, paths, depths, actions, progress, choices."""
