"""A recorder that is killed (SIGKILL) leaves a bag that two libraries open, and in which less than a second is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from mcap.exceptions import EndOfFile
from mcap.records import Message
from mcap.stream_reader import StreamReader

from stvla_ros.ros.bag_files import opened
from stvla_ros.ros.bag_topics import JOINTS

PROGRAM = """
import sys, time
from rclpy.serialization import serialize_message
from ros.bags import shot
from ray_caster import home_robot
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.recorded_topics import recorded_topics
from stvla_ros.ros.robot_state import state_to_msg
from stvla_ros.ros.task_recorder import RecordSettings, TaskRecorder
settings = RecordSettings(root=sys.argv[1], when="now", free_gb=0.0)
recorder = TaskRecorder(settings, recorded_topics(CameraConfig(), RobotConfig()), {}, print, 10**7)
recorder.start()
print("on", flush=True)
for i in range(100000):
    ns = time.time_ns()
    recorder.take("/joint_states", serialize_message(state_to_msg(home_robot())), ns)
    for topic, message in shot(ns, i % 250).items() if i % 7 == 0 else ():
        recorder.take(f"/{topic}", serialize_message(message), ns)
    time.sleep(0.01)
"""


def killed(root: Path, after_s: float) -> tuple[Path, int]:
    """Its bag, and when it was killed [ns]."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root)], stdout=subprocess.PIPE, env=dict(os.environ), text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    at_ns = time.time_ns()
    process.wait()
    return next(root.glob("*/bag")), at_ns


def times(bag: Path) -> list[int]:
    """When the states of the arm were recorded, by our reader; another library must find as many."""
    with opened(bag) as read:
        ours = [ns for _, _, ns, _ in read.messages({"/joint_states": JOINTS})]
    count = 0
    with next(bag.glob("*.mcap")).open("rb") as file, suppress(EndOfFile):
        for record in StreamReader(file, emit_chunks=False).records:
            count += isinstance(record, Message)
    assert count > len(ours) > 0
    return ours


@pytest.mark.parametrize("after_s", np.random.default_rng(0).uniform(0.5, 3.0, 3).round(3).tolist())
def test_killed(tmp_path: Path, after_s: float) -> None:
    bag, at_ns = killed(tmp_path / "runs", after_s)
    found = times(bag)
    assert (at_ns - found[-1]) / 1e9 < 1.0
    assert np.diff(found).max() < 1e9
