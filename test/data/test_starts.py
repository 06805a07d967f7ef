"""Demonstrations that start elsewhere than at home, as after an earlier step of a long task."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from stvla_ros import registry
from stvla_ros.data.collect_environment import START_M, CollectEnvironmentSetup, start_elsewhere
from stvla_ros.data.episode import Episode
from stvla_ros.data.replay import observations
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.evaluate.episode import EpisodeSpec as Scene
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.sim.cell import Cell


def test_the_arm_is_anywhere_over_the_table_and_touches_nothing() -> None:
    cell = Cell()
    try:
        cell.reset("put_groceries", 200_001)
        states = []
        for seed in range(12):
            start_elsewhere(cell, seed)
            states.append(cell.state())
            assert not any(cell.robot_touches(o.name) for o in cell.task.objects)  # type: ignore[union-attr]
    finally:
        cell.close()
    tools = np.array([state.T_base_tcp for state in states])
    low, high = START_M
    assert ((tools[:, :3, 3] >= low - 1e-4) & (tools[:, :3, 3] <= high + 1e-4)).all()
    assert np.ptp(tools[:, 0, 3]) > 0.1 < np.ptp(tools[:, 1, 3])
    np.testing.assert_allclose(tools[:, :3, 2] @ [0, 0, -1], 1.0, atol=1e-4)
    assert {round(state.gripper_m, 2) for state in states} == {0.0, 0.08}


def test_the_share_of_the_episodes_starts_there_and_succeeds(tmp_path: Path) -> None:
    scene = Scene("push_buttons", 200_018)
    with CollectEnvironmentSetup(StackSettings(), tmp_path, starts=1.0).open() as environment:
        assert environment.run(scene).success
    (folder,) = tmp_path.iterdir()
    start = Episode(folder)[0].robot.T_base_tcp
    assert np.linalg.norm(start[:3, 3] - tcp_pose(HOME_Q_RAD)[:3, 3]) > 0.02


def test_a_step_of_a_long_task_is_recorded_as_the_policy_saw_it(tmp_path: Path) -> None:
    """A scene of two presses: before the second one, once the tool is up again, the policy knows of no keypose."""
    with CollectEnvironmentSetup(StackSettings(), tmp_path).open() as environment:
        record = next(
            r
            for seed in range(200_000, 200_030)
            if (r := environment.run(Scene("push_buttons", seed))).facts["asked_presses"] == 2
        )
    assert record.success
    (folder,) = tmp_path.glob(f"push_buttons-{record.seed}")
    episode = Episode(folder)
    counts = [len(episode.history(i)) for i in range(len(episode))]
    steps = [step.plan.step_index for step in episode]
    again = counts.index(0, 1)
    assert steps[again] == 1
    assert not episode.keyposes[again - 1].may_collide
    assert [
        frame.get("history") for frame in json.loads((folder / "episode.json").read_text())["looks"] if frame["keypose"]
    ][again] == 0
    guide = SpatialGuide(registry.create("segmenter", "geometric"), GuideConfig())
    told = [observation.instruction for observation in observations(episode, guide)]
    first, second = (f"push the {name} button" for name in re.findall(r"the (\w+) button", episode.instruction))
    assert told == [first] * again + [second] * (len(episode) - again)
    robot = episode[again].robot.T_base_tcp[:3, 3]
    assert np.linalg.norm(robot - episode.keyposes[again - 1].T_base_tcp[:3, 3]) < 0.01
