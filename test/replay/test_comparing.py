"""Numbers and sentences about two decisions at one moment."""

from dataclasses import replace

import numpy as np
import pytest

from stvla_ros.errors import OutcomeCode
from stvla_ros.replay.comparing import OTHER_ANSWER, compare, iou
from stvla_ros.replay.values import Comparison, Decision, Kind, Masking, Moment
from stvla_ros.types import JointPath, Keypose, Outcome, Trace3d, TracePlan

OK = Outcome(OutcomeCode.OK, "")
PLAN = TracePlan("Do it.", "do it", np.full((8, 2), 500.0), 0.9, np.zeros(8), 0, False, "colour", "", 17, "a1")
PREDICT = Decision(0, Kind.PREDICT, OK, keypose=Keypose(np.eye(4), gripper_open=True))


def moments(count: int) -> list[Moment]:
    """Half a second apart."""
    return [Moment(i, Kind.PREDICT, 0, 10**9 + i * 500_000_000, None, "Do it.") for i in range(count)]


def compared(a: list[Decision], b: list[Decision]) -> Comparison:
    number = lambda of: [replace(d, number=i) for i, d in enumerate(of)]  # noqa: E731
    return compare(moments(len(a)), number(a), number(b), ("then", "now"))


def off(x_m: float = 0.0, turned_deg: float = 0.0, **more: bool) -> Decision:
    T, a = np.eye(4), np.radians(turned_deg)
    T[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    T[0, 3] = x_m
    assert PREDICT.keypose is not None
    return replace(PREDICT, keypose=replace(PREDICT.keypose, T_base_tcp=T, **more))


def test_millimetres_and_degrees_of_a_keypose() -> None:
    found = compared([PREDICT], [off(0.004, 3.0)]).differences[0]
    assert found.position_mm == pytest.approx(4.0)
    assert found.rotation_deg == pytest.approx(3.0)
    assert found.severity == pytest.approx(1.5)
    assert found.sentence == "the keypose is 4.0 mm and 3.00 deg off"


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (off(gripper_open=False), "the hand closes instead"),
        (replace(PREDICT, keypose=None, path_complete=True), "a keypose became 'path complete'"),
        (
            replace(PREDICT, keypose=None, outcome=Outcome(OutcomeCode.NO_DEPTH, "Too little.")),
            "OK became NO_DEPTH (Too little.)",
        ),
    ],
)
def test_another_kind_of_answer_is_worst(other: Decision, sentence: str) -> None:
    found = compared([PREDICT, PREDICT], [off(0.1), other])
    assert found.worst[0].number == 1
    assert found.worst[0].severity == OTHER_ANSWER
    assert sentence in found.worst[0].sentence


def test_the_headline_has_the_first_and_the_worst() -> None:
    found = compared([PREDICT] * 4, [PREDICT, off(0.002), PREDICT, off(0.030)])
    assert found.first is not None
    assert found.first.number == 1
    assert [d.number for d in found.worst] == [3, 1]
    assert found.headline == (
        "Now parts from then first at 0.50 s (predict, moment 1): the keypose is 2.0 mm and 0.00 deg off; "
        "2 of 4 decisions differ, most at 1.50 s (predict, moment 3): the keypose is 30.0 mm and 0.00 deg off."
    )


def test_nothing_in_common() -> None:
    assert compare(moments(1), [PREDICT], [], ("then", "now")).headline.startswith("Nothing to compare")


def masking(*columns: int) -> Masking:
    mask = np.zeros((10, 10), bool)
    mask[:, list(columns)] = True
    return Masking("full", (1,), (2,), 0.0, removed=mask)


def test_masks() -> None:
    assert iou(masking(0, 1), masking(1, 2)) == pytest.approx(1 / 3)
    assert iou(masking(), masking()) == 1.0
    assert iou(masking(1), replace(masking(), removed=None)) == 0.0
    assert iou(replace(masking(), removed=None), masking()) == 1.0
    a, b = (Decision(0, Kind.GUIDE, OK, masking=m) for m in (masking(0, 1), masking(0)))
    found = compared([a], [b]).differences[0]
    assert found.mask_iou == 0.5
    assert found.sentence == "the masks share 50.00 %"


def lifted(shift_m: tuple[float, float, float], points: int = 5, bend_m: float = 0.0) -> Decision:
    xyz = np.linspace([0.4, 0.0, 0.1], [0.6, 0.2, 0.1], points) + np.array(shift_m)
    xyz[:, 2] += bend_m * np.linspace(-1, 1, points)
    trace = Trace3d(xyz.astype(np.float32), np.ones(points, np.uint8), "a1", "do it")
    return Decision(0, Kind.PLAN, OK, plan=PLAN, trace=trace, lifting=OK)


def test_paths_with_another_number_of_points() -> None:
    found = compared([lifted((0, 0, 0), 5)], [lifted((0, 0, 0.01), 9)]).differences[0]
    assert found.path_rmse_mm == pytest.approx(10.0, abs=1e-3)


def test_a_common_shift_is_named_and_another_difference_is_not() -> None:
    assert "(+20, +0, +0) mm" in compared([lifted((0, 0, 0))], [lifted((0.02, 0, 0))]).headline
    assert "beside" not in compared([lifted((0, 0, 0))], [lifted((0, 0, 0), bend_m=0.02)]).headline


def test_a_shift_of_a_path_that_was_drawn_elsewhere_is_no_shift_of_the_camera() -> None:
    elsewhere = replace(lifted((0.02, 0, 0)), plan=replace(PLAN, uv=PLAN.uv + 5.0))
    found = compared([lifted((0, 0, 0))], [elsewhere])
    assert "beside" not in found.headline
    assert found.differences[0].drawn_rmse == pytest.approx(5.0 * 2**0.5)


def test_ways_of_the_tool() -> None:
    q = np.linspace(0.0, 0.1, 20)[:, None] * np.ones(7)
    fast, slow = (JointPath(q, np.zeros_like(q), np.linspace(0.0, s, 20)) for s in (1.0, 2.0))
    a, b, c = (Decision(0, Kind.MOVE, OK, paths=paths) for paths in ((fast,), (slow,), (fast, fast)))
    assert compared([a], [b]).differences[0].sentence == "the motion takes 2.00 s instead of 1.00 s"
    assert "1 motions became 2" in compared([a], [c]).differences[0].sentence
    assert compared([a], [a]).first is None
