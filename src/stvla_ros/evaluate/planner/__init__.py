"""Tests of planners by what they answer: points, paths, depths, actions, progress, choices."""
