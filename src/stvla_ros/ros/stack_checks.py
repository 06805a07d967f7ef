"""The findings of ``stvla doctor stack`` about what was heard of a running stack."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from stvla_ros.camera.settings import RealSenseConfig
from stvla_ros.config import ConfigError, build
from stvla_ros.doctor import host
from stvla_ros.doctor.camera import check_calibration_age, check_depth
from stvla_ros.doctor.finding import Finding, State, ok, told, unseen, warning, wrong
from stvla_ros.doctor.middleware import check_middleware, check_neighbours, check_sockets, find_processes
from stvla_ros.doctor.planner_server import check_server
from stvla_ros.doctor.streams import LOST, Source, check_clock, check_rate
from stvla_ros.doctor.workspace import Box, check_checkpoint
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import cloud
from stvla_ros.motion.executor import ExecutorConfig
from stvla_ros.planning.openai.planner import OpenAiConfig
from stvla_ros.ros.graph import BRAIN
from stvla_ros.ros.stack_view import ARM, COLOR, DEPTH, FINGERS, INFO, StackView, camera_of

NEEDED = ("executor", *BRAIN)
"""Nodes without which no task runs."""

LATENCY = "plan latency p50 / p95 [ms]"
"""Of the planner's diagnostics."""

BEATS_HZ = 5.0
"""A node sends ten heartbeats per second; with fewer than this its machine is overloaded, or the network loses them."""

BEHIND_S = 0.1
"""Heartbeats and joint states take milliseconds, so a larger delay is a clock."""

SOURCES = {
    COLOR: Source(
        "Colour image", 10.0, "executor.camera.color", "start the camera's driver",
        "give it light or a fixed exposure, a USB 3 port and cable, or a higher frame rate in the driver", 0.3, True,
    ),
    DEPTH: Source(
        "Depth image", 10.0, "executor.camera.depth", "start the camera's driver with depth aligned to colour",
        "give the camera a USB 3 port and cable, or a higher frame rate in the driver", 0.3, True,
    ),
    ARM: Source(
        "Joint states", 30.0, "robot.joint_states", "start the robot's driver",
        "raise the rate of its joint_state_broadcaster", BEHIND_S,
    ),
    FINGERS: Source(
        "Gripper's states", 5.0, "robot.gripper_joint_states", "start the gripper's driver",
        "raise the rate at which it publishes", 0.2,
    ),
}  # fmt: skip
"""The rates are judgements, not limits of the nodes: joint states may be 0.5 s old, and the arm must be seen to stand."""


def check_environment(rmw: str) -> Iterator[Finding]:
    """What needs no stack: middleware, discovery, other ROS programs, and the machine's resources."""
    yield from check_middleware(os.environ, rmw)
    processes = find_processes()
    yield check_neighbours(os.environ, rmw, processes)
    yield check_sockets(processes)
    shared = Path("/dev/shm")
    if shared.is_dir():
        yield host.check_shared_memory(shutil.disk_usage(shared).free)
    autogroup = Path("/proc/sys/kernel/sched_autogroup_enabled")
    grouped = autogroup.exists() and autogroup.read_text().strip() == "1"
    yield host.check_load(os.getloadavg()[0], len(os.sched_getaffinity(0)), grouped)


