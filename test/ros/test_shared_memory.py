"""Shared memory of killed processes is cleared away, that of living ones is not."""

import fcntl
import os
import signal
import time

import rclpy.utilities  # noqa: F401 - this folder needs ROS

from stvla_ros.ros.shared_memory import DIRECTORY, remove_orphans


def segment(directory, name):
    (directory / name).write_bytes(b"x" * 1000)
    lock = directory / f"{name}_el"
    lock.touch()
    return lock


def test_only_unlocked_segments_go(tmp_path):
    segment(tmp_path, "fastrtps_0123456789abcdef")
    held = segment(tmp_path, "fastrtps_fedcba9876543210")
    port = segment(tmp_path, "fastrtps_port7001")
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert remove_orphans(tmp_path) == 0, "too young"
        assert remove_orphans(tmp_path, 0.0) == 1000
        assert remove_orphans(tmp_path, 0.0) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["fastrtps_fedcba9876543210", held.name, "fastrtps_port7001", port.name]
    )


def test_a_killed_node_leaves_nothing(start, ros):
    """With the real middleware: what its lock looks like is Fast DDS's business."""
    before = {p.name for p in DIRECTORY.glob("fastrtps_*_el")}
    process = start("stvla_ros.nodes.policy")
    until = time.monotonic() + 20.0
    while not (new := mine(process.popen.pid) - before) and time.monotonic() < until:
        time.sleep(0.1)
    assert new, process.output
    time.sleep(1.0)
    remove_orphans(older_than_s=0.5)
    assert new <= {p.name for p in DIRECTORY.iterdir()}, "the living keep theirs"
    os.kill(process.popen.pid, signal.SIGKILL)
    process.popen.wait(10.0)
    remove_orphans(older_than_s=0.5)
    assert not new & {p.name for p in DIRECTORY.iterdir()}


def mine(pid):
    """Names of the segments' locks that a process holds open."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        name = os.path.basename(target)
        if target.startswith(str(DIRECTORY)) and name.endswith("_el") and "port" not in name:
            found.add(name)
    return found
