"""The stages decide the same again; a change of a stage or of the camera is found where it is."""

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.interfaces import Guide, Policy
from stvla_ros.replay.canonical import decision_hash
from stvla_ros.replay.comparing import compare
from stvla_ros.replay.deciding import StageSet, decide, guided_again, make_stages, repeatable
from stvla_ros.replay.observing import ObservedTask
from stvla_ros.replay.values import Comparison, Decision, Kind, Mode, Moment
from stvla_ros.types import Keypose, Observation, Outcome

NAMES = ("recorded", "replayed")


def recorded(task: ObservedTask) -> list[Decision]:
    return [m.recorded for m in task.moments if repeatable(m) and m.recorded is not None]


def compared(task: ObservedTask, decisions: Iterable[Decision]) -> Comparison:
    return compare(task.moments, recorded(task), decisions, NAMES)


class Beside:
    """A broken policy: from the third keypose on, it is 3 cm beside the right one."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._calls = policy, 0

    def predict(self, observation: Observation) -> Keypose | None:
        keypose = self._policy.predict(observation)
        self._calls += 1
        if keypose is None or self._calls < 3:
            return keypose
        T = keypose.T_base_tcp.copy()
        T[1, 3] += 0.03
        return replace(keypose, T_base_tcp=T)


class Recording:
    """A planner and an executor's arm that note what they were asked."""

    def __init__(self, stages: StageSet) -> None:
        assert stages.planner is not None
        self._planner, self.asked = stages.planner, []  # type: ignore[var-annotated]
        self.stages = replace(stages, planner=self)

    def plan(self, request):  # type: ignore[no-untyped-def]
        self.asked.append(request)
        return self._planner.plan(request)


def test_every_stage_decides_as_it_did(pick_place: ObservedTask, settings: StackSettings) -> None:
    decisions = list(decide(pick_place, make_stages(settings)))
    found = compared(pick_place, decisions)
    assert {d.kind for d in decisions} == set(Kind)
    assert found.first is None, found.headline
    assert found.hashes[0] == found.hashes[1] == decision_hash(decisions)
    assert found.headline == f"All {len(pick_place.moments)} decisions are equal (recorded and replayed)."


def test_cleaned_images_are_equal_bit_for_bit(pick_place: ObservedTask, settings: StackSettings) -> None:
    again = {d.number: d.masking for d in decide(pick_place, make_stages(settings)) if d.masking}
    before = {d.number: d.masking for d in recorded(pick_place) if d.masking}
    assert again.keys() == before.keys()
    assert len(again) >= 6
    for number, masking in before.items():
        assert again[number].digest == masking.digest
        assert np.array_equal(again[number].removed, masking.removed)


def test_a_free_replay_with_the_same_stages_is_the_recording(pick_place: ObservedTask, settings: StackSettings) -> None:
    recorder = Recording(make_stages(settings))
    found = compared(pick_place, decide(pick_place, recorder.stages, Mode.FREE))
    assert found.first is None, found.headline
    histories = [m.history for m in pick_place.moments if m.kind is Kind.PLAN]
    for request, history in zip(recorder.asked, histories, strict=True):
        assert [k.stamp_ns for k in request.history] == [k.stamp_ns for k in history]
        for own, theirs in zip(request.history, history, strict=True):
            assert np.array_equal(own.T_base_tcp, theirs.T_base_tcp)


def test_a_broken_policy_is_found_where_it_breaks(pick_place: ObservedTask, settings: StackSettings) -> None:
    stages = make_stages(settings)
    found = compared(pick_place, decide(pick_place, replace(stages, policy=Beside(stages.policy))))
    third = [m for m in pick_place.moments if m.kind is Kind.PREDICT][2]
    assert found.first is not None
    assert (found.first.number, found.first.kind) == (third.number, Kind.PREDICT)
    assert found.first.position_mm == pytest.approx(30.0, abs=0.1)
    assert f"(predict, moment {third.number}): the keypose is 30.0 mm" in found.headline
    assert {d.kind for d in found.worst} == {Kind.PREDICT}  # teacher-forced: it reaches no other stage
    assert found.hashes[0] != found.hashes[1]


def test_what_a_broken_policy_did_reaches_later_steps_of_a_free_replay(
    pick_place: ObservedTask, settings: StackSettings
) -> None:
    stages = make_stages(settings)
    broken = replace(stages, policy=Beside(stages.policy))
    found = compared(pick_place, decide(pick_place, broken, Mode.FREE))
    assert {Kind.PREDICT, Kind.MOVE} <= {d.kind for d in found.worst}


def shifted(task: ObservedTask, by_m: tuple[float, float, float]) -> ObservedTask:
    """The same recording from a camera whose pose is said to be another one."""
    other = copy.copy(task)
    other.frames = {}
    for stamp_ns, frame in task.frames.items():
        T = frame.camera.T_base_camera.copy()
        T[:3, 3] += by_m
        other.frames[stamp_ns] = replace(frame, camera=replace(frame.camera, T_base_camera=T))
    return other


def test_a_camera_that_was_shifted_by_2_cm_is_named(pick_place: ObservedTask, settings: StackSettings) -> None:
    found = compared(pick_place, decide(shifted(pick_place, (0.0, 0.02, 0.0)), make_stages(settings)))
    assert found.first is not None
    assert found.first.kind is Kind.PLAN
    assert "The same drawn path is lifted (+0, +20, +0) mm off, as if the camera stood elsewhere." in found.headline


