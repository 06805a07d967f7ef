"""Parameter files and ``--set``: every command reads them with one meaning, and refuses in one sentence what is wrong."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stvla_ros.cli import main, make_parser
from stvla_ros.commands import COMMANDS, exit_codes
from stvla_ros.config import ConfigError, overridden, read_parameters
from stvla_ros.evaluate.stack import PARTS, read_settings
from stvla_ros.registry import names

ARGUMENTS: dict[str, list[str]] = {
    "up": [],
    "serve": [],
    "record": ["--output", "OUT"],
    "console": [],
    "demo": ["--runs", "OUT"],
    "evaluate": ["--output", "OUT"],
    "evaluate-planner": ["--dataset", "cvbench", "--data", "OUT"],
    "collect": ["--output", "OUT"],
    "synthesise": ["--output", "OUT"],
    "guide": ["--output", "OUT"],
    "train": ["nano-3dfa", "--data", "OUT"],
    "train-pss": ["RUN", "--data", "OUT"],
    "doctor": ["planner", "--output", "OUT"],
    "calibrate": ["--sim", "--output", "OUT"],
    "replay": ["BAG", "--output", "OUT"],
    "view": ["BAG", "--output", "OUT"],
    "export-lerobot": ["BAG", "--output", "OUT"],
}
"""Command that takes settings -> what else it needs. ``stop`` is no such command: nothing may hold up a stop."""


def takes(option: str) -> set[str]:
    """Commands with an option, by the command line's own parser."""
    found = set()
    for command in COMMANDS:
        subparsers = next(a for a in make_parser(command)._actions if isinstance(a, argparse._SubParsersAction))
        if option in subparsers.choices[command]._option_string_actions:
            found.add(command)
    return found


