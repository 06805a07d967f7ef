"""The middleware as seen from a process: a ROS domain of its own, contexts without shared memory, nodes that leave
nothing behind."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import rclpy
from rclpy.action import ActionClient, ActionServer
from rclpy.node import Node

from stvla_ros.config import ConfigError
from stvla_ros.ros.graph import DISCOVERY_RANGE, client_profile, middleware_profile

PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"

LOCK_PORT = 32768
"""Plus the domain: a bound port marks a domain as taken, for ROS's domain_coordinator too."""

MAX_DOMAIN = 101
"""Fast DDS's ports of higher domains overlap with those that Linux gives to outgoing connections."""

END_DISCOVERY_S = 5
"""What a node hears about other processes at its end takes less."""


@contextmanager
def private_domain() -> Iterator[int]:
    """Take a ROS domain that nobody else on this machine uses, for this process and all its children.

    The search begins at ``ROS_DOMAIN_ID``: alone on the machine, one gets exactly that.

    Raises:
        ConfigError: ``ROS_DOMAIN_ID`` is not a number from 0 to 101, or no domain is free.
    """
    lock, number = _take(_first())
    wanted = {"ROS_DOMAIN_ID": str(number), DISCOVERY_RANGE: "LOCALHOST"}
    profile = middleware_profile()
    if profile is not None:
        wanted[PROFILE] = os.environ.get(PROFILE, str(profile))
    try:
        with _environment(wanted):
            yield number
    finally:
        lock.close()


@contextmanager
def udp_only() -> Iterator[None]:
    """Create a process's first ROS context in here, and it and all later ones have no shared memory: for clients.

    A participant that ends can take the shared memory of others with it (docs/decisions/0008-transports.md). A profile
    chosen by the operator stays, and so does that of a process with a context: Fast DDS reads its profile once.
    """
    if rclpy.ok() or os.environ.get(PROFILE) != str(middleware_profile()):
        yield
        return
    local, profile = os.environ.get(DISCOVERY_RANGE) == "LOCALHOST", client_profile()
    wanted = (
        {PROFILE: str(profile), DISCOVERY_RANGE: "SYSTEM_DEFAULT"}
        if local and profile
        else {PROFILE: "", "FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}
    )
    with _environment(wanted):
        yield


def destroy_node(node: Node) -> None:
    """Destroy a node that is no longer spun, with its action servers and clients.

    rclpy leaves those two to the garbage collector. Until then they keep the participant with its threads and sockets.
    A server also reads the node's clock while it is freed, and the collector may free the clock first: that was a
    segmentation fault, whenever the freed memory was in use again.
    """
    for action in [w for w in node.waitables if isinstance(w, ActionServer | ActionClient)]:
        action.destroy()
    Node.destroy_node(node)


def end_discovery(node: Node) -> None:
    """Call this before the last node of a context is destroyed, which destroys its participant.

    It takes the participant's listener away, with a time limit. Whoever destroys it does the same without a limit. If
    another process is being discovered at that moment, Fast DDS then waits in a way that keeps the discovery from
    finishing, for ever and with Python's lock: its deadline, the end of time, overflows
    (https://github.com/eProsima/Fast-DDS/issues/6513).
    """
    participant, dds = _participant(node), _library("libfastrtps.so.2")
    set_listener = getattr(dds, _SET_LISTENER, None)
    if participant is not None and set_listener is not None:
        set_listener.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long]
        with node.handle:
            set_listener(participant, None, END_DISCOVERY_S)


def _participant(node: Node) -> int | None:
    """Address of a node's Fast DDS ``DomainParticipant``; None with another middleware."""
    rmw_node_of = getattr(_library("librcl.so"), "rcl_node_get_rmw_handle", None)
    participant_of = getattr(_library("librmw_fastrtps_cpp.so"), _GET_PARTICIPANT, None)
    if rmw_node_of is None or participant_of is None:
        return None
    for function in (rmw_node_of, participant_of):
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
    with node.handle:
        return participant_of(rmw_node_of(node.handle.pointer))


_GET_PARTICIPANT = "_ZN16rmw_fastrtps_cpp22get_domain_participantEP10rmw_node_s"
"""``rmw_fastrtps_cpp::get_domain_participant(rmw_node_t *)``"""

_SET_LISTENER = (
    "_ZN8eprosima7fastdds3dds17DomainParticipant12set_listenerEPNS1_25DomainParticipantListenerE"
    "NSt6chrono8durationIlSt5ratioILl1ELl1EEEE"
)
"""``DomainParticipant::set_listener(DomainParticipantListener*, std::chrono::seconds)``"""


def _library(name: str) -> ctypes.CDLL | None:
    """A library that this process has loaded; None if it has not."""
    with suppress(OSError), open("/proc/self/maps") as maps:
        for line in maps:
            path = line.rstrip().rpartition(" ")[2]
            if path.rpartition("/")[2].startswith(name):
                return ctypes.CDLL(path)
    return None


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and restore them at the end."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _first() -> int:
    text = os.environ.get("ROS_DOMAIN_ID", "1")
    if not text.isdecimal() or int(text) > MAX_DOMAIN:
        raise ConfigError(f"ROS_DOMAIN_ID: wanted 0 to {MAX_DOMAIN}, got '{text}'.")
    return int(text)


def _take(first: int) -> tuple[socket.socket, int]:
    for number in [*range(first, MAX_DOMAIN + 1), *range(1, first)]:
        lock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            lock.bind(("", LOCK_PORT + number))
            return lock, number
        except OSError:
            lock.close()
    raise ConfigError("No ROS domain is free on this machine: end other stacks first.")