def test_without_a_planner_the_recorded_plans_are_used(pick_place: ObservedTask, settings: StackSettings) -> None:
    decisions = list(decide(pick_place, make_stages(settings, recorded_plans=True)))
    plans = {m.number: m.recorded.plan for m in pick_place.moments if m.kind is Kind.PLAN and m.recorded}
    assert all(d.plan is plans[d.number] for d in decisions if d.kind is Kind.PLAN)
    assert compared(pick_place, decisions).first is None


def test_a_missing_image_is_said(pick_place: ObservedTask, settings: StackSettings) -> None:
    torn = copy.copy(pick_place)
    torn.frames = {}
    decisions = list(decide(torn, make_stages(settings)))
    assert {d.outcome.code for d in decisions if d.kind is Kind.PLAN} == {OutcomeCode.STALE_IMAGE}
    with pytest.raises(StageError, match=r"The recording has no image of \d+\.\d+ s"):
        torn.frame(pick_place.moments[0].image_stamp_ns)


@pytest.mark.parametrize("code", [OutcomeCode.CANCELED, OutcomeCode.SERVER_TIMEOUT, OutcomeCode.STALE_IMAGE])
def test_what_came_from_outside_is_not_decided_again(
    pick_place: ObservedTask, settings: StackSettings, code: OutcomeCode
) -> None:
    first = pick_place.moments[0]
    assert first.recorded is not None
    assert repeatable(first)
    failed = replace(first, recorded=replace(first.recorded, outcome=Outcome(code, "It was so."), plan=None))
    assert not repeatable(failed)
    task = copy.copy(pick_place)
    task.moments = [failed]
    assert list(decide(task, make_stages(settings))) == []


def test_an_arm_that_was_stopped_stops_again(pick_place: ObservedTask, settings: StackSettings) -> None:
    """Its motion is planned again as far as it was sent, and ends with the recorded failure."""
    task = copy.copy(pick_place)
    last = max(m.number for m in task.moments if m.kind is Kind.MOVE)
    move = task.moments[last]
    assert move.recorded is not None
    stopped = Outcome(OutcomeCode.REFLEX, "The robot stopped itself.")
    cut = replace(move.recorded, outcome=stopped, paths=move.recorded.paths[:1])
    task.moments = [*task.moments[:last], replace(move, recorded=cut)]
    again = list(decide(task, make_stages(settings)))[-1]
    assert again.outcome == stopped
    assert len(again.paths) == 1
    assert compared(task, [again]).first is None


PROGRAM = """
import pickle, sys
from pathlib import Path
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.replay.canonical import decision_hash
from stvla_ros.replay.deciding import decide, make_stages
task = pickle.loads(Path(sys.argv[1]).read_bytes())
print(decision_hash(decide(task, make_stages(StackSettings().with_noise()))))
"""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def test_the_hash_is_the_same_after_a_restart_and_on_1_and_2_threads(pick_place: ObservedTask, tmp_path: Path) -> None:
    file = tmp_path / "task.pickle"
    file.write_bytes(pickle.dumps(pick_place))
    for threads in ("1", "2"):
        env = {**os.environ, **dict.fromkeys(THREADS, threads)}
        command = [sys.executable, "-c", PROGRAM, str(file)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.stdout.strip() == decision_hash(recorded(pick_place)), done.stderr


class Forgetting:
    """A guide that notes when it forgets."""

    def __init__(self, guide: Guide) -> None:
        self.lift, self.guide, self.forgot = guide.lift, guide.guide, 0

    def reset(self) -> None:
        self.forgot += 1


def test_the_guide_forgets_another_task_as_the_node_does(pick_place: ObservedTask, settings: StackSettings) -> None:
    other = copy.copy(pick_place)
    plans = [m.number for m in pick_place.moments if m.kind is Kind.PLAN and m.recorded and m.recorded.plan]
    other.moments = list(pick_place.moments)
    last = other.moments[plans[-1]]
    assert last.recorded is not None
    assert last.recorded.plan is not None
    words = replace(last.recorded.plan, instruction="Something else.")
    other.moments[plans[-1]] = replace(last, recorded=replace(last.recorded, plan=words))
    for task, times in ((pick_place, 0), (other, 1)):
        stages = make_stages(settings)
        guide = Forgetting(stages.guide)
        list(decide(task, replace(stages, guide=guide)))
        assert guide.forgot == times


def guided(number: int, plan_id: str) -> Moment:
    return Moment(number, Kind.GUIDE, number, number, None, "Go.", plan_id)


def test_frames_that_a_replay_guides_again() -> None:
    """Those of keyposes (14 and 17), two before each, and the first of each plan (0 and 16)."""
    moments = [guided(i, "a" if i < 16 else "b") for i in range(18)]
    moments += [Moment(18, Kind.PREDICT, 14, 14, None, "Go.", "a"), Moment(19, Kind.PREDICT, 17, 17, None, "Go.", "b")]
    again, told = guided_again(moments)
    assert told == {14, 17}
    assert again == {0, 12, 13, 14, 15, 16, 17}
