"""After a recovery the first motion leads out of what the robot may touch, never straight on into it."""

from __future__ import annotations

import numpy as np
from motion.test_executor import ACROSS, Bench, over_block, xyz

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.types import JointPath


class Stopping(Bench):
    """A robot that stops itself on the way down to the block."""

    stops_at = 2

    def follow(self, path: JointPath, cancel: CancelToken) -> None:
        half = len(path.t_s) // 2
        if len(self.paths) + 1 != self.stops_at:
            super().follow(path, cancel)
            return
        super().follow(JointPath(path.q_rad[:half], path.dq_rad_s[:half], path.t_s[:half]), cancel)
        raise StageError(OutcomeCode.REFLEX, "The robot stopped itself.")


def stopped_over_the_block() -> Stopping:
    bench = Stopping(held_width_m=0.04)
    assert bench.fails(over_block(0.02), is_open=False, touch=True).code is OutcomeCode.REFLEX
    bench.requests.clear()
    bench.paths.clear()
    bench.stops_at = 0
    return bench


def test_without_a_recovery_the_arm_goes_on_down() -> None:
    bench = stopped_over_the_block()
    assert bench.state().T_base_tcp[2, 3] > 0.03
    bench.go(over_block(0.02), is_open=False, touch=True)
    assert [request.straight for request in bench.requests] == [True]


def test_after_a_recovery_the_first_motion_leads_back_along_the_tool() -> None:
    bench = stopped_over_the_block()
    start = bench.state().T_base_tcp
    bench.executor.recovered(bench.state())
    bench.go(over_block(0.02), is_open=True, touch=True)
    assert bench.requests[0].straight
    out = xyz(bench.paths[0])
    assert out[-1, 2] > start[2, 3] + 0.05
    np.testing.assert_allclose(out[:, :2], np.broadcast_to(start[:2, 3], out[:, :2].shape), atol=1e-3)
    np.testing.assert_allclose(bench.state().T_base_tcp[:3, 3], over_block(0.02)[:3, 3], atol=1e-3)


def test_elsewhere_too_and_only_once() -> None:
    bench = stopped_over_the_block()
    bench.executor.recovered(bench.state())
    bench.go(tool_down([0.4, -0.2, 0.2], ACROSS))
    assert [request.straight for request in bench.requests] == [True, False]
    bench.requests.clear()
    bench.go(tool_down([0.4, -0.2, 0.1], ACROSS))
    assert [request.straight for request in bench.requests] == [False]


def test_what_the_hand_holds_is_asked_of_the_fingers() -> None:
    bench = Bench(held_width_m=0.04)
    bench.go(over_block(0.02), is_open=False, touch=True)
    assert bench.executor.holds(bench.state())
    bench.executor.recovered(bench.state())
    assert bench.executor.holds(bench.state())
    bench.go(over_block(0.2), is_open=False)
    assert bench.requests[-1].world.held is not None