def test_no_command_is_left_out() -> None:
    assert takes("--params") == {*ARGUMENTS, "stop"}
    assert takes("--set") == set(ARGUMENTS)


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command says of a parameter file (or of options) that it must refuse before it does anything."""
    monkeypatch.setattr("stvla_ros.ros.up.Stack.start", lambda _: pytest.fail("a stack was started"))

    def refuse(command: str, content: str | bytes | None, *options: str) -> str:
        words = [word.replace("OUT", str(tmp_path / "out")) for word in ARGUMENTS[command]]
        file = tmp_path / "cell.yaml"
        if content is not None:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
            words += ["--params", str(file)]
        assert main([command, *words, *options]) == exit_codes.USAGE
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return captured.err.strip().replace(str(file), "FILE")

    return refuse


def node(name: str, *lines: str) -> str:
    return "\n".join([f"{name}:", "  ros__parameters:", *(f"    {line}" for line in lines), ""])


WRONG: dict[str, tuple[str | bytes, str]] = {
    "a node": (node("guidence", "tube_radius_m: 0.02"), "FILE: no node 'guidence'. Did you mean 'guidance'?"),
    "an empty section of no node": ("guidence: {}\n", "FILE: no node 'guidence'. Did you mean 'guidance'?"),
    "a setting": (
        node("guidance", "tube_radius: 0.02"),
        "FILE: guidance: unknown setting 'tube_radius'. Did you mean 'tube_radius_m'?",
    ),
    "a dotted setting": (node("guidance", "lift.max_depth: 1"), "FILE: guidance.lift: unknown setting 'max_depth'."),
    "of the node alone": (
        node("guidance", "max_rate: 5.0"),
        "FILE: guidance: unknown setting 'max_rate'. Did you mean 'max_rate_hz'?",
    ),
    "of a node that may not run": (
        node("camera", "lop: true"),
        "FILE: camera: unknown setting 'lop'. Did you mean 'loop'?",
    ),
    "of the recorder": (node("record", "goal: 3"), "FILE: record: unknown setting 'goal'. Did you mean 'goals'?"),
    "topics": (node("planner", "camera: {colour: x}"), "FILE: planner.camera: unknown setting 'colour'."),
    "safety": (
        node("executor", "safety: {image_timeout: 1}"),
        "FILE: executor.safety: unknown setting 'image_timeout'.",
    ),
    "a section": (
        node("planner", "color: {grip_depth_m: 0.02}"),
        "FILE: planner: unknown setting 'color'. Did you mean 'colour'?",
    ),
    "of a backend": (
        node("planner", "colour: {grip_deph_m: 0.02}"),
        "FILE: planner.colour: unknown setting 'grip_deph_m'.",
    ),
    "a backend": (
        node("planner", "backend: color"),
        f"FILE: planner.backend: wanted one of {', '.join(names('planner'))}, got 'color'.",
    ),
    "a motion planner": (
        node("executor", "motion: ompk"),
        f"FILE: executor.motion: wanted one of {', '.join(names('motion'))}, got 'ompk'. Did you mean 'ompl'?",
    ),
    "a type": (node("sim", "seed: 1e3"), "FILE: sim.seed: wanted int, got float 1000.0."),
    "a unit": (node("guidance", "tube_radius_m: 5cm"), "FILE: guidance.tube_radius_m: wanted float, got str '5cm'."),
    "off": (
        node("guidance", "mode: off"),
        "FILE: guidance.mode: wanted str, got bool False. In quotes it is a text (yes, no, on,",
    ),
    "a number for a text": (
        node("sim", "camera: 1"),
        "FILE: sim.camera: wanted str, got int 1. In quotes it is a text.",
    ),
    "a list": (
        node("task", "needs: [1, 2]"),
        "FILE: task.needs: wanted a list of str, got int 1. In quotes it is a text.",
    ),
    "a mixed list": (
        node("task", "needs: [planner, 2]"),
        "FILE, line 3: 'needs': wanted a list of one type, found int and str.",
    ),
    "an empty list": (node("task", "needs: []"), "FILE, line 3: 'needs': ROS takes no empty list: leave it out."),
    "no value": (node("camera", "path:"), "FILE, line 3: 'path': no value; an empty text is \"\"."),
    "nothing in a section": (
        node("guidance"),
        "FILE, line 2: 'ros__parameters' of node 'guidance': wanted settings below it, found nothing",
    ),
    "a section for a value": (node("sim", "seed: {x: 1}"), "FILE: sim.seed: wanted int, got dict {'x': 1}."),
    "a value for a section": (node("sim", "cell: 3"), "FILE: sim.cell: wanted a mapping of settings, got int 3."),
    "a range": (
        node("guidance", "tube_radius_m: 5e2"),
        "FILE: guidance.tube_radius_m: wanted 0.005 to 0.5, got 500.0.",
    ),
    "no number": (
        node("guidance", "tube_radius_m: .nan"),
        "FILE: guidance.tube_radius_m: wanted 0.005 to 0.5, got nan.",
    ),
    "for every node": (
        node("/**", "tube_radius_m: 0.02"),
        "FILE: '/**' sets 'tube_radius_m' for every node, but not every node has it",
    ),
    "a namespace": (
        node("/cell/planner", "backend: colour"),
        "FILE: the section '/cell/planner' fits no node, for none is in a namespace: name it 'planner'",
    ),
    "a pattern": (
        node("/*/planner", "backend: colour"),
        "FILE: the section '/*/planner' fits no node, for none is in a namespace",
    ),
    "the robot": (node("/**", "robot: {modl: fr3}"), "FILE: robot: unknown setting 'modl'. Did you mean 'model'?"),
    "a robot of a node": (
        node("executor", "robot.model: fr3"),
        "FILE: node 'executor' has a section 'robot' of its own: move it to '/**'",
    ),
    "of rclpy": (node("planner", "use_sim_time: 1"), "FILE: planner.use_sim_time: wanted bool, got int 1."),
    "twice": (
        node("sim", "seed: 1", "seed: 2"),
        "FILE, line 4: 'seed' of node 'sim' is written again (line 3): keep one of them.",
    ),
    "twice, nested": (
        node("sim", "cell.sensor.enabled: true", "cell: {sensor: {enabled: false}}"),
        "FILE, line 4: 'cell.sensor.enabled' of node 'sim' is written again",
    ),
    "an alias": (
        node("sim", "seed: &seed 3") + node("task", "max_keyposes: *seed"),
        "FILE, line 6: 'max_keyposes': ROS takes no aliases (*seed): write the value out.",
    ),
    "a merge key": (
        "x: &x {ros__parameters: {backend: colour}}\nplanner:\n  <<: *x\n",
        "FILE, line 3: node 'planner': wanted exactly one key 'ros__parameters', found '<<'.",
    ),
    "no ros__parameters": (
        "planner:\n  backend: colour\n",
        "FILE, line 2: node 'planner': wanted exactly one key 'ros__parameters', found 'backend'.",
    ),
    "ros_parameters": (
        "planner:\n  ros_parameters:\n    backend: colour\n",
        "FILE, line 2: node 'planner': wanted exactly one key 'ros__parameters', found 'ros_parameters'.",
    ),
    "no node": (
        "ros__parameters:\n  backend: colour\n",
        "FILE, line 1: wanted the name of a node above 'ros__parameters'.",
    ),
    "a list at the top": (
        "- planner\n",
        "FILE, line 1: wanted names of nodes at the top level, each with its settings.",
    ),
    "a text": ("planner\n", "FILE, line 1: wanted names of nodes at the top level"),
    "a second document": (
        node("planner", "backend: colour") + "---\n",
        "FILE, line 5: wanted names of nodes at the top level",
    ),
    "a tab": (
        "planner:\n\tros__parameters:\n",
        "FILE, line 2: not valid YAML: found character that cannot start any token (column 1); the line is indented with a tab",
    ),
    "a bracket": ("planner: {", "FILE, line 2: not valid YAML: did not find expected node content (column 1)."),
    "Latin-1": (
        ("# höher\n" + node("planner", "backend: colour")).encode("latin-1"),
        "FILE, line 1: not UTF-8: save the file as UTF-8.",
    ),
    "Latin-1 below": (
        (node("camera", "path: Tür")).encode("latin-1"),
        "FILE, line 3: not UTF-8: save the file as UTF-8.",
    ),
    "half of UTF-8": (node("camera", "path: Tü").encode()[:-2], "FILE, line 3: not UTF-8: save the file as UTF-8."),
    "UTF-16 without a mark": (
        node("planner", "backend: colour").encode("utf-16-le"),
        "FILE, line 1: not UTF-8, with zero bytes as UTF-16 has them: save the file as UTF-8.",
    ),
    "a control character": (node("camera", "path: a\ab"), "FILE, line 3: the control character #x07: remove it."),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "FILE, line 1: not UTF-8"),
}


@pytest.mark.parametrize("command", ARGUMENTS)
def test_every_command_refuses_the_same_files_with_the_same_sentences(
    command: str, refusal: Callable[..., str]
) -> None:
    for what, (content, sentence) in WRONG.items():
        said = refusal(command, content)
        assert sentence in said, f"{what}: {said}"


def test_stop_goes_on_with_a_file_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from stvla_ros.commands.stop import _robots

    file = tmp_path / "cell.yaml"
    file.write_bytes(node("/**", "robot: {model: fr3}").encode() + b"# \xfc")
    assert len(_robots(file)) == 2
    assert capsys.readouterr().out == (
        f"{file}, line 4: not UTF-8: save the file as UTF-8. The controllers are looked for by their usual names.\n"
    )
    file.write_text(node("/*", "robot.prefix: left") + node("guidence", "x: 1"))
    assert {robot.prefix for robot in _robots(file)} == {"left"}, "what it does not need may be wrong"


RIGHT: dict[str, tuple[str | bytes, float]] = {
    "exponent": (node("guidance", "tube_radius_m: 2e-2"), 0.02),
    "capital": (node("guidance", "tube_radius_m: 2E-2"), 0.02),
    "no zero": (node("guidance", "tube_radius_m: .25"), 0.25),
    "sign": (node("guidance", "tube_radius_m: +0.1"), 0.1),
    "slash": (node("/guidance", "tube_radius_m: 0.02"), 0.02),
    "pattern": (node("/**/guidance", "tube_radius_m: 0.02"), 0.02),
    "below a pattern": ("/**:\n  guidance:\n    ros__parameters: {tube_radius_m: 0.02}\n", 0.02),
    "quotes": (node("'guidance'", '"tube_radius_m": 0.02'), 0.02),
    "two sections": (
        node("guidance", "tube_radius_m: 0.02") + node("planner", "backend: colour") + node("guidance", "keep_s: 5"),
        0.02,
    ),
    "two names": (node("guidance", "tube_radius_m: 0.1") + node("/guidance", "tube_radius_m: 0.02"), 0.02),
    "two documents": (node("planner", "backend: colour") + "---\n" + node("guidance", "tube_radius_m: 0.02"), 0.02),
    "anchor": (node("guidance", "tube_radius_m: &r 0.02"), 0.02),
    "mark": ("\ufeff" + node("guidance", "tube_radius_m: 0.02"), 0.02),
    "UTF-16": (node("guidance", "tube_radius_m: 0.02").encode("utf-16"), 0.02),
    "CRLF": (node("guidance", "tube_radius_m: 0.02").replace("\n", "\r\n"), 0.02),
    "umlaut": ("# höher\n" + node("guidance", "tube_radius_m: 0.02"), 0.02),
    "braces": ("{guidance: {ros__parameters: {tube_radius_m: 2e-2}}}", 0.02),
    "nothing": ("", 0.05),
    "comments": ("# planner:\n", 0.05),
    "empty": ("guidance: {ros__parameters: {}}", 0.05),
    "rclpy's own": (
        node("/**", "use_sim_time: yes") + node("planner", "qos_overrides./clock.subscription.depth: 1"),
        0.05,
    ),
    "of others": (
        node("camera", "rate_hz: 10") + node("record", "goals: 3") + node("executor", "safety: {image_timeout_s: 1}"),
        0.05,
    ),
    "not chosen": (node("policy", "3dfa: {checkpoint: x}"), 0.05),
}


@pytest.mark.parametrize("what", RIGHT)
def test_files_that_rcl_takes_have_its_meaning(tmp_path: Path, what: str) -> None:
    content, radius_m = RIGHT[what]
    file = tmp_path / "cell.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_settings(file).guide.tube_radius_m == radius_m


def test_dotted_names_reach_sections(tmp_path: Path) -> None:
    file = tmp_path / "cell.yaml"
    file.write_text(
        node("planner", "backend: heatmap", "heatmap.least_sure: 0x0", "heatmap:", "  weights: ''")
        + node("sim", "cell.sensor.enabled: on", "cell.sensor: {latency_s: 1e-1}")
        + node("/*", "robot.model: fr3")
    )
    settings = read_settings(file)
    assert settings.sections["planner"] == {"least_sure": 0, "weights": ""}
    assert (settings.cell.sensor.enabled, settings.cell.sensor.latency_s) == (True, 0.1)
    assert settings.robot.model == "fr3"


SETS: dict[str, str] = {
    "a": "Argument --set: wanted NODE.PARAMETER=VALUE, got 'a'",
    "a=b=c": "Argument --set: wanted NODE.PARAMETER=VALUE, got 'a=b=c'",
    "guidance.tube_radius_m": "Argument --set: wanted NODE.PARAMETER=VALUE",
    "guidance.=1": "guidance.: wanted NODE.PARAMETER",
    "guidance..x=1": "guidance..x: wanted NODE.PARAMETER",
    "guidance.tube_radius_m=": "guidance.tube_radius_m: wanted one value, got ''; an empty text is \"\"",
    "guidance.tube_radius_m= ": "guidance.tube_radius_m: wanted one value, got ' '",
    "guidance.tube_radius_m=wide": "--set: guidance.tube_radius_m: wanted float, got str 'wide'.",
    "guidance.tube_radius_m=9": "--set: guidance.tube_radius_m: wanted 0.005 to 0.5, got 9.0.",
    "guidance.tube_radius_m=[1, 2]": "--set: guidance.tube_radius_m: wanted float, got list [1, 2].",
    "guidance.tube_radius_m={a: 1}": "guidance.tube_radius_m: wanted a value, found names with values.",
    "guidance.tube_radius_m=0.1 0.2": "--set: guidance.tube_radius_m: wanted float, got str '0.1 0.2'.",
    "guidance.tube_radius_m='0.1'": "--set: guidance.tube_radius_m: wanted float, got str '0.1'.",
    "guidance.tube_radius_m=\udcfc": "guidance.tube_radius_m: not UTF-8",
    "guidance.tube_radius=0.02": "--set: guidance: unknown setting 'tube_radius'. Did you mean 'tube_radius_m'?",
    "guidence.tube_radius_m=0.02": "--set: no node 'guidence'. Did you mean 'guidance'?",
    "/guidance.tube_radius_m=0.02": "--set: no node '/guidance'. Did you mean 'guidance'?",
    "guidance.tube_radius_m.x=0.02": "guidance.tube_radius_m.x: 'tube_radius_m' is a setting and cannot be a section.",
    "guidance.lift=3": "--set: guidance.lift: wanted a mapping of settings, got int 3.",
    "executor.robot.model=fr3": "executor.robot.model: every node means the same robot: write robot.model.",
    "**.robot.model=fr3": "**.robot.model: every node means the same robot: write robot.model.",
    "robot.modl=fr3": "--set: robot: unknown setting 'modl'. Did you mean 'model'?",
    "guidance.mode=off": "--set: guidance.mode: wanted str, got bool False. In quotes it is a text (yes,",
    "guidance.sam2.memory=true": "guidance.sam2.memory: nothing would read it, because guidance.segmenter is 'geometric': set that too.",
}


@pytest.mark.parametrize("command", ARGUMENTS)
def test_every_command_refuses_the_same_overrides_with_the_same_sentences(
    command: str, refusal: Callable[..., str]
) -> None:
    for override, sentence in SETS.items():
        said = refusal(command, node("guidance", "tube_radius_m: 0.02"), "--set", override)
        assert sentence in said, f"{override}: {said}"


@pytest.mark.parametrize(
    ("command", "override", "sentence"),
    [
        ("guide", "executor.safety.image_timeout_s=1", "this command does not use it"),
        ("guide", "guidance.camera.max_age_s=1", "this command does not use it"),
        ("guide", "guidance.max_rate_hz=5", "this command does not use it"),
        ("guide", "policy.guidance_timeout_s=1", "this command does not use it"),
        ("guide", "robot.arm_action=/x", "this command does not use it"),
        ("evaluate", "sim.seed=3", "this command does not use it"),
        ("evaluate", "task.deadlines.plan_s=200", "this command does not use it"),
        ("evaluate", "policy.3dfa.checkpoint=x", "nothing would read it, because policy.backend is 'scripted'"),
        ("collect", "camera.path=x", "this command does not use it"),
        ("doctor", "guidance.tube_radius_m=0.02", "this command does not use it"),
        ("evaluate-planner", "sim.cell.sensor.enabled=true", "this command does not use it"),
        ("train", "planner.backend=heatmap", "this command does not use it"),
        ("train", "guidance.mode=full", "guidance.mode: the experiment sets it"),
        ("up", "camera.path=x", "the node 'camera' is not started with robot 'sim' and camera 'auto'"),
        ("up", "record.goals=3", "the node 'record' is not started"),
        ("up", "planner.openai.model=x", "nothing would read it, because planner.backend is 'colour'"),
        ("demo", "task.deadlines.plan_s=-1e0", "task.deadlines.plan_s: wanted"),
    ],
)
def test_what_a_command_would_not_read_is_refused(
    command: str, override: str, sentence: str, refusal: Callable[..., str]
) -> None:
    said = refusal(command, None, "--set", override)
    assert override.split("=")[0] in said
    assert sentence in said


def test_a_backend_named_in_two_ways(refusal: Callable[..., str]) -> None:
    for command in ("up", "demo", "evaluate", "collect", "guide", "doctor", "evaluate-planner"):
        said = refusal(command, None, "--planner", "colour", "--set", "planner.backend=heatmap")
        assert "--planner colour and planner.backend=heatmap: which of the two?" in said
    assert read_settings(None, {"planner": "colour"}, {"planner.backend": "colour"}).backends["planner"] == "colour"


def test_the_robot_of_the_file_is_not_passed_over(refusal: Callable[..., str]) -> None:
    for command in ("up", "demo"):
        said = refusal(command, node("/**", "robot.kind: real"))
        assert "FILE: robot.kind is 'real', but the stack is started with robot 'sim' (--robot, robot:=)" in said


def test_doctor_of_the_machine_has_no_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--params", str(tmp_path)], ["--set", "planner.backend=colour"]):
        assert main(["doctor", *words]) == exit_codes.USAGE
        assert "--params and --set are for `stvla doctor planner`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-2", 0.02),
        ("'a b'", "a b"),
        ('"off"', "off"),
        ("a=b=c", "a=b=c"),
        ("http://h:1/v?x=[1]", "http://h:1/v?x=[1]"),
        ("~/x", "~/x"),
        ("[a, b]", ["a", "b"]),
        ("[1, 2]", [1, 2]),
        ("$HOME", "$HOME"),
        (" 5 # five", 5),
        ('""', ""),
        ("null", "null"),
        ("1_000", "1_000"),
        ("yes", True),
        ("0777", 511),
        ("99999999999999999999", 1e20),
    ],
)
def test_values_of_overrides(text: str, value: Any) -> None:
    assert overridden({}, {"node.section.name": text}) == {"node": {"section": {"name": value}}}


def test_a_file_that_can_be_read_only_once(tmp_path: Path) -> None:
    """``--params <(sed ... cell.yaml)``: the nodes would find it empty, and run with the defaults."""
    import os

    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError, match="wanted a regular file, because every node reads it"):
            read_parameters(place)


def test_without_ros_it_is_told_what_is_not_checked(tmp_path: Path) -> None:
    """The pipeline needs no ROS; the settings classes of the nodes do."""
    file = tmp_path / "cell.yaml"
    file.write_text(node("guidance", "tube_radius_m: 2e-2"))
    program = (
        "import sys\n"
        "sys.modules['rclpy'] = None\n"
        "from pathlib import Path\n"
        "from stvla_ros.evaluate.stack import read_settings\n"
        f"print(read_settings(Path({str(file)!r})).guide.tube_radius_m)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0.02\n"
    assert f"{file}: settings of 'guidance' are not checked without 'rclpy" in done.stderr


def test_parts_are_all_known() -> None:
    read_settings(
        None, overrides={"guidance.tube_radius_m": "2e-2", "robot.model": "fr3", "task.max_keyposes": "3"}, parts=PARTS
    )
