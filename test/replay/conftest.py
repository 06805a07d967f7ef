"""One observed task per scene, for all tests of this folder."""

import pytest

from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.replay.observing import ObservedTask, observe
from stvla_ros.sim.cell import Cell


@pytest.fixture(scope="session")
def settings() -> StackSettings:
    return StackSettings().with_noise()


@pytest.fixture(scope="session")
def pick_place(settings: StackSettings) -> ObservedTask:
    """A task of six keyposes, seen by an imperfect camera."""
    cell = Cell(settings.cell)
    try:
        return observe(settings, cell, "pick_place", cell.reset("pick_place", 3))
    finally:
        cell.close()
