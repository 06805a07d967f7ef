"""Shared memory of killed processes is cleared away, that of living ones is not."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import rclpy
import stalls
from sensor_msgs.msg import Image
from std_msgs.msg import String
from stvla_msgs.msg import Heartbeat

from stvla_ros.doctor.middleware import udp_sockets
from stvla_ros.ros import qos
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.graph import middleware_profile
from stvla_ros.ros.shared_memory import DIRECTORY, listened_ports, lost_ports, remove_orphans

TESTS = Path(__file__).parents[1]
IMAGE = Image(height=480, width=640, encoding="rgb8", step=1920, data=bytes(480 * 1920))


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


def test_a_node_whose_port_is_gone_still_speaks_and_ends_to_be_started_again(start, ros):
    """What Fast DDS does to a living process now and then: no image would reach it any more, but all else does."""
    heard = []
    node = ros.add(rclpy.create_node("listener"))
    node.create_subscription(Heartbeat, "stvla/heartbeat", lambda m: heard.append(time.monotonic()), qos.HEARTBEAT)
    process = start("stvla_ros.nodes.policy")
    folder, until = Path(f"/proc/{process.popen.pid}"), time.monotonic() + 20.0
    while not heard:
        assert time.monotonic() < until, process.output
        time.sleep(0.02)
    ports = listened_ports(process=folder)
    assert ports
    assert lost_ports(process=folder) == []
    for port in ports:
        (DIRECTORY / port).unlink()
    gone = time.monotonic()
    assert lost_ports(process=folder) == sorted(ports)
    assert process.wait(20.0) == 0
    assert "The middleware lost fastrtps_port" in process.output
    assert heard[-1] > gone


def test_a_client_has_no_shared_memory(domain):
    program = (
        "from stvla_ros.ros.client import client_node\n"
        "from stvla_ros.ros.shared_memory import listened_ports\n"
        "with client_node():\n"
        "    print(listened_ports())\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "set()", answer.stdout + answer.stderr


def test_dds_profile_sends_small_traffic_over_udp_alone() -> None:
    """What rides on shared memory can get lost for good beside processes that come and go: images only."""
    name = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"
    profile = ElementTree.parse(middleware_profile()).getroot()
    for kind in ("data_writer", "data_reader"):  # of a writer: where its readers answer
        ends = profile.findall(f".//{name}{kind}")
        default = [end for end in ends if end.get("is_default_profile") == "true"]
        assert [[where.tag for where in locator] for locator in default[0].iter(f"{name}locator")] == [[f"{name}udpv4"]]
        others = [str(end.get("profile_name")) for end in ends if end is not default[0]]
        assert all("image" in topic or topic in ("/stvla/guidance", "/stvla/overlay") for topic in others)
        assert {CameraConfig().color, CameraConfig().depth} <= {topic.removeprefix("/") for topic in others}


@pytest.fixture
def hearer(start, ros):
    """Another process that has heard this one, and what it hears: an image, and words."""
    node = ros.add(rclpy.create_node("speaker"))
    color = node.create_publisher(Image, CameraConfig().color, qos.IMAGE)
    words = node.create_publisher(String, "words", qos.EVENT)
    process = start("system.hearer", env={"PYTHONPATH": str(TESTS)})
    until = stalls.clock() + 20.0
    while not {"image", "at first"} <= set(process.output.split("\n")):
        assert stalls.clock() < until, process.output
        color.publish(IMAGE)
        words.publish(String(data="at first"))
        time.sleep(0.1)
    return process, color, words


def test_images_do_not_fill_the_sockets_that_answers_come_through(hearer):
    """They did: a reliable writer of images that had UDP alone for its readers' answers sent the images over it too."""
    process, color, _ = hearer
    os.kill(process.popen.pid, signal.SIGSTOP)
    before = waiting(process.popen.pid)
    for _ in range(3):
        color.publish(IMAGE)
        time.sleep(0.05)
    after = waiting(process.popen.pid)
    os.kill(process.popen.pid, signal.SIGCONT)
    assert max(after[port] - before.get(port, 0) for port in after) < 50_000


def test_what_a_full_socket_lost_comes_with_the_next_heartbeat(hearer):
    """By default the writer would tell its reader of it after 3 s: later than anybody waits for an answer."""
    process, _, words = hearer
    os.kill(process.popen.pid, signal.SIGSTOP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in waiting(process.popen.pid):
            for _ in range(600):  # small ones, too: what is left of the room
                sender.sendto(bytes(60_000), ("127.0.0.1", port))
                sender.sendto(b"x", ("127.0.0.1", port))
    words.publish(String(data="lost"))
    time.sleep(0.05)
    os.kill(process.popen.pid, signal.SIGCONT)
    until = stalls.clock() + 1.5
    while "lost" not in process.output.split("\n"):
        assert stalls.clock() < until, process.output
        time.sleep(0.01)


def waiting(pid):
    """{port: bytes not read yet} of a process's UDP sockets (Linux)."""
    return {
        int(local.rpartition(":")[2], 16): int(queues.rpartition(":")[2], 16)
        for _, local, _, _, queues, *_ in udp_sockets(pid)
    }


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
