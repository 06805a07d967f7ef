"""The recorder beside a running stack: one goal is one bag, with what every stage was given and decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from system.brain_harness import wait
from system.robot_harness import MORE_SLACK, StackHarness

from stvla_ros.cli import main
from stvla_ros.data.episode import Episode
from stvla_ros.errors import OutcomeCode
from stvla_ros.ros import decisions
from stvla_ros.ros.bag import Bag
from stvla_ros.ros.graph import GraphOptions
from stvla_ros.ros.recorded_topics import TASK_END

WORDS = "Push the red button."
SCENE = {"sim.task": "push_buttons", "sim.seed": "55"}
KINDS = {
    f"/{decisions.PLAN}": ("stvla_msgs/msg/PlanDecision", decisions.plan_decision_from_msg),
    f"/{decisions.GUIDANCE}": ("stvla_msgs/msg/GuidanceDecision", decisions.guidance_decision_from_msg),
    f"/{decisions.KEYPOSE}": ("stvla_msgs/msg/KeyposeDecision", decisions.keypose_decision_from_msg),
    f"/{decisions.MOTION}": ("stvla_msgs/msg/MotionDecision", decisions.motion_decision_from_msg),
    TASK_END: ("stvla_msgs/msg/TaskEnd", decisions.task_end_from_msg),
}


def decided(bag: Path) -> dict[str, list[Any]]:
    """The last word of a decision's topic -> its values, in order."""
    found: dict[str, list[Any]] = {topic.rpartition("/")[2]: [] for topic in KINDS}
    for entry in Bag(bag, {topic: kind for topic, (kind, _) in KINDS.items()}, {}):
        found[entry.topic.rpartition("/")[2]].append(KINDS[entry.topic][1](entry.message))
    return found


def test_a_goal_and_what_becomes_of_its_recording(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    options = GraphOptions(mode="composed", record="all", overrides={**MORE_SLACK, **SCENE, "record.root": str(runs)})
    with StackHarness(options) as stack:
        assert not stack.heartbeats.wait_for(("record",), 60.0), stack.log
        code, sentence = stack.run(WORDS)
        wait(lambda: any("record: " in line and "Recorded: " in line for line in stack.log), 60.0)
    (folder,) = (file.parent for file in runs.glob("*/run.json"))
    run = json.loads((folder / "run.json").read_text())
    assert (run["instruction"], run["outcome"], run["sentence"], run["complete"]) == (WORDS, code.name, sentence, True)
    assert {"sim", "executor", "planner", "guidance", "policy", "task", "record"} <= set(run["parameters"])
    assert run["parameters"]["sim"]["task"] == "push_buttons"
    assert "numpy" in run["versions"]
    assert run["images"]["missing"] == 0 < run["images"]["decided"]
    with AnyReader([folder / "bag"]) as reader:
        for connection, _, data in reader.messages():
            reader.deserialize(data, connection.msgtype)
        assert {c.topic for c in reader.connections} == set(run["topics"])
    found = decided(folder / "bag")
    (end,) = found["task_end"]
    assert (end.outcome.code, end.outcome.sentence, end.state.instruction) == (code, sentence, WORDS)
    assert code is OutcomeCode.OK, (sentence, stack.log[-20:])
    plans = {d.plan.plan_id for d in found["plan"] if d.plan}
    assert {d.plan_id for d in found["guidance"]} <= plans
    predicted = [d for d in found["keypose"] if d.keypose]
    moved = [d for d in found["motion"] if d.outcome.ok]
    assert len(predicted) >= len(moved) == end.state.keyposes > 0
    assert all(d.paths and d.robot for d in moved)
    guided = {d.image_stamp_ns for d in found["guidance"] if d.outcome.ok}
    assert {d.image_stamp_ns for d in predicted} <= guided
    assert main(["collect", "--from", str(runs), "--output", str(tmp_path / "data")]) == 0
    again = tmp_path / "again"
    assert main(["replay", str(folder), "--every-frame", "--output", str(again)]) == 0
    differences = json.loads((again / "replay.json").read_text())["differences"]
    assert {d["kind"] for d in differences} == {"plan", "guide", "predict", "move"}
    # the scene of motions takes in images in between, which are not replayed
    assert [d["sentence"] for d in differences if not d["equal"] and d["kind"] != "move"] == []
    episode = Episode(next((tmp_path / "data" / "episodes").iterdir()))
    assert (episode.instruction, len(list(episode)), episode.outcome.code) == (WORDS, len(moved), code)


def test_a_place_that_cannot_be_written_ends_the_node(start: Any, domain: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ["-p", f"root:={tmp_path / 'file'}", "-p", "when:=now"]
    process = start("stvla_ros.nodes.record", "--ros-args", *words)
    assert process.wait(60.0) == 1, process.output
    assert "Nothing is recorded in " in process.output
