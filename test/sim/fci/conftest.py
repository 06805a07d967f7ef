"""A robot with its interface at an address that nobody else uses."""

import os
from collections.abc import Iterator

import pytest

from stvla_ros.config import ConfigError
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.server import FciConfig, FciServer


@pytest.fixture(scope="module")
def cell() -> Iterator[FciCell]:
    made = FciCell()
    made.reset("pick_place", 0)
    yield made
    made.close()


def serve(cell: FciCell, real_time: bool = False, answer_limit_s: float = 10.0, homed: bool = True) -> FciServer:
    """Start a server at a free loopback address."""
    for i in range(100):
        hostname = f"127.{1 + os.getpid() % 250}.{1 + os.getpid() // 250 % 250}.{2 + i}"
        try:
            server = FciServer(cell, FciConfig(hostname, real_time, answer_limit_s, homed))
        except ConfigError:
            continue
        server.start()
        return server
    raise AssertionError("no free address")