def check_disk(view: StackView | None, folder: Path) -> Finding:
    """Whether recordings of what was heard fit below a folder."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    rate = sum(stream.bytes_per_s for stream in view.streams.values()) if view else 0.0  # uncompressed
    return host.check_disk(place, shutil.disk_usage(place).free, rate or None)


def check_stack(view: StackView, ask: bool = True) -> Iterator[Finding]:
    """All findings about a stack, in the order in which they should be mended.

    Args:
        view: What was heard.
        ask: Ask the planner's server a question too, which takes as long as the model needs.
    """
    yield check_nodes(view)
    yield _stop(view)
    if view.beats:
        yield _troubles(view)
        yield check_clocks(view)
        yield from check_reports(view)
    yield from check_topics(view)
    yield from check_senses(view)
    yield check_policy(view)
    planner = view.nodes.get("planner", {})
    if planner.get("backend") == "openai":
        yield from check_server(build(OpenAiConfig, planner.get("openai", {}), "planner.openai"), ask)


def check_topics(view: StackView) -> Iterator[Finding]:
    """Rates of the topics, and the clocks that stamp them."""
    for part in (COLOR, DEPTH, ARM, FINGERS):
        if part in view.streams:
            yield _rate(part, view)
    for part in (COLOR, ARM):
        stream = view.streams.get(part)
        if stream is not None and len(stream.at_s):
            yield check_clock(f"Clock of {stream.topic}", stream, SOURCES[part].behind_s)


def _rate(part: str, view: StackView) -> Finding:
    """Drivers send a small camera info with each colour image, and none of it is lost: it tells colour's rate."""
    stream, source, info = view.streams[part], _source(part, view), view.streams.get(INFO)
    if part == COLOR and info is not None and len(stream.at_s) and len(info.at_s) > len(stream.at_s):
        return check_rate(replace(info, topic=stream.topic), replace(source, large=False))
    return check_rate(stream, source)


def _source(part: str, view: StackView) -> Source:
    """What a topic should be like; a RealSense that the stack drives has the rate of its settings."""
    source, camera = SOURCES[part], view.nodes.get("camera", {})
    if part in (COLOR, DEPTH) and "camera" in view.beats and camera.get("source") == "realsense":
        section = build(RealSenseConfig, camera.get("realsense", {}), "camera.realsense")
        return replace(source, least_hz=0.8 * section.rate_hz)
    return source


def check_reports(view: StackView) -> Iterator[Finding]:
    """How old the inputs of the nodes are, and how long plans take, as the nodes themselves say."""
    for what, limit_s, remedy in (
        ("image", camera_of(view.nodes).max_age_s, LOST),
        ("joint state", 0.5, "look at the robot's driver, and at the load of its machine"),
    ):
        ages = {
            node: float(r.values[f"{what} age [s]"])
            for node, r in view.reports.items()
            if f"{what} age [s]" in r.values
        }
        if ages:
            yield _oldest(f"Age of {what}s in the nodes", ages, limit_s, remedy)
    latency = next((r.values.get(LATENCY, "") for r in view.reports.values() if LATENCY in r.values), "")
    if latency:
        median_s = float(latency.split("/")[0]) / 1e3
        yield ok("Planner's latency", f"{latency} ms (median / 95th percentile of its plans)", value=median_s, unit="s")


def _oldest(name: str, ages: Mapping[str, float], limit_s: float, remedy: str) -> Finding:
    node = max(ages, key=lambda node: ages[node])
    age_s = ages[node]
    if age_s == float("inf"):
        return wrong(name, f"{node} has none that it can use", remedy)
    figure = f"at most {age_s:.2f} s ({node}); {limit_s:g} s are allowed"
    return ok(name, figure, value=age_s, unit="s") if age_s <= limit_s else wrong(name, figure, remedy, age_s, "s")


def check_nodes(view: StackView) -> Finding:
    """Whether all nodes are heard, and often enough."""
    name, heard = "Nodes", list(view.beats)
    missing = [node for node in NEEDED if node not in heard]
    if not heard:
        return wrong(
            name,
            "none was heard",
            "start `stvla up`; if it runs, see the lines about ROS domain, discovery and ROS programs",
            0.0,
        )
    if missing:
        return wrong(
            name,
            f"{len(heard)} heard ({', '.join(heard)}), not heard: {', '.join(missing)}",
            "it still loads a model, or has ended: look at its log; on another computer, see the line about discovery",
            float(len(heard)),
        )
    rare = {node: stream.rate_hz for node, stream in view.beats.items() if stream.rate_hz < BEATS_HZ}
    if rare:
        worst = min(rare, key=lambda node: rare[node])
        figure = f"{len(heard)} heard, {worst} sends {rare[worst]:.1f} heartbeats per second instead of 10"
        return warning(name, figure, "its machine is overloaded, or the network loses them", rare[worst], "Hz")
    return ok(name, f"{len(heard)} heard: {', '.join(heard)}", value=float(len(heard)))


