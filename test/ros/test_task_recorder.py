"""When a recording begins and ends, what is in it, and what is said when there is no room. No nodes run here."""

from __future__ import annotations

import errno
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rclpy.serialization import serialize_message
from ros.bags import START, shot, static
from stvla_msgs.msg import TaskState as TaskStateMsg

from stvla_ros.description.robot import RobotConfig
from stvla_ros.errors import OutcomeCode
from stvla_ros.pipeline import TaskState
from stvla_ros.record.runs import RUN, make_room, read_runs, write_run
from stvla_ros.ros import task_recorder
from stvla_ros.ros.bag_files import opened
from stvla_ros.ros.bag_writer import BagWriter
from stvla_ros.ros.convert import header
from stvla_ros.ros.decisions import TaskEnd, task_end_to_msg
from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.recorded_topics import TASK_END, TASK_STATE, recorded_topics
from stvla_ros.ros.task_recorder import RecordSettings, TaskRecorder
from stvla_ros.types import Outcome

CAMERA = CameraConfig()
TOPICS = recorded_topics(CAMERA, RobotConfig())
WORDS = "Put the red block in the plate."
SOON = RecordSettings(before_s=60.0, after_s=0.05, free_gb=0.0)


class Told:
    """A recorder, its messages, and what it tells."""

    def __init__(self, settings: RecordSettings) -> None:
        self.said: list[tuple[str, bool]] = []
        self.root = Path(settings.root)
        self.recorder = TaskRecorder(settings, TOPICS, {"git_commit": "abc"}, lambda *s: self.said.append(s), 10**7)
        self.recorder.start()
        self._at = START

    def hear(self, topic: str, message: Any) -> None:
        self._at += 1_000_000
        self.recorder.take(topic, serialize_message(message), self._at)

    def see(self, count: int) -> None:
        for i in range(count):
            for topic, message in shot(self._at, i).items():
                self.hear(f"/{topic}", message)

    def task(self, phase: str, words: str = WORDS) -> None:
        self.hear(TASK_STATE, TaskStateMsg(header=header(self._at + 1, ""), instruction=words, phase=phase))

    def ended(self, code: OutcomeCode = OutcomeCode.OK, words: str = WORDS) -> None:
        self.hear(TASK_END, task_end_to_msg(TaskEnd(START, self._at, Outcome(code, "As it is."), TaskState(words))))

    def goal(self, code: OutcomeCode = OutcomeCode.OK, words: str = WORDS) -> None:
        """A task with two pictures before it and three in it."""
        self.see(2)
        self.task("planning", words)
        self.see(3)
        self.task("idle", words)
        self.ended(code, words)

    def runs(self, count: int) -> list[dict[str, Any]]:
        """The contents of ``run.json`` of all recordings, once so many have ended."""
        wait(lambda: self.recorder.kept >= count, self.said)
        assert self.recorder.close(10.0)
        return [json.loads((run.folder / RUN).read_text()) for run in read_runs(self.root)]

    def counts(self) -> list[Counter[str]]:
        """Topic -> number of messages, of each bag."""
        found = []
        for run in read_runs(self.root):
            with opened(run.folder / "bag") as bag:
                found.append(Counter({topic: sum(kinds.values()) for topic, kinds in bag.topics.items()}))
        return found


def wait(done: Callable[[], Any], what: object = "") -> None:
    end = time.monotonic() + 30.0
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., Told]:
    return lambda **settings: Told(replace(SOON, root=str(tmp_path / "runs"), **settings))


