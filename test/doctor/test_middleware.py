"""Why programs do not hear each other: each set of variables that prevents it is named, with the one to set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stvla_ros.doctor.finding import State
from stvla_ros.doctor.middleware import (
    FAST_DDS,
    RosProcess,
    check_middleware,
    check_neighbours,
    check_sockets,
    find_processes,
)

GOOD = {"ROS_DOMAIN_ID": "7", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", "FASTRTPS_DEFAULT_PROFILES_FILE": __file__}

FAULTS = {
    "domain is no number": ({"ROS_DOMAIN_ID": "lab"}, State.WRONG, "'lab'"),
    "domain does not exist": ({"ROS_DOMAIN_ID": "233"}, State.WRONG, "'233'"),
    "domain with overlapping ports": ({"ROS_DOMAIN_ID": "150"}, State.WARNING, "overlap"),
    "discovery is off": ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, State.WRONG, "no program finds another"),
    "unknown range": ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LAN"}, State.WRONG, "one of SUBNET, LOCALHOST"),
    "profile is not there": ({"FASTRTPS_DEFAULT_PROFILES_FILE": "/no/such.xml"}, State.WRONG, "/no/such.xml"),
    "no profile": ({"FASTRTPS_DEFAULT_PROFILES_FILE": ""}, State.WARNING, "images between processes get lost"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_alone(name: str) -> None:
    changes, state, words = FAULTS[name]
    found = [f for f in check_middleware({**GOOD, **changes}, FAST_DDS) if f.state is not State.OK]
    assert [f.state for f in found] == [state]
    assert words in found[0].sentence
    assert found[0].remedy


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
            "for nodes elsewhere set ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET",
        ),
        ({"ROS_LOCALHOST_ONLY": "1"}, "unset it on both"),
        ({}, "ROS_STATIC_PEERS"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "10.0.0.2"}, "this computer and 10.0.0.2"),
    ],
)
def test_where_others_are_heard(changes: dict[str, str], words: str) -> None:
    found = check_middleware({**GOOD, **changes}, FAST_DDS)
    assert [f.state for f in found] == [State.OK] * 3
    assert words in found[1].sentence


def test_another_middleware() -> None:
    found = check_middleware(GOOD, "rmw_cyclonedds_cpp")
    assert found[2].state is State.WARNING
    assert "RMW_IMPLEMENTATION" in found[2].remedy


def process(name: str = "task", **environment: str) -> RosProcess:
    return RosProcess(99, name, {**GOOD, **environment})


NEIGHBOURS = {
    "all in one": ([process()], State.OK, "1 in domain 7"),
    "none": ([], State.OK, "0 in domain 7"),
    "stack in another domain": ([process(ROS_DOMAIN_ID="3")], State.WRONG, "export ROS_DOMAIN_ID=3 here"),
    "stack in the default domain": ([process(ROS_DOMAIN_ID="")], State.WRONG, "export ROS_DOMAIN_ID=0 here"),
    "another robot's driver": (
        [process(), process("rs_camera", ROS_DOMAIN_ID="3")], State.OK, "if one of rs_camera (process 99) is not heard",
    ),
    "another middleware": (
        [process(), process("rs_camera", RMW_IMPLEMENTATION="rmw_zenoh_cpp")], State.WRONG, "rs_camera (process 99): with rmw_zenoh",
    ),
    "discovery off there": ([process("rs", ROS_AUTOMATIC_DISCOVERY_RANGE="OFF")], State.WRONG, "rs (process 99): started with"),
}  # fmt: skip


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_programs_of_this_machine(name: str) -> None:
    processes, state, words = NEIGHBOURS[name]
    found = check_neighbours(GOOD, FAST_DDS, processes)
    assert (found.state, words in found.sentence) == (state, True), found.sentence


def test_programs_are_found_by_their_arguments(tmp_path: Path) -> None:
    wait = "import sys; print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", wait, "--ros-args", "-r", "__node:=left_camera"]
    environment = {**os.environ, "ROS_DOMAIN_ID": "41"}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        child.stdout.readline()
        mine = [found for found in find_processes() if found.pid == child.pid]
        child.communicate()
    assert [(found.name, found.environment["ROS_DOMAIN_ID"]) for found in mine] == [("left_camera", "41")]
    folder = tmp_path / "12"
    folder.mkdir()
    (folder / "cmdline").write_bytes(b"python\0-m\0stvla_ros.nodes.policy\0")
    (folder / "environ").write_bytes(b"A=b\0")
    assert find_processes(tmp_path) == [RosProcess(12, "policy", {"A": "b"})]


def sockets_of(folder: Path, dropped: int, uptime_s: float) -> RosProcess:
    """A /proc in which process 99, started 10 s after the machine, has lost datagrams at one of its sockets."""
    (folder / "99" / "fd").mkdir(parents=True)
    (folder / "99" / "fd" / "3").symlink_to("socket:[4711]")
    (folder / "99" / "fd" / "4").symlink_to("/dev/null")
    (folder / "net").mkdir()
    (folder / "net" / "udp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
        f"  1: 0100007F:1D53 00000000:0000 07 00000000:00000000 00:00000000 00000000  0  0 4711 2 0000000000000000 {dropped}\n"
        "  2: 0100007F:1D54 00000000:0000 07 00000000:00000000 00:00000000 00000000  0  0 4712 2 0000000000000000 99999\n"
    )
    (folder / "net" / "udp6").write_text("  sl\n")
    (folder / "99" / "stat").write_text(f"99 (a (b) c) S {' '.join(['0'] * 18)} {10 * os.sysconf('SC_CLK_TCK')} 0\n")
    (folder / "uptime").write_text(f"{uptime_s} 1.0\n")
    return RosProcess(99, "executor", GOOD)


def test_full_sockets(tmp_path: Path) -> None:
    process = sockets_of(tmp_path, dropped=3000, uptime_s=30.0)
    lost = check_sockets([process], tmp_path)
    assert lost.state is State.WARNING
    assert lost.value == pytest.approx(150.0)
    assert "executor (process 99) has lost 150 datagrams per second" in lost.sentence
    assert "config/fastdds.xml" in lost.sentence
    assert check_sockets([], tmp_path).state is State.UNSEEN
    (tmp_path / "99" / "fd" / "3").unlink()
    assert check_sockets([process], tmp_path).state is State.OK
