"""The chaos benchmark itself: its faults repeat, its moments are the right ones, it judges and counts truly, and goes on."""

import json
import sys
import time
from dataclasses import replace

import pytest

from benchmarks.chaos import records
from benchmarks.chaos.faults import KINDS, PHASES, SCENES, VICTIMS, Fault, Trial, draw
from benchmarks.chaos.programs import Program
from benchmarks.chaos.report import figures, markdown, percentiles, summary
from benchmarks.chaos.watching import moved, noticed

GOOD = Trial(
    index=0,
    fault=Fault("kill", "planner", "moving", 1, 0.5, 3),
    moving=True,
    code="NODE_LOST",
    sentence="The node 'planner' was silent for 1.5 s.",
    judged=None,
    end_s=1.8,
    noticed_s=1.6,
    noticed_by="log of task",
    able_s=0.0,
    rest_s=1.9,
    up_s=1.0,
    next_code="OK",
    next_sentence="Done after 5 keyposes.",
    next_judged=True,
    next_heard_s=0.7,
    next_s=17.0,
)


def test_draws_repeat_and_cover_all() -> None:
    drawn = [draw(1, i, KINDS) for i in range(150)]
    assert drawn == [draw(1, i, KINDS) for i in range(150)]
    assert drawn != [draw(2, i, KINDS) for i in range(150)]
    pairs = [(kind, victim) for kind in KINDS for victim in VICTIMS[kind]]
    assert sorted((f.kind, f.victim) for f in drawn) == sorted(pairs * (150 // len(pairs)))
    assert {f.phase for f in drawn} == set(PHASES)
    assert all(1 <= f.occurrence <= PHASES[f.phase][0] for f in drawn)
    assert all(0.0 <= f.delay_s <= PHASES[f.phase][1] for f in drawn)
    assert {f.scene for f in drawn} == set(range(SCENES))


def test_only_chosen_kinds_and_victims_are_drawn() -> None:
    assert {draw(1, i, ["camera", "clock"]).kind for i in range(10)} == {"camera", "clock"}
    drawn = {(f.kind, f.victim) for f in (draw(1, i, KINDS, ["guidance"]) for i in range(10))}
    assert drawn == {("kill", "guidance"), ("stop", "guidance")}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ()),
        ({"code": "SERVER_TIMEOUT"}, ()),
        ({"code": "OK", "judged": True}, ()),
        ({"code": "OK", "judged": False}, ("claims a success that is none",)),
        ({"code": "HANG"}, ("hang",)),
        ({"code": "CONNECTION"}, ("untyped end",)),
        ({"code": "CONNECTION", "fault": replace(GOOD.fault, victim="task")}, ()),
        ({"code": "DIED"}, ("untyped end",)),
        ({"code": "INTERNAL"}, ("untyped end",)),
        ({"rest_s": 2.11}, ("moved more than 0.5 s after",)),
        ({"rest_s": 2.11, "able_s": 2.0}, ()),
        ({"rest_s": 2.11, "code": "OK", "judged": True}, ()),
        ({"rest_s": None}, ("never at rest",)),
        ({"next_code": "NO_STACK", "next_judged": False}, ("the client found no stack",)),
        ({"next_code": "HANG", "next_judged": False}, ("the next goal hung",)),
        ({"next_judged": False}, ("the next goal failed",)),
        ({"next_code": "STALE_STATE", "next_judged": False}, ("the next goal failed",)),
        ({"unprovoked": ("NO_PATH: …",)}, ("a goal failed without a fault",)),
    ],
)
def test_what_is_wrong(change: dict, words: tuple) -> None:
    assert replace(GOOD, **change).wrong() == words


def test_an_end_names_its_fault_or_not() -> None:
    assert GOOD.named()
    assert replace(GOOD, code="OK", judged=True).named()
    assert not replace(GOOD, code="OK", judged=False).named()
    assert not replace(GOOD, code="SERVER_TIMEOUT").named()
    silent = replace(GOOD.fault, kind="camera", victim="sim")
    assert replace(GOOD, fault=silent, code="STALE_IMAGE").named()
    assert not replace(GOOD, fault=silent, code="NODE_LOST").named()


LOST = "[ERROR] [1764339.5] [task]: The node 'planner' was silent for 1.5 s."


def test_noticed_is_the_earliest_sign() -> None:
    lines = [
        (9.0, "task", LOST),
        (11.0, "planner", "ended with signal SIGKILL; it starts again in 2 s"),
        (11.1, "guidance", "[WARN] [1.0] [guidance]: The plan is refused."),
        (11.2, "task", "[RTPS_TRANSPORT_SHM Error] init_port [ERROR]"),
        (11.3, "task", "[INFO] [1.0] [task]: A new goal."),
        (12.0, "task", LOST),
    ]
    statuses = [
        {"at": 9.5, "action": "arm", "status": 5},
        {"at": 11.2, "action": "arm", "status": 4},
        {"at": 12.5, "action": "keypose", "status": 3},
    ]
    assert noticed(10.0, lines, statuses, 13.0) == (12.0, "log of task")
    assert noticed(10.0, lines[:-1], statuses, 13.0) == (12.5, "keypose is being canceled")
    assert noticed(10.0, [], statuses[:-1], 13.0) == (13.0, "the client")
    assert noticed(10.0, lines, [], None, deaf=("task",)) == (None, "")
    end = (11.5, "task", "[INFO] [1.0] [task]: Ended with NODE_LOST: …")
    assert noticed(10.0, [end], [], 13.0) == (11.5, "log of task")


