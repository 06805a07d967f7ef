"""The weights that come with the package: these bytes, these answers."""

from collections.abc import Iterator

import numpy as np
import pytest
from policy.seen import observation

from stvla_ros import registry
from stvla_ros.evaluate.stack import StackSettings, make_guide
from stvla_ros.files import digest
from stvla_ros.planning.colour import ColourConfig, ColourPlanner
from stvla_ros.policy.learned import WEIGHTS, FlowmatchActorPolicy
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.types import Observation, PlanRequest

DIGEST = "355cb26f523017789b399c00877ce11e4345048a5d394d58ecc9f2593b93d902"


@pytest.fixture(scope="module")
def policy() -> FlowmatchActorPolicy:
    made: FlowmatchActorPolicy = registry.create("policy", "3dfa")
    return made


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell(CellConfig())
    yield made
    made.close()


def test_these_bytes() -> None:
    assert digest(WEIGHTS) == DIGEST
    assert WEIGHTS.stat().st_size < 4e6


def test_golden_output() -> None:
    """On a ray-cast scene: what the network computes, not whether it is right."""
    xyz_m, quaternion, p_open = registry.create("policy", "3dfa", {"samples": 1})._sample(observation())
    np.testing.assert_allclose(xyz_m, [0.63004, -0.20603, 0.10376], atol=1e-3)
    np.testing.assert_allclose(quaternion, [0.96102, -0.2726, 0.04052, -0.02205], atol=3e-3)
    assert p_open == pytest.approx(0.99996, abs=1e-3)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("task", "height_m", "gripper_open"),
    [("pick_place", 0.1, True), ("stack_cube", 0.1, True), ("push_buttons", 0.133, False)],
)
def test_the_first_keypose_is_above_what_the_words_ask_for(
    policy: FlowmatchActorPolicy, cell: Cell, task: str, height_m: float, gripper_open: bool, seed: int
) -> None:
    """In colours that training named and in others; 6 mm were seen at most."""
    words = cell.reset(task, seed)
    frame, robot, guide = cell.render(), cell.state(), make_guide(StackSettings())
    trace = guide.lift(ColourPlanner(ColourConfig()).plan(PlanRequest(words, frame, robot)), frame)
    keypose = policy.predict(Observation(guide.guide(trace, frame, robot), robot, (), words))
    assert keypose is not None
    assert keypose.gripper_open == gripper_open
    assert cell.task is not None
    target = cell.truth().T_base_object[cell.task.objects[0].name][:3, 3]
    np.testing.assert_allclose(keypose.T_base_tcp[:3, 3] - target, [0.0, 0.0, height_m], atol=0.015)
