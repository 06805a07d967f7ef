"""A recorder that is killed (SIGKILL) leaves a bag that two libraries open, and in which less than a second is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.exceptions import EndOfFile
from mcap.records import Message
from mcap.stream_reader import StreamReader

from stvla_ros.ros.bag import JOINTS
from stvla_ros.ros.bag_files import opened

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
for i in range(100000):
    ns = time.time_ns()
    recorder.take("/joint_states", serialize_message(state_to_msg(home_robot())), ns)
    print(ns, flush=True)
    for topic, message in shot(ns, i % 250).items() if i % 7 == 0 else ():
        recorder.take(f"/{topic}", serialize_message(message), ns)
    time.sleep(0.01)
"""


def killed(root: Path, states: int) -> tuple[Path, int]:
    """Its bag, and when the last state of the arm had come [ns]; it is killed when so many have."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(root)], stdout=subprocess.PIPE, env=dict(os.environ), text=True
    )
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(states)]
    process.kill()
    told += process.stdout.readlines()
    process.wait()
    return next(root.glob("*/bag")), int(told[-1])


def times(bag: Path) -> list[int]:
    """When the states of the arm were recorded, by our reader; another library must find as many."""
    with opened(bag) as read:
        ours = [ns for _, _, ns, _ in read.messages({"/joint_states": JOINTS})]
    theirs: list[Any] = []
    with next(bag.glob("*.mcap")).open("rb") as file, pytest.raises(EndOfFile):
        theirs.extend(StreamReader(file).records)
    assert sum(isinstance(record, Message) for record in theirs) > len(ours) > 0
    return ours


@pytest.mark.parametrize("states", np.random.default_rng(0).integers(60, 250, 3).tolist())
def test_killed(tmp_path: Path, states: int) -> None:
    bag, last_ns = killed(tmp_path / "runs", states)
    found = times(bag)
    assert (last_ns - found[-1]) / 1e9 < 1.0
    assert len(found) > states - 100
