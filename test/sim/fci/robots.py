"""A robot with its interface at an address that nobody else uses."""

import os
import socket
from collections.abc import Callable

import stalls

from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.server import FciConfig, FciServer
from stvla_ros.sim.fci.wire import ARM_PORT


def free_address() -> str:
    """A loopback address at which nobody listens to libfranka's clients."""
    for i in range(2, 250):
        hostname = f"127.{1 + os.getpid() % 250}.{1 + os.getpid() // 250 % 250}.{i}"
        with socket.socket() as probe:
            try:
                probe.bind((hostname, ARM_PORT))
            except OSError:
                continue
            return hostname
    raise AssertionError("no free address")


def serve(cell: FciCell, real_time: bool = False, answer_limit_s: float = 10.0, homed: bool = True) -> FciServer:
    """Start a server there."""
    server = FciServer(cell, FciConfig(free_address(), real_time, answer_limit_s, homed))
    server.start()
    return server


def wait_until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Wait for something that another thread does."""
    late = stalls.clock() + limit_s
    while not condition():
        assert stalls.clock() < late
        stalls.time.sleep(0.001)
