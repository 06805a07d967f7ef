"""The middleware's shared memory: remove what killed processes leave there, and notice when a process has lost its
port.

Fast DDS gives each participant a segment in ``/dev/shm`` for the data it sends (32 MB with our profile), and a port
on which others announce data: a small segment ``fastrtps_portN``. The owner of either holds a lock on a file next to
it, which shows others that it is alive. Both files remain after ``kill -9``.

When a participant ends while another one starts, Fast DDS 2.14 can mistake the port of a living process for that of a
dead one and remove it (docs/decisions/0008-transports.md). The owner does not notice, and everything sent to it is
lost.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import time
from pathlib import Path

from rclpy.node import Node

from stvla_ros.ros.freshness import STEADY

DIRECTORY = Path("/dev/shm")
_LOCK = re.compile(r"(fastrtps_[0-9a-f]{16})_el")
_PORT_LOCK = re.compile(r"fastrtps_port[0-9]+_el$")

CHECK_S = 2.0
"""Interval at which a node that reads images checks its ports."""


def remove_orphans(directory: Path = DIRECTORY, older_than_s: float = 10.0) -> int:
    """Remove segments whose owner is gone, except those of other users.

    Args:
        directory: Where the segments are.
        older_than_s: Newer segments stay: their owner may be about to take its lock.

    Returns:
        Number of bytes freed.
    """
    freed = 0
    for lock in directory.glob("fastrtps_*_el"):
        match = _LOCK.fullmatch(lock.name)
        if match and _age_s(lock) >= older_than_s:
            freed += _remove(directory / match[1], lock)
    return freed


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _remove(segment: Path, lock: Path) -> int:
    """Remove a segment; returns the bytes freed: 0 when the lock is held or the files belong to another user."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = segment.stat().st_size if segment.exists() else 0
            segment.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
    except OSError:  # in use, gone meanwhile, or another user's
        return 0
    return size


def end_without_port(node: Node) -> None:
    """Check the ports of this process regularly, and end it when one is gone, so that its supervisor restarts it.

    For nodes that read images, which come through shared memory: they would never receive one again.
    """
    before: set[str] = set()

    def look() -> None:
        nonlocal before
        now = set(lost_ports())
        if gone := before & now:  # seen twice: a port may just be being created again
            names = ", ".join(sorted(gone))
            node.get_logger().fatal(
                f"The middleware lost {names}, on which images arrive: the node ends, so that it is restarted."
            )
            os.kill(os.getpid(), signal.SIGTERM)
        before = now

    node.create_timer(CHECK_S, look, clock=STEADY)


def lost_ports(directory: Path = DIRECTORY, process: Path = Path("/proc/self")) -> list[str]:
    """Ports that a process listens on whose segment is not the one that others find under its name.

    Args:
        directory: Where the segments are.
        process: Its folder in /proc.
    """
    own = listened_ports(directory, process)
    return [
        name
        for name, inode in _mapped_ports(process / "maps", directory)
        if name in own and _inode(directory / name) != inode
    ]


def listened_ports(directory: Path = DIRECTORY, process: Path = Path("/proc/self")) -> set[str]:
    """Ports that a process listens on: it holds their lock files open, even if they were removed."""
    files = (_target(link) for link in (process / "fd").iterdir())
    return {file.name.removesuffix("_el") for file in files if file.parent == directory and _PORT_LOCK.match(file.name)}


def _mapped_ports(maps: Path, directory: Path) -> set[tuple[str, int]]:
    """Name and inode of the ports mapped by the process, including removed ones."""
    rows = (
        line.split(maxsplit=5) for line in maps.read_text(errors="replace").splitlines() if "/fastrtps_port" in line
    )
    paths = ((Path(row[5].removesuffix(" (deleted)")), int(row[4])) for row in rows)
    return {(path.name, inode) for path, inode in paths if path.parent == directory}


def _target(link: Path) -> Path:
    try:
        return Path(os.readlink(link).removesuffix(" (deleted)"))
    except OSError:  # closed meanwhile
        return Path()


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
