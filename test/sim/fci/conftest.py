"""One cell for all tests of a module."""

from collections.abc import Iterator

import pytest

from stvla_ros.sim.fci.cell import FciCell


@pytest.fixture(scope="module")
def cell() -> Iterator[FciCell]:
    made = FciCell()
    made.reset("pick_place", 0)
    yield made
    made.close()
