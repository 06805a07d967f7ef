"""A bag of our own stack becomes an episode of what the stack decided, without planning again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_plans import make_plan
from ray_caster import home_robot
from ros import bags
from ros.bags import START, STORE, TENTH, Told, arm, shot, static
from rosbags.typesys import get_types_from_msg
from stvla_msgs.msg import KeyposeDecision, MotionDecision, PlanDecision, TaskEnd, TaskState
from stvla_msgs.msg import RobotState as RobotStateMsg

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import USAGE
from stvla_ros.data.episode import Episode
from stvla_ros.data.lerobot.reader import LeRobotSet
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry import se3
from stvla_ros.ros import convert
from stvla_ros.types import Keypose, TracePlan

MESSAGES = Path(__file__).resolve().parents[2] / "src" / "stvla_msgs" / "msg"
WORDS = "Put the red block in the plate."
BASE = "panda_link0"
SIMULATED_NS = 50_000_000_000


def _register() -> None:
    types: dict[str, Any] = {}
    for path in sorted(MESSAGES.glob("*.msg")):
        types |= get_types_from_msg(path.read_text(), f"stvla_msgs/msg/{path.stem}")
    STORE.register({name: fields for name, fields in types.items() if name not in STORE.fielddefs})
    for kind in (PlanDecision, KeyposeDecision, MotionDecision, TaskEnd):
        bags.KINDS[kind] = f"stvla_msgs/msg/{kind.__name__}"


_register()


def plan(i: int) -> TracePlan:
    drawn = make_plan(np.random.default_rng(i).uniform(0, 1000, (8, 2)), np.zeros(8), 0.5)
    return replace(drawn, plan_id=f"p{i}", instruction=WORDS, raw_reply=f"reply {i}", finished=i == 2)


def keypose(i: int) -> Keypose:
    T = se3.pose(se3.from_quaternion([1.0, 0.1 * i, 0.0, 0.0]), [0.4, 0.1 * i, 0.2])
    return Keypose(T, i != 1, i == 1)  # without a stamp, as policies make them


def state(stamp_ns: int) -> RobotStateMsg:
    home = home_robot()
    return RobotStateMsg(
        header=convert.header(stamp_ns, BASE), q_rad=home.q_rad + 0.01, dq_rad_s=np.zeros(7), gripper_m=0.07
    )


def decisions(zero_ns: int, failed: bool) -> Iterator[tuple[int, str, Any]]:
    """After how many tenths of a second, topic, message: two plans, three keyposes (one more refused), the end."""
    ok, refused = convert.ok_msg(), convert.error_to_msg(StageError(OutcomeCode.NO_IK, "Out of reach."))
    at = [zero_ns + i * TENTH for i in range(40)]
    for number, image in ((0, 2), (1, 20), (2, 34)):
        drawn = convert.plan_to_msg(plan(number))
        head, image_stamp = convert.header(at[image + 1], BASE), convert.ns_to_time(at[image])
        yield (
            image + 1,
            "stvla/decisions/plan",
            PlanDecision(header=head, instruction=WORDS, image_stamp=image_stamp, outcome=ok, plan=drawn),
        )
    for i, (image, number) in enumerate(((4, 0), (12, 0), (16, 0), (22, 1))):
        wanted = convert.keypose_to_msg(keypose(i), BASE)
        head = convert.header(at[image] + 5, BASE)
        yield image + 1, "stvla/decisions/keypose", KeyposeDecision(
            header=head, instruction=WORDS, plan_id=f"p{number}", image_stamp=convert.ns_to_time(at[image]),
            robot=state(at[image] + 9), outcome=ok, keypose=wanted,
        )  # fmt: skip
        outcome = refused if i == 2 else ok
        head = convert.header(at[image + 3], BASE)
        yield (
            image + 3,
            "stvla/decisions/motion",
            MotionDecision(header=head, plan_id=f"p{number}", keypose=wanted, outcome=outcome),
        )
    yield (
        36,
        "stvla/task_end",
        TaskEnd(
            header=convert.header(at[36], ""),
            outcome=refused if failed else convert.ok_msg("Done."),
            state=TaskState(instruction=WORDS),
        ),
    )


def recorded(folder: Path, failed: bool = False, zero_ns: int = START) -> Path:
    """40 pictures at 10 Hz with the arm, and decisions; stamped from ``zero_ns`` on."""
    told: list[Told] = [(START, "tf_static", static())]
    for i in range(40):
        told += [(START + i * TENTH, topic, message) for topic, message in shot(zero_ns + i * TENTH, i).items()]
        told.append((START + i * TENTH, "joint_states", arm(zero_ns + i * TENTH, home_robot())))
    told += [(START + after * TENTH + 1, topic, message) for after, topic, message in decisions(zero_ns, failed)]
    return bags.write(folder, sorted(told, key=lambda one: one[0]))


def collect(source: Path, output: Path, *more: str) -> int:
    return main(["collect", "--from", str(source), "--output", str(output), *more])


@pytest.mark.parametrize("zero_ns", [START, SIMULATED_NS])
def test_plans_keyposes_words_and_outcome_are_the_recorded_ones(tmp_path: Path, zero_ns: int) -> None:
    assert collect(recorded(tmp_path / "bag", zero_ns=zero_ns), tmp_path / "data") == 0
    episode = Episode(tmp_path / "data" / "episodes" / "bag")
    assert (episode.instruction, episode.outcome.code, episode.outcome.sentence) == (WORDS, OutcomeCode.OK, "Done.")
    assert [drawn.raw_reply for drawn in episode.plans] == ["reply 0", "reply 1", "reply 2"]
    assert [episode.plan_frame(i).rgb[0, 0, 0] for i in range(3)] == [2, 20, 34]
    assert [int(step.frame.rgb[0, 0, 0]) for step in episode] == [4, 12, 22]  # the refused one is left out
    for i, step in zip((0, 1, 3), episode, strict=True):
        np.testing.assert_allclose(step.keypose.T_base_tcp, keypose(i).T_base_tcp, atol=1e-12)
        assert (step.keypose.gripper_open, step.keypose.may_collide) == (i != 1, i == 1)
        np.testing.assert_allclose(step.robot.q_rad, home_robot().q_rad + 0.01)
        assert step.robot.stamp_ns - step.frame.stamp_ns == 9
        assert step.keypose.stamp_ns == 0
    assert [step.plan.plan_id for step in episode] == ["p0", "p0", "p1"]
    assert episode.history(1)[0].stamp_ns - episode[0].frame.stamp_ns == 3 * TENTH
    assert [drawn.image_stamp_ns - episode.plans[0].image_stamp_ns for drawn in episode.plans] == [
        0,
        18 * TENTH,
        32 * TENTH,
    ]


def test_a_folder_of_runs_takes_the_successful_ones_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, data = tmp_path / "runs", tmp_path / "data"
    recorded(runs / "one" / "bag")
    recorded(runs / "two" / "bag", failed=True)
    bags.usual(runs / "three" / "bag")  # of somebody else, without an arm
    assert collect(runs, data) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 episodes of 3 recordings" in said
    assert "not a successful task (NO_IK: Out of reach.): --failures takes it too" in said
    assert [path.name for path in (data / "episodes").iterdir()] == ["one-bag"]
    assert {path.name for path in (data / "records").iterdir()} == {"two-bag.json", "three-bag.json"}
    before = (data / "episodes/one-bag/episode.json").stat().st_mtime_ns
    assert collect(runs, data) == 0
    assert "Rejected" not in capsys.readouterr().out
    assert (data / "episodes/one-bag/episode.json").stat().st_mtime_ns == before
    (data / "records/two-bag.json").unlink()
    assert collect(runs, data, "--failures") == 0
    assert Episode(data / "episodes/two-bag").outcome.code is OutcomeCode.NO_IK
    assert "does not say what was done" in json.loads((data / "records/three-bag.json").read_text())["sentence"]


def test_one_failed_task_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect(recorded(tmp_path / "bag", failed=True), tmp_path / "data") == USAGE
    assert "not a successful task (NO_IK: Out of reach.)" in capsys.readouterr().err
    assert not list((tmp_path / "data").glob("episodes/*"))


def test_a_bag_is_exported_with_its_plans_and_keyposes(tmp_path: Path) -> None:
    bag = recorded(tmp_path / "bag")
    assert main(["export", "lerobot", str(bag), "--output", str(tmp_path / "set"), "--color", "png"]) == 0
    found = LeRobotSet(tmp_path / "set")
    assert (found.fps, found.episodes[0].instruction) == (10, WORDS)
    names = ["plan.index", "plan.uv", "keypose.index", "keypose.predicted_here", "action", "next.success"]
    rows = list(found.rows(found.episodes[0], names))
    assert len(rows) == 40
    assert [row["plan.index"] for row in rows] == [-1] * 2 + [0] * 18 + [1] * 14 + [2] * 6
    assert [i for i, row in enumerate(rows) if row["keypose.predicted_here"]] == [4, 12, 22]
    assert [row["keypose.index"] for row in rows] == [0] * 7 + [1] * 8 + [2] * 25
    np.testing.assert_array_equal(rows[30]["plan.uv"], plan(1).uv.ravel())
    np.testing.assert_allclose(rows[30]["action"][:3], keypose(3).T_base_tcp[:3, 3])
    assert rows[-1]["next.success"]