def test_one_bag_per_goal_with_what_was_before_it(told: Callable[..., Told]) -> None:
    world = told()
    world.hear("/tf_static", static())
    world.hear("/tf_static", static())  # from a second reader of the same publisher
    world.task("idle", "")
    world.goal()
    wait(lambda: world.recorder.kept == 1, world.said)
    world.see(1)
    world.goal(OutcomeCode.NO_PATH, "Stack it.")
    first, second = world.runs(2)
    assert (first["instruction"], first["outcome"], first["sentence"], first["complete"]) == (
        WORDS,
        "OK",
        "As it is.",
        True,
    )
    assert (second["instruction"], second["outcome"], second["ended"]) == ("Stack it.", "NO_PATH", "")
    assert first["git_commit"] == "abc"
    ours, theirs = world.counts()
    color = f"/{CAMERA.color}"
    assert (ours[color], ours["/tf_static"], ours[TASK_STATE], ours[TASK_END]) == (5, 1, 3, 1)
    assert (theirs[color], theirs["/tf_static"], theirs[TASK_END]) == (11, 1, 2), "the seconds before: all so far"
    assert first["topics"] == dict(ours)
    assert [wrong for _, wrong in world.said] == [True, True], "joint states are missing"
    assert "Nothing came on /joint_states" in world.said[0][0]


def test_what_is_latched_is_in_a_bag_however_long_ago_it_was(told: Callable[..., Told]) -> None:
    world = told(before_s=0.0)
    world.hear("/tf_static", static())
    world.hear("/tf_static", static(child="other"))
    world.goal()
    world.runs(1)
    (found,) = world.counts()
    assert (found["/tf_static"], found[f"/{CAMERA.color}"], found[f"/{CAMERA.info}"]) == (2, 3, 4)


def test_failures_only(told: Callable[..., Told]) -> None:
    world = told(keep="failures")
    world.goal()
    wait(lambda: world.recorder.begun == 1 and world.recorder._inbox.empty())
    wait(lambda: world.recorder.folder is None)
    assert list(world.root.iterdir()) == []
    world.goal(OutcomeCode.COLLISION)
    assert [run["outcome"] for run in world.runs(1)] == ["COLLISION"]


def test_a_goal_that_was_refused_before_it_began(told: Callable[..., Told]) -> None:
    world = told()
    world.see(1)
    world.ended(OutcomeCode.INVALID_GOAL)
    (run,) = world.runs(1)
    assert (run["outcome"], run["instruction"]) == ("INVALID_GOAL", WORDS)
    assert world.counts()[0][TASK_END] == 1


def test_the_next_goal_begins_at_once(told: Callable[..., Told]) -> None:
    world = told(after_s=60.0)
    world.goal()
    world.task("planning", "Stack it.")
    world.ended(OutcomeCode.CANCELED, "Stack it.")
    wait(lambda: world.recorder.begun == 2)
    assert world.recorder.close(10.0)
    assert [run["outcome"] for run in world.runs(2)] == ["OK", "CANCELED"]


def test_the_end_is_read_before_what_came_before_it(told: Callable[..., Told]) -> None:
    """States and ends come on two topics."""
    world = told()
    world.task("planning")
    late = TaskStateMsg(header=header(world._at, ""), instruction=WORDS, phase="moving")
    world.see(1)
    world.ended()
    world.hear(TASK_STATE, late)
    (run,) = world.runs(1)
    assert (run["outcome"], run["ended"], world.recorder.begun) == ("OK", "", 1)
    assert world.counts()[0][TASK_STATE] == 2


def test_a_task_node_that_dies(told: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_recorder, "END_WAIT_S", 0.05)
    world = told()
    world.task("moving")
    world.task("idle", "")  # the new one
    (run,) = world.runs(1)
    assert (run["outcome"], run["instruction"], run["complete"]) == ("", WORDS, True)
    assert "did not say how the task ended" in run["ended"]


def test_from_now_on_until_the_end(told: Callable[..., Told]) -> None:
    world = told(when="now")
    world.goal()
    world.goal(OutcomeCode.NO_PATH)
    wait(lambda: world.recorder._inbox.empty())
    assert world.recorder.close(10.0)
    (run,) = world.runs(1)
    assert run["ended"] == "The recorder ended."
    assert world.counts()[0][TASK_END] == 2


def test_parameters_are_in_the_bag_too(told: Callable[..., Told]) -> None:
    from mcap.reader import make_reader

    world = told()
    world.task("planning")
    world.recorder.know({"sim": {"seed": 3}})
    world.ended()
    (run,) = world.runs(1)
    assert run["parameters"] == {"sim": {"seed": 3}}
    with next(world.root.glob("*/bag/*.mcap")).open("rb") as file:
        notes = {m.name: m.metadata for m in make_reader(file).iter_metadata()}
    assert json.loads(notes["stvla.parameters"]["sim"]) == {"seed": 3}
    assert notes["stvla.end"]["outcome"] == "OK"


