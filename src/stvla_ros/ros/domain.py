"""A ROS domain that nobody else on this machine uses, for a stack that starts and ends with one command."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from stvla_ros.config import ConfigError
from stvla_ros.ros.graph import middleware_profile

LOCK_PORT = 32768
"""Plus the domain: a bound port marks a domain as taken, for ROS's domain_coordinator too."""

MOST = 101
"""Fast DDS's ports of higher domains run into those that Linux gives to outgoing connections."""


@contextmanager
def private_domain() -> Iterator[int]:
    """Take a free domain and set this process's environment for it, so that all children have it.

    ``ROS_DOMAIN_ID`` in the environment is where the search begins: alone on the machine, one gets exactly that.

    Raises:
        ConfigError: ``ROS_DOMAIN_ID`` is no number from 0 to 101, or no domain is free.
    """
    lock, number = _take(_first())
    wanted = {"ROS_DOMAIN_ID": str(number), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    profile = middleware_profile()
    if profile is not None:
        wanted["FASTRTPS_DEFAULT_PROFILES_FILE"] = os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield number
    finally:
        lock.close()
        _restore(before)


def _first() -> int:
    text = os.environ.get("ROS_DOMAIN_ID", "1")
    if not text.isdecimal() or int(text) > MOST:
        raise ConfigError(f"ROS_DOMAIN_ID: wanted 0 to {MOST}, got '{text}'.")
    return int(text)


def _take(first: int) -> tuple[socket.socket, int]:
    for number in [*range(first, MOST + 1), *range(1, first)]:
        lock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            lock.bind(("", LOCK_PORT + number))
            return lock, number
        except OSError:
            lock.close()
    raise ConfigError("No ROS domain is free on this machine: end other stacks first.")


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
