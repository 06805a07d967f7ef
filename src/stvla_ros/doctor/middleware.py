"""Discovery and middleware: which programs can hear each other, judged by the variables of their environments."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.doctor.finding import Finding, ok, unseen, warning, wrong

DOMAIN, RMW, PROFILE = "ROS_DOMAIN_ID", "RMW_IMPLEMENTATION", "FASTRTPS_DEFAULT_PROFILES_FILE"
RANGE, PEERS, LOCALHOST_ONLY = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY"
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")

MAX_DOMAIN, SAFE_DOMAIN = 232, 101
"""Domains above the first do not exist (DDS); ports of those above the second overlap with Linux's outgoing ones."""

FAST_DDS, DEFAULT_RMW = "rmw_fastrtps_cpp", "rmw_fastrtps_cpp"
NODES = "stvla_ros.nodes."

FEW_LOST_PER_S = 1.0
"""Datagrams that a process may lose. Images that come over UDP lose a hundred per second; without them none is lost."""


@dataclass(frozen=True)
class RosProcess:
    """A ROS program of this user on this machine.

    Attributes:
        pid: Its number.
        name: Of the node's module, or of the program.
        environment: Its variables, as it was started.
    """

    pid: int
    name: str
    environment: Mapping[str, str]


def find_processes(folder: Path = Path("/proc")) -> list[RosProcess]:
    """The ROS programs that run, except this one; only those whose environment this user may read."""
    return list(_processes(folder))


def _processes(folder: Path) -> Iterator[RosProcess]:
    for place in folder.glob("[0-9]*"):
        if place.name == str(os.getpid()):
            continue
        with suppress(OSError):  # it has just ended, or is somebody else's
            words = [word.decode(errors="replace") for word in (place / "cmdline").read_bytes().split(b"\0")]
            name = _node_name(words)
            if name:
                pairs = (place / "environ").read_bytes().decode(errors="replace").split("\0")
                yield RosProcess(int(place.name), name, dict(pair.split("=", 1) for pair in pairs if "=" in pair))


def _node_name(words: list[str]) -> str:
    """What to call a program with these arguments; empty if it is not of ROS."""
    ours = next((word for word in words if word.startswith(NODES)), "")
    if ours or "--ros-args" not in words:
        return ours.removeprefix(NODES)
    renamed = next((word for word in words if word.startswith("__node:=")), "")
    programs = [word for word in words[: words.index("--ros-args")] if not word.startswith("-")]
    return renamed.removeprefix("__node:=") or Path(programs[1 if len(programs) > 1 else 0]).name


def check_middleware(mine: Mapping[str, str], rmw: str) -> list[Finding]:
    """Whether this shell's variables let programs find each other.

    Args:
        mine: The environment.
        rmw: The middleware that is loaded.
    """
    return [_domain(mine), _range(mine), _profile(mine, rmw)]


def _domain(mine: Mapping[str, str]) -> Finding:
    name, text = "ROS domain", mine.get(DOMAIN) or "0"
    if not text.isdecimal() or int(text) > MAX_DOMAIN:
        return wrong(name, f"{DOMAIN} is '{text}'", f"set it to 0 to {SAFE_DOMAIN}, the same in every shell")
    if int(text) > SAFE_DOMAIN:
        return warning(name, f"{text}: its ports overlap with those of outgoing connections", f"use 0 to {SAFE_DOMAIN}")
    return ok(name, f"{text} ({DOMAIN})")


def _range(mine: Mapping[str, str]) -> Finding:
    name, text, peers = "Discovery", mine.get(RANGE) or "SUBNET", mine.get(PEERS, "")
    if mine.get(LOCALHOST_ONLY) == "1":  # the older variable wins, as in rcl
        return ok(
            name,
            f"this computer only ({LOCALHOST_ONLY}=1)",
            f"for nodes elsewhere unset it on both, and set {RANGE}=SUBNET",
        )
    if text not in RANGES:
        return wrong(name, f"{RANGE} is '{text}'", f"set it to one of {', '.join(RANGES)}")
    if text == "OFF":
        return wrong(name, f"{RANGE}=OFF: no program finds another one", "set it to LOCALHOST or SUBNET")
    if text == "LOCALHOST" and not peers:
        return ok(
            name,
            f"this computer only ({RANGE}=LOCALHOST)",
            f"for nodes elsewhere set {RANGE}=SUBNET on both, or name the other in {PEERS}",
        )
    where = "this computer" if text == "LOCALHOST" else "this computer and its subnet"
    return ok(
        name,
        f"{where}{f' and {peers}' if peers else ''} ({RANGE}={text})",
        f"a node elsewhere that is not heard: name its computer in {PEERS}, and open UDP from 7400 on in its firewall",
    )