def test_a_full_disk_ends_the_bag_and_is_said_once(told: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    usual = BagWriter.write

    def write(self: BagWriter, topic: str, data: bytes, log_ns: int) -> None:
        if sum(self.counts.values()) >= 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        usual(self, topic, data, log_ns)
        self.flush()

    monkeypatch.setattr(BagWriter, "write", write)
    world = told()
    world.goal()
    (run,) = world.runs(1)
    assert (run["outcome"], run["complete"]) == ("OK", False), "the task itself went well"
    assert "ends early: No space left on device" in run["ended"]
    assert [sentence for sentence, wrong in world.said if wrong] == [run["ended"]] == [world.recorder.trouble]
    assert sum(world.counts()[0].values()) == 9


def test_too_little_free_room(told: Callable[..., Told]) -> None:
    world = told(free_gb=1e9)
    world.goal()
    world.task("planning")
    wait(lambda: world.recorder.begun == 2, world.said)
    assert "Nothing is recorded: only " in world.recorder.trouble
    assert "record.free_gb" in world.recorder.trouble
    assert list(world.root.iterdir()) == []
    assert world.recorder.close(10.0)


def test_a_place_that_cannot_be_written(told: Callable[..., Told], tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    world = told()
    world.goal()
    wait(lambda: world.said, world.said)
    assert "Nothing is recorded in " in world.recorder.trouble
    assert world.recorder.close(10.0)


def test_images_are_dropped_when_too_much_waits_and_nothing_else(told: Callable[..., Told], monkeypatch: Any) -> None:
    world = told(memory_mb=1.0)
    world.task("planning")
    wait(lambda: world.recorder.begun == 1 and world.recorder._inbox.empty())
    with world.recorder._lock:
        world.recorder._waiting += 1_000_000
    world.see(4)
    with world.recorder._lock:
        world.recorder._waiting -= 1_000_000
    world.see(1)
    world.ended()
    (run,) = world.runs(1)
    found = world.counts()[0]
    assert (found[f"/{CAMERA.color}"], found[f"/{CAMERA.info}"], run["images"]["dropped"]) == (1, 5, 8)
    assert "8 images were dropped" in world.said[-1][0]


def make_run(root: Path, name: str, size: int) -> Path:
    folder = root / name
    (folder / "bag").mkdir(parents=True)
    (folder / "bag" / "bag_0.mcap").write_bytes(bytes(size))
    write_run(folder, {"started": name})
    return folder


def test_the_oldest_recordings_make_room_and_nothing_else(tmp_path: Path) -> None:
    folders = [make_run(tmp_path, f"2026{n}", 10_000) for n in range(4)]
    (tmp_path / "20200101" / "other").mkdir(parents=True)
    (tmp_path / "20200101" / "run.json").write_text("{}")
    deleted, total = make_room(tmp_path, folders[3], 25_000)
    assert deleted == folders[:1]
    assert 20_000 < total < 25_000
    assert make_room(tmp_path, folders[3], 0)[0] == folders[1:3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20200101", "20263"]


def test_the_quota(told: Callable[..., Told], tmp_path: Path) -> None:
    make_run(tmp_path / "runs", "20200101", 1_000_000)
    world = told(quota_gb=5e-4)
    world.goal()
    assert [run["instruction"] for run in world.runs(1)] == [WORDS]
    assert world.said[0] == ("Deleted to make room for recordings: 20200101.", False)


def test_a_recording_larger_than_the_quota_ends(told: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_recorder, "LOOK_S", 0.0)
    monkeypatch.setattr(task_recorder, "FLUSH_S", 1e-3)
    world = told(quota_gb=1e-6)
    world.goal()
    (run,) = world.runs(1)
    assert "take all of 1e-06 GB (record.quota_gb)" in run["ended"]
