"""An episode of the real loop in the real cell: guidance run again gives the policy's input bit for bit."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from stvla_ros import registry
from stvla_ros.data.collect_environment import LastFrameCell, RecordingStages
from stvla_ros.data.episode import Episode, EpisodeWriter, Verdict
from stvla_ros.data.replay import observations
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.errors import CancelToken
from stvla_ros.evaluate.stack import StackSettings, build_stages
from stvla_ros.perception.guide import SpatialGuide
from stvla_ros.pipeline import LoopConfig, TaskResult, run_task
from stvla_ros.types import Camera, Guidance, Keypose, Observation, RgbdFrame, RobotState, Trace3d

SETTINGS = StackSettings(loop=LoopConfig(keyposes_per_plan=2)).with_noise()
RARELY = StackSettings(loop=LoopConfig(keyposes_per_plan=25))
"""The policy comes to the end of a path: it looks, and no keypose comes of it."""


class Listening:
    """A policy that keeps what it was given and what it said."""

    def __init__(self, policy: object) -> None:
        self._policy = policy
        self.heard: list[tuple[Observation, Keypose | None]] = []

    def predict(self, observation: Observation) -> Keypose | None:
        keypose = self._policy.predict(observation)  # type: ignore[attr-defined]
        self.heard.append((observation, keypose))
        return keypose


@pytest.fixture(scope="module", params=[SETTINGS, RARELY], ids=["noise", "rarely"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Episode, Listening, TaskResult]:
    folder = tmp_path_factory.mktemp("data") / "episode"
    settings: StackSettings = request.param
    cell = LastFrameCell(settings.cell)
    try:
        instruction = cell.reset("push_buttons", 5)
        stages = build_stages(settings, cell)
        policy = Listening(stages._policy)
        stages._policy = policy
        writer = EpisodeWriter(folder)
        written = RecordingStages(stages, cell, writer)
        result = run_task(written, instruction, settings.loop, CancelToken(), background=False)
        writer.close("push_buttons", 5, instruction, Verdict(result.outcome.code, result.outcome.sentence))
    finally:
        cell.close()
    return Episode(folder), policy, result


def predicted(policy: Listening, result: TaskResult) -> list[Keypose]:
    """Executed keyposes without the loop's own ways home."""
    said = {k.T_base_tcp.tobytes() for _, k in policy.heard if k is not None}
    return [k for k in result.keyposes if k.T_base_tcp.tobytes() in said]


def assert_equal(a: object, b: object, where: str) -> None:
    """All fields of two values, bit for bit."""
    for f in fields(a):  # type: ignore[arg-type]
        x, y, name = getattr(a, f.name), getattr(b, f.name), f"{where}.{f.name}"
        if isinstance(x, (RgbdFrame, Camera, Guidance, Trace3d, RobotState, Keypose)):
            assert_equal(x, y, name)
        elif isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, name
            assert x.tobytes() == y.tobytes(), name
        elif isinstance(x, tuple) and x and hasattr(x[0], "__dataclass_fields__"):
            assert len(x) == len(y), name
            for i, (p, q) in enumerate(zip(x, y, strict=True)):
                assert_equal(p, q, f"{name}[{i}]")
        else:
            assert x == y, name


def test_the_policy_input_is_reproduced_bit_for_bit(run: tuple[Episode, Listening, TaskResult]) -> None:
    episode, policy, result = run
    assert result.outcome.ok, result.outcome
    segmenter = registry.create("segmenter", "geometric")
    seen = list(observations(episode, SpatialGuide(segmenter, SETTINGS.guide)))
    heard = [(o, k) for o, k in policy.heard if k is not None]
    assert len(seen) == len(heard) == len(predicted(policy, result)) >= 3
    for i, (observation, keypose, (was, said)) in enumerate(zip(seen, episode.keyposes, heard, strict=True)):
        assert_equal(was, observation, f"observation {i}")
        assert_equal(said, keypose, f"keypose {i}")


def test_every_guided_frame_is_there(
    run: tuple[Episode, Listening, TaskResult], request: pytest.FixtureRequest
) -> None:
    episode, policy, _ = run
    guided = list(episode.guided_frames())
    assert len(guided) == len(policy.heard)
    assert [g.step is not None for g in guided] == [k is not None for _, k in policy.heard]
    if "rarely" in request.node.name:
        assert any(g.step is None for g in guided)


def test_executed_keyposes_and_history(run: tuple[Episode, Listening, TaskResult]) -> None:
    episode, policy, result = run
    executed = predicted(policy, result)
    done = [replace(k, stamp_ns=0) for k in executed]
    for i, (was, found) in enumerate(zip(done, episode.keyposes, strict=True)):
        assert_equal(was, replace(found, stamp_ns=0), f"keypose {i}")
    last = episode[-1]
    for was, found in zip(executed[-1 - len(last.history) : -1], last.history, strict=True):
        assert_equal(was, found, "history")
    assert episode[0].history == ()


def test_a_way_home_is_no_answer_of_the_policy(
    run: tuple[Episode, Listening, TaskResult], request: pytest.FixtureRequest
) -> None:
    """In this scene the arm hides a button, and steps out of the view."""
    episode, _, result = run
    home = tcp_pose(HOME_Q_RAD)
    ways = [k for k in result.keyposes if np.allclose(k.T_base_tcp, home)]
    assert bool(ways) == ("noise" in request.node.name)
    assert not any(np.allclose(k.T_base_tcp, home) for step in episode for k in (step.keypose, *step.history))
