"""A participant without shared memory, for clients that come and go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import rclpy

from stvla_ros.ros.graph import client_profile, middleware_profile

PROFILE, RANGE = "FASTRTPS_DEFAULT_PROFILES_FILE", "ROS_AUTOMATIC_DISCOVERY_RANGE"


@contextmanager
def udp_only() -> Iterator[None]:
    """Make a process's first ROS context in here, and it has no shared memory; so have the ones that follow it.

    A participant that ends can take the shared memory of others with it (docs/decisions/0008-transports.md). A profile that
    the operator has chosen is left alone, and so is a process that has a context already: Fast DDS reads its profile once.
    """
    if rclpy.ok() or os.environ.get(PROFILE) != str(middleware_profile()):
        yield
        return
    local, profile = os.environ.get(RANGE) == "LOCALHOST", client_profile()
    wanted = (
        {PROFILE: str(profile), RANGE: "SYSTEM_DEFAULT"}
        if local and profile
        else {PROFILE: "", "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    )
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