def _profile(mine: Mapping[str, str], rmw: str) -> Finding:
    name, profile = "Middleware", mine.get(PROFILE, "")
    if rmw != FAST_DDS:
        return warning(
            name,
            f"{rmw}; the stack is tested with {FAST_DDS}, and its transport profile is for that",
            f"use one middleware for all programs: unset {RMW}, or set it to {FAST_DDS}",
        )
    if profile and not Path(profile).is_file():
        return wrong(
            name, f"{PROFILE} names {profile}, which is not there", "set it to config/fastdds.xml, or unset it"
        )
    if not profile:
        return warning(
            name,
            f"{rmw} without a profile: images between processes get lost",
            f"export {PROFILE}=config/fastdds.xml for camera drivers; `stvla up` sets it for its nodes",
        )
    return ok(name, f"{rmw} with {profile}")


def check_neighbours(mine: Mapping[str, str], rmw: str, processes: Iterable[RosProcess]) -> Finding:
    """Whether the ROS programs of this machine are in this shell's domain and use its middleware."""
    name, found = "ROS programs here", list(processes)
    domain = mine.get(DOMAIN) or "0"
    elsewhere = [p for p in found if (p.environment.get(DOMAIN) or "0") != domain]
    hidden = [p for p in found if p.environment.get(RANGE) == "OFF"]
    foreign = [p for p in found if (p.environment.get(RMW) or DEFAULT_RMW) != rmw]
    ours = [p for p in elsewhere if p.name in _OUR_NODES]
    if hidden:
        return wrong(name, f"{_named(hidden)}: started with {RANGE}=OFF", "start it again with LOCALHOST or SUBNET")
    if foreign:
        other = foreign[0].environment.get(RMW) or DEFAULT_RMW
        return wrong(
            name,
            f"{_named(foreign)}: with {other}, this shell uses {rmw}",
            f"set {RMW} to the same for all, and start anew",
        )
    if ours and len(elsewhere) == len(found):
        other = ours[0].environment.get(DOMAIN) or "0"
        return wrong(
            name, f"{_named(ours)}: in ROS domain {other}, this shell is in {domain}", f"export {DOMAIN}={other} here"
        )
    if elsewhere:
        others = ", ".join(sorted({p.environment.get(DOMAIN) or "0" for p in elsewhere}, key=str))
        return ok(
            name,
            f"{len(found) - len(elsewhere)} in domain {domain}, {len(elsewhere)} in domain {others}",
            f"if one of {_named(elsewhere)} is not heard, give it and this shell the same {DOMAIN}",
        )
    return ok(name, f"{len(found)} in domain {domain}", value=float(len(found)))


def check_sockets(processes: Iterable[RosProcess], folder: Path = Path("/proc")) -> Finding:
    """Whether datagrams were lost because a program's socket was full (Linux): answers to requests were among them."""
    name, found = "Sockets", list(processes)
    if not found:
        return unseen(name, "no ROS program runs here")
    rate, worst = max(((lost_per_s(p.pid, folder), p) for p in found), key=lambda pair: pair[0])
    if rate <= FEW_LOST_PER_S:
        return ok(name, f"at most {rate:.1f} datagrams per second were lost", value=rate, unit="Hz")
    return warning(
        name,
        f"{_named([worst])} has lost {rate:.0f} datagrams per second, maybe answers to requests too",
        "images come over UDP: list the camera's topics in config/fastdds.xml, as reader and as writer, and let the camera's "
        f"driver use it ({PROFILE})",
        rate,
        "Hz",
    )


def lost_per_s(pid: int, folder: Path = Path("/proc")) -> float:
    """Datagrams that were dropped at a process's UDP sockets, per second since its start; 0 if that cannot be read."""
    try:
        dropped = sum(int(words[-1]) for words in udp_sockets(pid, folder))
        started = int((folder / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf(
            "SC_CLK_TCK"
        )
        age_s = float((folder / "uptime").read_text().split()[0]) - started
    except OSError:  # it has ended, or is somebody else's
        return 0.0
    return dropped / max(age_s, 1.0)


def udp_sockets(pid: int, folder: Path = Path("/proc")) -> Iterator[list[str]]:
    """The words of the kernel's tables about each UDP socket of a process (Linux, proc(5)). Raises OSError."""
    sockets = set()
    for file in (folder / str(pid) / "fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            sockets.add(os.readlink(file))
    for table in ("udp", "udp6"):
        for line in (folder / "net" / table).read_text().splitlines()[1:]:
            words = line.split()
            if f"socket:[{words[9]}]" in sockets:
                yield words


_OUR_NODES = ("sim", "franka", "camera", "planner", "guidance", "policy", "executor", "task", "composed", "record")


def _named(processes: list[RosProcess]) -> str:
    more = f" and {len(processes) - 3} more" if len(processes) > 3 else ""
    return ", ".join(f"{p.name} (process {p.pid})" for p in processes[:3]) + more
