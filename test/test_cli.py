"""The command line: help, refusals in one sentence, exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stvla_ros.cli import main
from stvla_ros.commands import COMMANDS, exit_codes, load
from stvla_ros.errors import OutcomeCode


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command line that must be refused with exit code 2."""
    assert main(arguments) == exit_codes.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("stvla: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_help_lists_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert all(re.search(rf"^ +{name}\s", text, re.MULTILINE) for name in COMMANDS)
    assert "20 + n" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    assert f"usage: stvla {name}" in capsys.readouterr().out
    assert (load(name).__doc__ or "").startswith(f"``stvla {name}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["required: COMMAND"]),
        (["demmo"], ["'demmo'", "Did you mean 'demo'?"]),
        (["backends", "--knd", "planner"], ["'--knd'", "Did you mean '--kind'?"]),
        (["backends", "--kind", "planer"], ["--kind: 'planer'", "Did you mean 'planner'?"]),
        (["backends", "surplus"], ["'surplus' is not understood"]),
        (["evaluate", "--tasks", "pick_plase"], ["'pick_plase'", "Did you mean 'pick_place'?"]),
        (["evaluate", "--tasks", ""], ["''", "pick_place", "push_buttons"]),
        (["evaluate", "--episodes", "0"], ["--episodes", "1 to 10000", "got 0"]),
        (["evaluate", "--episodes", "many"], ["--episodes", "whole number", "'many'"]),
        (["evaluate", "--at-least", "1.5"], ["0 to 1"]),
        (["evaluate", "--seed0", "-1"], ["--seed0"]),
        (["evaluate", "--planner", "color"], ["--planner: 'color'", "Did you mean 'colour'?"]),
        (["evaluate", "--disturb", "mov"], ["Did you mean 'move'?"]),
        (["evaluate", "--disturb", "move", "--tasks", "push_buttons"], ["nothing in push_buttons can be moved"]),
        (["evaluate", "--disturb", "move", "--over-ros"], ["in one process only", "leave --over-ros out"]),
        (["evaluate", "--mode", "seperate"], ["Did you mean 'separate'?"]),
        (["evaluate", "--params", "/nowhere/x.yaml"], ["/nowhere/x.yaml", "No such file"]),
        (["demo", "--task", "pick_plase"], ["'pick_plase'", "Did you mean 'pick_place'?"]),
        (["up", "--robot", "simm"], ["Did you mean 'sim'?"]),
        (["run"], ["required", "INSTRUCTION"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_command_lines_end_in_one_sentence(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = refused(capsys, *arguments)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("guidance: {ros__parameters: {tube_radius_m: 9.0}}", ["tube_radius_m", "0.005 to 0.5", "9.0"]),
        ("planner: {ros__parameters: {backend: collour}}", ["collour", "Did you mean 'colour'?"]),
        ("planner: {ros__parameters: {colour: {grip_deph_m: 0.02}}}", ["grip_deph_m", "Did you mean 'grip_depth_m'?"]),
        ("sim: {ros__parameters: {cell: {sensor: {enabled: 3}}}}", ["enabled", "wanted bool", "3"]),
        ("task: {keyposes_per_plan: 2}", ["task", "ros__parameters"]),
        ("a: [1", ["not valid YAML"]),
    ],
)
def test_a_bad_parameter_file_is_named(
    content: str, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(content)
    line = refused(capsys, "evaluate", "--params", str(file), "--output", str(tmp_path / "out"))
    assert all(word in line for word in ["wrong.yaml", *words]), line


def test_backends_lists_all_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backends"]) == 0
    text = capsys.readouterr().out
    assert all(
        word in text for word in ("planner", "colour", "segmenter", "geometric", "policy", "scripted", "roboplan")
    )


def test_doctor_says_what_is_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import stvla_ros.commands.doctor as doctor

    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no_such_package"))
    monkeypatch.setattr(doctor, "CHECKS", (doctor._python, doctor._packages))
    monkeypatch.setattr(doctor.doctor_stack, "of_machine", lambda: iter(()))
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok       Python")
    assert lines[1].startswith("wrong    Python packages")
    assert "no_such_package" in lines[1]
    assert lines[1].endswith("; run `make setup`.")

    assert main(["doctor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["what"], told["good"]) == ("machine", False)
    assert [(f["name"], f["state"]) for f in told["findings"]] == [("Python", "ok"), ("Python packages", "wrong")]
    assert told["findings"][1]["remedy"] == "run `make setup`"


def test_every_outcome_has_its_own_exit_code() -> None:
    codes = [exit_codes.of_outcome(code) for code in OutcomeCode]
    assert codes[0] == 0
    assert len(set(codes)) == len(codes)
    assert not {exit_codes.USAGE, exit_codes.UNREACHABLE, exit_codes.NOT_CONFIRMED, exit_codes.INTERRUPTED, 1} & set(
        codes
    )
    assert max(codes) < 126  # above, shells have meanings of their own


def test_evaluate_runs_two_episodes_and_takes_them_up_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The real loop in the real cell, twice the same command."""
    command = ["evaluate", "--tasks", "push_buttons", "--episodes", "2", "--jobs", "2", "--output", str(tmp_path)]
    assert main(command) == 0
    assert "push_buttons" in capsys.readouterr().out
    first = {p.name: p.read_text() for p in (tmp_path / "episodes").iterdir()}
    assert sorted(first) == ["push_buttons-0000.json", "push_buttons-0001.json"]
    record = json.loads(first["push_buttons-0000.json"])
    assert record["outcome"] in OutcomeCode.__members__
    assert record["times_s"]["planning"] > 0

    assert main([*command, "--at-least", "1.0"]) in (0, exit_codes.NOT_CONFIRMED)
    assert {p.name: p.read_text() for p in (tmp_path / "episodes").iterdir()} == first
    assert main([*command, "--noise"]) == exit_codes.USAGE
    assert "other settings (cell)" in capsys.readouterr().err


def test_a_closed_pipe_is_no_traceback() -> None:
    program = f"{sys.executable} -c 'from stvla_ros.cli import main; raise SystemExit(main())' backends | head -1"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
