"""The scripted policy: its sequence in a world without physics, replanned often and never, disturbed and failing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_world import PaperWorld
from ray_caster import Scene, block, button, front_camera, home_robot, plate

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.pipeline import LocalStages, LoopConfig, TaskResult, run_task
from stvla_ros.planning.colour import ColourConfig, ColourPlanner
from stvla_ros.policy.scripted import ScriptedConfig, ScriptedPolicy
from stvla_ros.types import Guidance, Keypose, Observation, Trace3d

PUT, STACK = "Put the red block in the plate.", "Stack the red block on the blue block."
PUSH = "Push the red button, then push the blue button."


def table() -> list:
    return [block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.2), block("blue", 0.6, 0.0, 1.0), block("green", 0.4, 0.25)]


def run(world: PaperWorld, words: str, k: int, max_keyposes: int = 25) -> TaskResult:
    guide = SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig())
    stages = LocalStages(world, world, ColourPlanner(ColourConfig()), guide, ScriptedPolicy(ScriptedConfig()), world)
    return run_task(
        stages, words, LoopConfig(keyposes_per_plan=k, max_keyposes=max_keyposes), CancelToken(), background=False
    )


EVERY_K = pytest.mark.parametrize("k", [1, 2, 3, 25])


def names(result: TaskResult) -> list[str]:
    """What each keypose does, by its flags."""
    kinds = {(True, False): "open", (False, True): "grasp", (False, False): "closed", (True, True): "release"}
    return [kinds[kp.gripper_open, kp.may_collide] for kp in result.keyposes]


@EVERY_K
def test_pick_and_place(k: int) -> None:
    world = PaperWorld(table())
    result = run(world, PUT, k)
    assert result.outcome.ok, result.outcome
    assert names(result)[:6] == ["open", "grasp", "closed", "closed", "release", "open"]
    assert len(result.keyposes) <= 7
    np.testing.assert_allclose(world.things[0].centre_m, [0.45, -0.2, 0.031], atol=0.006)


@EVERY_K
def test_stacking(k: int) -> None:
    world = PaperWorld(table())
    result = run(world, STACK, k)
    assert result.outcome.ok, result.outcome
    np.testing.assert_allclose(world.things[0].centre_m, [0.6, 0.0, 0.063], atol=0.006)


@EVERY_K
def test_buttons_in_order(k: int) -> None:
    world = PaperWorld([*button("red", 0.5, 0.1), *button("blue", 0.45, -0.15), *button("green", 0.6, 0.2)])
    result = run(world, PUSH, k)
    assert result.outcome.ok, result.outcome
    np.testing.assert_allclose([t[:2] for t in world.touched], [[0.5, 0.1], [0.45, -0.15]], atol=0.006)
    tips = [t[2] - 0.009 for t in world.touched]
    assert all(0.037 - 0.008 < tip < 0.037 - 0.003 for tip in tips)


class Kicked(PaperWorld):
    """Somebody moves the block while the tool is on its way to it."""

    kicks = 1

    def execute(self, keypose, frame, trace, cancel):  # type: ignore[no-untyped-def]
        if self.kicks and not keypose.may_collide:
            self.kicks -= 1
            self.things[0] = replace(self.things[0], centre_m=(0.55, 0.2, 0.02))
        return super().execute(keypose, frame, trace, cancel)


@pytest.mark.parametrize("k", [1, 2])
def test_a_block_that_is_moved_under_way_is_followed(k: int) -> None:
    world = Kicked(table())
    result = run(world, PUT, k)
    assert result.outcome.ok, result.outcome
    np.testing.assert_allclose(world.things[0].centre_m, [0.45, -0.2, 0.031], atol=0.006)


class Slippery(PaperWorld):
    """The first grasp closes on nothing."""

    failures = 1

    def execute(self, keypose, frame, trace, cancel):  # type: ignore[no-untyped-def]
        closing = keypose.may_collide and not keypose.gripper_open
        self.grips = not (closing and self.failures)
        self.failures -= closing and bool(self.failures)
        return super().execute(keypose, frame, trace, cancel)


@EVERY_K
def test_a_failed_grasp_is_tried_again(k: int) -> None:
    world = Slippery(table())
    result = run(world, PUT, k)
    assert result.outcome.ok, result.outcome
    assert world.failures == 0
    assert len(world.touched) == 3


def test_a_grasp_that_always_fails_is_no_success() -> None:
    result = run(PaperWorld(table(), grips=False), PUT, 2, max_keyposes=4)
    assert result.outcome.code is OutcomeCode.STEP_LIMIT


def observation(path_m: np.ndarray, words: str, tool_m: tuple[float, float, float] = (0.4, 0.0, 0.4)) -> Observation:
    frame, _ = Scene([block("red", 0.5, 0.1)]).render(front_camera(160, 120))
    trace = Trace3d(path_m.astype(np.float32), np.full(len(path_m), 2, np.uint8), "p", words)
    guidance = Guidance(trace, 0.05, (1,), (), frame, "mask_only")
    return Observation(guidance, replace(home_robot(), T_base_tcp=tool_down(tool_m, 0.0)), (), words)


PLACE = st.tuples(st.floats(0.3, 0.7), st.floats(-0.35, 0.35), st.floats(0.0, 0.3))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(PLACE, min_size=2, max_size=6), PLACE, st.sampled_from(["push the red button", "pick up the red block"])
)
def test_keyposes_are_proper_and_in_bounds(
    path: list[tuple[float, float, float]], tool: tuple[float, float, float], words: str
) -> None:
    keypose = ScriptedPolicy(ScriptedConfig()).predict(observation(np.array(path), words, tool))
    if keypose is not None:
        R, p = keypose.T_base_tcp[:3, :3], keypose.T_base_tcp[:3, 3]
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)
        assert np.isfinite(p).all()
        assert 0 <= p[2] < 0.8


def test_a_path_that_leads_out_of_bounds_is_refused() -> None:
    path = np.array([[0.95, 0.0, 0.04], [0.95, 0.0, 0.04]])
    with pytest.raises(StageError, match=r"outside x 0\.15 to 0\.85") as caught:
        ScriptedPolicy(ScriptedConfig()).predict(observation(path, "push the red button"))
    assert caught.value.code is OutcomeCode.KEYPOSE_OUT_OF_BOUNDS


def test_nothing_to_grasp_at_the_start_means_nothing_to_do() -> None:
    path = np.array([[0.6, -0.2, 0.02], [0.5, 0.0, 0.2], [0.45, 0.2, 0.03]])
    assert ScriptedPolicy(ScriptedConfig()).predict(observation(path, "pick up the red block")) is None


def test_the_release_height_follows_what_is_seen_not_only_the_path() -> None:
    """The path ends 2 cm too high above a block; the support and the held block's length decide."""
    held, support = block("red", 0.5, 0.0, z=0.25), block("blue", 0.5, 0.0)
    frame, _ = Scene([held, support]).render()
    path = np.array([[0.5, 0.2, 0.02], [0.5, 0.0, 0.25], [0.5, 0.0, 0.083]])
    trace = Trace3d(path.astype(np.float32), np.full(3, 2, np.uint8), "p", "pick up the red block and stack it")
    robot = replace(
        home_robot(0.04), T_base_tcp=tool_down([0.5, 0.0, 0.255], np.pi / 2)
    )  # gripped 5 mm above its middle
    history = (Keypose(robot.T_base_tcp, False),)
    seen = Observation(Guidance(trace, 0.05, (1,), (), frame, "mask_only"), robot, history, STACK)
    keypose = ScriptedPolicy(ScriptedConfig()).predict(seen)
    assert keypose is not None
    assert (keypose.gripper_open, keypose.may_collide) == (True, True)
    assert keypose.T_base_tcp[2, 3] == pytest.approx(0.04 + 0.025 + 0.003, abs=0.002)
