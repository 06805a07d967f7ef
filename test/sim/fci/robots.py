"""A robot with its interface at an address that nobody else uses."""

import os
from collections.abc import Callable

import stalls

from stvla_ros.config import ConfigError
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.server import FciConfig, FciServer


def serve(cell: FciCell, real_time: bool = False, answer_limit_s: float = 10.0, homed: bool = True) -> FciServer:
    """Start a server at a free loopback address."""
    for i in range(2, 250):
        hostname = f"127.{1 + os.getpid() % 250}.{1 + os.getpid() // 250 % 250}.{i}"
        try:
            server = FciServer(cell, FciConfig(hostname, real_time, answer_limit_s, homed))
        except ConfigError:
            continue
        server.start()
        return server
    raise AssertionError("no free address")


def wait_until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Wait for something that another thread does."""
    late = stalls.clock() + limit_s
    while not condition():
        assert stalls.clock() < late
        stalls.time.sleep(0.001)
