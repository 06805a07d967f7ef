"""Which camera images are added to the planning scene between and during motions."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from motion.scenes import depth_image
from ray_caster import home_robot

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.motion.collision import VoxelConfig
from stvla_ros.ros.scene_observer import SceneObserver
from stvla_ros.types import RgbdFrame, RobotState


class Inputs:
    """A camera and joint states, and the scene that gets images."""

    def __init__(self, hz: float = 2.0, useful: bool = True) -> None:
        self.stamp_ns, self.speed_rad_s, self.missing = 10**9, 0.0, False
        self.newer_ns = 0
        self.useful, self.accepts, self.error = useful, True, None
        self.seen: list[tuple[int, int]] = []
        self.defects: list[BaseException] = []
        config: Any = VoxelConfig(observe_hz=hz, observe_below_rad_s=1.0)
        me: Any = self
        self.observer = SceneObserver(me, me, self.observe, config, lambda: self.useful, self.defects.append)

    def wait(self, not_before_ns: int, cancel: CancelToken, timeout_s: float) -> RgbdFrame:
        assert timeout_s == 0.0
        return depth_image([], max(not_before_ns, self.newer_ns))

    def at(self, stamp_ns: int) -> RobotState:
        if self.missing:
            raise StageError(OutcomeCode.STALE_STATE, "Too far away.")
        state = home_robot(stamp_ns=stamp_ns)
        return RobotState(state.q_rad, np.full(7, self.speed_rad_s), state.T_base_tcp, 0.08, stamp_ns)

    def observe(self, frame: RgbdFrame, robot: RobotState) -> bool:
        if self.error:
            raise self.error
        self.seen.append((frame.stamp_ns, robot.stamp_ns))
        return self.accepts


def test_a_new_image_is_added_once_with_the_arm_at_its_stamp() -> None:
    inputs = Inputs()
    assert inputs.observer.look()
    assert not inputs.observer.look()
    inputs.stamp_ns = 2 * 10**9
    inputs.newer_ns = 3 * 10**9  # comes while the state is looked up
    assert inputs.observer.look()
    assert inputs.seen == [(10**9, 10**9), (3 * 10**9, 3 * 10**9)]
    assert inputs.observer.images == 2


def test_left_out_are_images_of_a_fast_arm_without_a_state_and_those_of_no_use() -> None:
    inputs = Inputs()
    inputs.speed_rad_s = 1.1
    assert not inputs.observer.look()
    inputs.speed_rad_s, inputs.missing = 0.9, True
    assert not inputs.observer.look()
    inputs.missing, inputs.useful = False, False
    assert not inputs.observer.look()
    assert inputs.seen == []
    inputs.useful, inputs.speed_rad_s = True, float("nan")
    assert inputs.observer.look()
    inputs.stamp_ns, inputs.accepts = 2 * 10**9, False
    assert not inputs.observer.look()
    assert inputs.observer.images == 1


def test_the_thread_looks_until_closed_and_a_defect_ends_it_alone() -> None:
    inputs = Inputs(hz=10.0)
    inputs.observer.start()
    while not inputs.seen:
        time.sleep(0.01)
    inputs.error, inputs.stamp_ns = RuntimeError("a defect"), 2 * 10**9
    while not inputs.defects:
        time.sleep(0.01)
    inputs.observer.close(10.0)
    assert inputs.defects == [inputs.error]
    idle = Inputs(hz=0.0)
    idle.observer.start()
    idle.observer.close(1.0)
    assert idle.seen == []