def test_motion_is_what_is_fast_enough() -> None:
    assert moved(1.0, [(0.9, 1.0), (1.1, 0.02), (1.2, 0.009), (1.3, 0.01), (1.4, 0.0)]) == [1.1, 1.3]


def test_figures_count_and_measure() -> None:
    trials = [
        GOOD,
        replace(GOOD, index=1, noticed_s=2.0, rest_s=2.8),
        replace(GOOD, index=2, moving=False, rest_s=0.0),
        replace(GOOD, index=3, code="OK", judged=True, noticed_s=None, rest_s=4.0),
        replace(GOOD, index=4, code="HANG", end_s=None, noticed_s=None, rest_s=None, next_code="STALE_STATE"),
    ]
    found = figures(trials)
    assert (found["trials"], found["typed"], found["hangs"], found["late"], found["next_ok"]) == (5, 4, 1, 1, 4)
    assert found["never_at_rest"] == 1
    assert found["codes"] == {"NODE_LOST": 3, "OK": 1, "HANG": 1}
    assert found["noticed_s"] == percentiles([1.6, 2.0, 1.6])
    assert found["rest_s"] == percentiles([1.9, 2.8, 4.0]), "an arm that stood anyway says nothing"
    assert found["after_noticed_s"]["max"] == 0.8
    assert found["next_codes"] == {"STALE_STATE": 1}


def test_percentiles() -> None:
    assert percentiles([]) == percentiles([None]) == {"p50": None, "p99": None, "max": None}
    assert percentiles([float(i) for i in range(101)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0}


def test_report_has_a_row_per_fault_and_all_counts() -> None:
    robot = replace(GOOD, index=1, fault=replace(GOOD.fault, kind="robot", victim="sim"), code="STALE_STATE")
    found = summary([GOOD, robot, replace(GOOD, index=2, code="OK", judged=False)])
    assert list(found["rows"]) == ["`kill -9` of planner", "`kill -9` of the robot"]
    assert found["wrong"] == {2: ("claims a success that is none",)}
    text = markdown("quiet", {"seed": 7, "task": "pick_place", "burners": 0}, [GOOD, robot])
    assert text.startswith("### quiet\n\n2 trials of `pick_place`, seed 7, beside 0 busy loops")
    assert "| `kill -9` of planner | 1 | 1/1 | 1.60 / 1.60 | 1.90 / 1.90 | 0.30 / 0.30 | 1/1 | NODE_LOST 1 |" in text
    assert "| **all** | 2 | 2/2 |" in text
    assert "0 hangs, 0 clients that found no stack" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1


def test_trials_are_read_as_they_were_written(tmp_path) -> None:
    settings = {"seed": 1}
    folder = tmp_path / "run"
    assert records.begin(folder, settings, resume=False) == []
    trials = [GOOD, replace(GOOD, index=1, rest_s=None, unprovoked=("NO_PATH: …",))]
    for trial in trials:
        records.append(folder, trial)
    assert records.begin(folder, settings, resume=True) == trials
    lines = (folder / records.TRIALS).read_text().splitlines()
    assert json.loads(lines[1])["wrong"] == ["never at rest", "a goal failed without a fault"]


def test_a_run_goes_on_after_a_line_that_was_cut_off(tmp_path) -> None:
    folder = tmp_path / "run"
    records.begin(folder, {}, resume=False)
    records.append(folder, GOOD)
    file = folder / records.TRIALS
    file.write_text(file.read_text() + '{"index": 1, "fau')
    assert records.begin(folder, {}, resume=True) == [GOOD]
    records.append(folder, replace(GOOD, index=1))
    assert [t.index for t in records.load(folder)] == [0, 1]


def test_another_run_is_not_mixed_in(tmp_path) -> None:
    folder = tmp_path / "run"
    records.begin(folder, {"seed": 1}, resume=False)
    with pytest.raises(ValueError, match="--resume"):
        records.begin(folder, {"seed": 1}, resume=False)
    with pytest.raises(ValueError, match="'seed': 2"):
        records.begin(folder, {"seed": 2}, resume=True)


TALKER = """
import json, sys, time
print("a warning", file=sys.stderr)
for n in range(3):
    print(json.dumps({"event": "phase", "n": n}), flush=True)
"""


def test_program_keeps_json_apart_from_words(tmp_path, monkeypatch) -> None:
    (tmp_path / "talker.py").write_text(TALKER)
    (tmp_path / "sleeper.py").write_text("import time\nprint('{}', flush=True)\ntime.sleep(600)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))
    with Program("talker") as program:
        assert program.wait(lambda events: next((e for e in events if e["n"] == 2), None), 60.0) is not None
        assert program.wait(lambda events: None, 60.0) is None, "its end ends the wait"
        assert program.said == ["a warning"]
        assert [e["n"] for e in program.events()] == [0, 1, 2]
    with Program("sleeper") as program:
        assert program.wait(lambda events: {"heard": True} if events else None, 60.0)
        began = time.monotonic()
        assert program.wait(lambda events: None, 0.2) is None
        assert time.monotonic() - began >= 0.2