def _stop(view: StackView) -> Finding:
    name, state = "Operator's stop", view.stop
    if not state.known:
        return unseen(name, "no node tells it")
    if state.stopped:
        return warning(name, state.sentence().rstrip("."), "`stvla stop --release` when the arm may move")
    return ok(name, state.sentence())


def _troubles(view: StackView) -> Finding:
    name = "Diagnostics"
    troubles = {node: report.trouble for node, report in view.reports.items() if report.trouble}
    if not troubles:
        return ok(name, "no node complains")
    node, trouble = next(iter(troubles.items()))
    more = f", and {len(troubles) - 1} more" if len(troubles) > 1 else ""
    return warning(name, f"{node} says: {trouble.rstrip('.')}{more}", "docs/troubleshooting.md explains each sentence")


def check_clocks(view: StackView) -> Finding:
    """The worst disagreement of clocks between the nodes and this machine, by their heartbeats."""
    found = [check_clock(f"Clock of {node}", stream, BEHIND_S) for node, stream in view.beats.items()]
    worst = max(found, key=lambda finding: abs(finding.value or 0.0))
    if worst.state is State.OK:
        return ok("Clocks of the nodes", f"within {abs(worst.value or 0.0) * 1e3:.0f} ms", value=worst.value, unit="s")
    node = worst.name.removeprefix("Clock of ")
    return wrong("Clocks of the nodes", f"{node}: {worst.figure}", worst.remedy, worst.value, "s")


def check_senses(view: StackView) -> Iterator[Finding]:
    """Images, depth, joint states and calibration."""
    usable = "usable, and placed in the base frame"
    if view.camera_fault is None:
        yield ok("Camera", usable)
    elif all(view.streams[part].publishers for part in (COLOR, DEPTH)):  # else the lines about them say it
        yield told("Camera", view.camera_fault)
    if view.joints_fault and view.streams[ARM].publishers:
        yield told("Arm's state", view.joints_fault)
    if view.frame is not None:
        yield check_depth(view.frame.depth_m)
    yield check_drift(view)
    yield check_calibration_age(str(view.nodes.get("camera", {}).get("place", {}).get("file", "")), time.time_ns())


def check_drift(view: StackView) -> Finding:
    """Whether the camera is where its transform says, by the arm in the image."""
    from stvla_ros.calibration.drift import LIMIT_DEG, LIMIT_M, measure

    name = "Calibration"
    if view.frame is None or view.state is None:
        return unseen(name, "not checked: no images and joint states were heard together")
    try:
        drift = measure([(view.frame, view.state)])
    except ConfigError as error:
        return unseen(name, str(error).rstrip("."))
    except StageError as error:
        if error.code is OutcomeCode.CAMERA_MOVED:
            return told(name, error.sentence)
        return unseen(
            name, error.sentence.rstrip("."), "move the arm into view, then `stvla calibrate --check --poses 4`"
        )
    if drift.exceeds(LIMIT_M, float(np.radians(LIMIT_DEG))):
        remedy = "`stvla calibrate --check --poses 4`, then calibrate"
        return wrong(name, f"drift {drift}", remedy, drift.shift_m, "m")
    return ok(name, f"drift {drift}", value=drift.shift_m, unit="m")


def check_policy(view: StackView) -> Finding:
    """The bounds of the policy's checkpoint against the executor's workspace and what the camera sees."""
    policy = view.nodes.get("policy", {})
    backend = str(policy.get("backend", "scripted"))
    c = build(ExecutorConfig, view.nodes.get("executor", {}).get("executor", {}), "executor.executor")
    workspace = Box(np.array([c.x_min_m, c.y_min_m, c.z_min_m]), np.array([c.x_max_m, c.y_max_m, c.z_max_m]))
    points = cloud(view.frame).reshape(3, -1).T if view.frame is not None else None
    return check_checkpoint(backend, str(policy.get(backend, {}).get("checkpoint", "")), workspace, points)
