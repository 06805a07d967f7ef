"""What reaches a decision's hash, and what does not."""

from dataclasses import replace
from math import nan

import numpy as np
import pytest

from stvla_ros.errors import OutcomeCode
from stvla_ros.replay.canonical import blocks, canonical, decision_hash, hash_of, whole
from stvla_ros.replay.values import Decision, Kind, Masking
from stvla_ros.types import JointPath, Keypose, Outcome, TracePlan

OK = Outcome(OutcomeCode.OK, "")
KEYPOSE = Keypose(np.eye(4), gripper_open=True)
PREDICT = Decision(3, Kind.PREDICT, OK, keypose=KEYPOSE)
MASKING = Masking("full", (1, 2), (5,), 0.1, removed=np.eye(48, 64, dtype=bool), digest="ab")
GUIDE = Decision(2, Kind.GUIDE, OK, masking=MASKING)
OFFSETS = np.zeros(8)
PLAN = TracePlan("Do it.", "do it", np.full((8, 2), 500.0), 0.9, OFFSETS, 0, False, "colour", "raw", 17, "a1")
PLANNED = Decision(0, Kind.PLAN, OK, plan=PLAN)


def moved(by_m: float) -> Decision:
    T = np.eye(4)
    T[0, 3] = by_m
    return replace(PREDICT, keypose=replace(KEYPOSE, T_base_tcp=T))


def turned(by_deg: float) -> Decision:
    T, a = np.eye(4), np.radians(by_deg)
    T[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return replace(PREDICT, keypose=replace(KEYPOSE, T_base_tcp=T))


def flipped(x: int) -> Decision:
    mask = np.array(MASKING.removed)
    mask[0, x] ^= True
    return replace(GUIDE, masking=replace(MASKING, removed=mask))


@pytest.mark.parametrize(
    ("decision", "other"),
    [
        (PREDICT, replace(PREDICT, number=9, seconds=1.5)),
        (PREDICT, replace(PREDICT, keypose=replace(KEYPOSE, stamp_ns=5))),
        (PREDICT, moved(2e-5)),
        (PREDICT, turned(0.003)),
        (PLANNED, replace(PLANNED, plan=replace(PLAN, plan_id="b2", raw_reply="other", image_stamp_ns=3))),
        (GUIDE, replace(GUIDE, masking=replace(MASKING, kept_ids=(8, 9), digest="cd", notes=("A note.",)))),
        (replace(GUIDE, masking=replace(MASKING, removed=np.zeros((48, 64), bool))),) * 2,
        (replace(PREDICT, outcome=replace(OK, sentence="a")), replace(PREDICT, outcome=replace(OK, sentence="b"))),
    ],
)
def test_the_same_decision(decision: Decision, other: Decision) -> None:
    assert decision_hash([decision]) == decision_hash([other])


@pytest.mark.parametrize(
    ("decision", "other"),
    [
        (PREDICT, moved(1.1e-4)),
        (PREDICT, turned(0.02)),
        (PREDICT, replace(PREDICT, keypose=replace(KEYPOSE, gripper_open=False))),
        (PREDICT, replace(PREDICT, keypose=replace(KEYPOSE, may_collide=True))),
        (PREDICT, replace(PREDICT, keypose=None, path_complete=True)),
        (PREDICT, replace(PREDICT, keypose=None, outcome=Outcome(OutcomeCode.NO_DEPTH, ""))),
        (PLANNED, replace(PLANNED, plan=replace(PLAN, sub_instruction="do that"))),
        (PLANNED, replace(PLANNED, plan=replace(PLAN, finished=True))),
        (PLANNED, replace(PLANNED, lifting=OK)),
        (GUIDE, flipped(7)),
        (GUIDE, replace(GUIDE, masking=replace(MASKING, kept_ids=(1,)))),
    ],
)
def test_another_decision(decision: Decision, other: Decision) -> None:
    assert decision_hash([decision]) != decision_hash([other])


def test_an_empty_mask_is_no_mask() -> None:
    empty = replace(GUIDE, masking=replace(MASKING, removed=np.zeros((48, 64), bool)))
    assert canonical(empty)["mask"]["bits"] is None


def test_the_order_counts() -> None:
    assert decision_hash([PREDICT, GUIDE]) != decision_hash([GUIDE, PREDICT])


def test_a_motion_is_its_ways_and_its_ends() -> None:
    q = np.linspace(0.0, 0.1, 20)[:, None] * np.ones(7)
    path = JointPath(q, np.zeros_like(q), np.linspace(0.0, 1.0, 20))
    moving = Decision(1, Kind.MOVE, Outcome(OutcomeCode.REFLEX, "The robot stopped itself."), paths=(path,))
    form = canonical(moving)
    assert "outcome" not in form  # how the arm followed is not decided here
    assert form["ways"][0]["seconds"] == [100]
    assert len(form["ways"][0]["joints"]) == 9 * 7
    slower = replace(moving, paths=(JointPath(q, np.zeros_like(q), np.linspace(0.0, 1.1, 20)),))
    assert decision_hash([slower]) != decision_hash([moving])


def test_whole_steps() -> None:
    assert whole([0.0, -0.0, 0.00026, nan], 1e-4) == [0, 0, 3, None]


def test_blocks_count_every_pixel_once() -> None:
    mask = np.ones((50, 70), bool)
    assert len(blocks(mask)) == 16
    assert sum(blocks(mask)) == 50 * 70


def test_the_hash_of_a_known_form() -> None:
    """Computed with sha256sum: it must not change between versions, because files keep it."""
    assert hash_of([{"kind": "guide", "outcome": "OK"}]) == (
        "264336a3326ea025b3a25bd53c351c2a13cc8c14a70ee2d22e501d6f5bd105f4"
    )
