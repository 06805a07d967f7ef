"""The stack on a bag that brings its own time: a player with /clock, in a pause, slow, fast, and from the beginning."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros.bags import record_scene
from stvla_msgs.msg import Outcome, TracePlan
from system.bag_player import BagPlayer
from system.brain_harness import BrainHarness, PretendedExecutor, wait
from system.test_bag import write_bag

from stvla_ros.data.recording import Recording
from stvla_ros.errors import CancelToken
from stvla_ros.ros import qos
from stvla_ros.ros.convert import ns_to_time, time_to_ns
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.freshness import MAX_AHEAD_S
from stvla_ros.ros.robot_state import JointStateConfig, JointStates

BRAIN = ("planner", "guidance", "policy", "task")
SIM_TIME = {f"{name}__use_sim_time": "true" for name in BRAIN}


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """6 s of a small camera in which nothing moves."""
    recorded = Recording(record_scene(tmp_path / "recording"))[0]
    return write_bag(tmp_path / "bag", recorded, frames=60)


def test_the_stack_on_a_bag_with_a_clock(ros: Any, start: Callable[..., Any], bag: Path) -> None:
    """What ``ros2 bag play --clock`` does to the nodes; ages are seen from a receiver in this process."""
    harness = BrainHarness(ros, start)
    executor = ros.add(PretendedExecutor(1.0))
    listener = ros.add(Node("listener", parameter_overrides=[Parameter("use_sim_time", value=True)]))
    frames, joints = RgbdReceiver(listener, CameraConfig()), JointStates(listener, JointStateConfig())
    harness.start("composed", **SIM_TIME)
    player = BagPlayer(harness.node, next(bag.glob("*.db3")))
    try:
        frames.wait(0, CancelToken(), 20.0)
        plan = harness.lifted()
        assert player.first_ns <= time_to_ns(plan.header.stamp) <= player.last_ns

        player.rate = 0.0
        time.sleep(0.2)
        paused = frames.age_s(), joints.age_s()
        plan = harness.lifted()
        time.sleep(1.0)
        assert (frames.age_s(), joints.age_s()) == paused
        result = harness.predict(plan.plan_id)
        assert result.outcome.code == Outcome.OK, result.outcome.sentence

        for rate in (0.5, 2.0):
            player.rate = rate
            player.jump_back()
            harness.lifted()

        player.rate, outcome, cancel = 1.0, list[Any](), CancelToken()
        player.jump_back()
        task = threading.Thread(target=lambda: outcome.append(harness.task(cancel=cancel)), daemon=True)
        task.start()
        wait(lambda: executor.asked or not task.is_alive())
        player.jump_back()
        wait(lambda: executor.asked > 1 or not task.is_alive())
        cancel.cancel()
        task.join(30.0)
        assert executor.asked > 1, outcome[0].outcome
        assert outcome[0].outcome.code == Outcome.CANCELED, outcome[0].outcome
    finally:
        player.close()


def test_a_step_back_in_time_may_be_small(ros: Any, start: Callable[..., Any], bag: Path) -> None:
    """By no more than stamps may be ahead: the plan from before is not the newer one."""
    harness = BrainHarness(ros, start)
    harness.start("composed", **SIM_TIME)
    player = BagPlayer(harness.node, next(bag.glob("*.db3")))
    player.rate = 0.05
    publisher = harness.node.create_publisher(TracePlan, "stvla/plan", qos.LATCHED)
    numbers = count()

    def lifts_another(plan: TracePlan) -> bool:
        """Whether a plan on the bag's first image is taken."""
        plan.plan_id, plan.header.stamp = f"first {next(numbers)}", ns_to_time(player.first_ns)
        publisher.publish(plan)
        return bool(harness.trace(plan.plan_id).outcome.code == Outcome.OK)

    def lifts_one_of_the_first_image(plan: TracePlan) -> bool:
        """The image comes again with each jump: one that overtakes the clock is forgotten when the clock steps back."""
        player.jump_back()
        time.sleep(0.3)
        return lifts_another(plan)

    try:
        wait(lambda: time_to_ns(harness.lifted().header.stamp) > player.first_ns)
        plan = harness.lifted()
        assert time_to_ns(plan.header.stamp) - player.first_ns <= MAX_AHEAD_S * 1e9
        assert not lifts_another(plan)
        player.rate = 0.0
        wait(lambda: lifts_one_of_the_first_image(plan), 10.0)
    finally:
        player.close()


def test_a_recorded_camera_gives_the_time(ros: Any, start: Callable[..., Any], bag: Path) -> None:
    harness = BrainHarness(ros, start)
    camera = {"camera__path": str(bag), "camera__publish_clock": "true", "camera__speed": "2.0"}
    began_s = time.monotonic()
    harness.start("camera", "composed", **camera, **SIM_TIME)
    plan = harness.lifted()
    stamp_s = (time_to_ns(plan.header.stamp) - Recording(bag.parent / "recording")[0].frame.stamp_ns) / 1e9
    assert 0.0 <= stamp_s <= 2.0 * (time.monotonic() - began_s)
    result = harness.predict(plan.plan_id)
    assert result.outcome.code == Outcome.OK, result.outcome.sentence
