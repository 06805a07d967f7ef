"""One cell for all tests of a module: it is reset, never rebuilt."""

from collections.abc import Iterator

import pytest

from stvla_ros.sim.cell import Cell


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell()
    yield made
    made.close()
