"""The commands that start or need a stack, as an operator runs them: in processes of their own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import pytest
from system.conftest import Process

from stvla_ros.commands import exit_codes
from stvla_ros.commands.demo import LEARNED
from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode
from stvla_ros.ros import graph
from stvla_ros.ros.client import wait_for_nodes
from stvla_ros.ros.graph import GraphOptions
from stvla_ros.ros.middleware import private_domain
from stvla_ros.sim.tasks import TASKS, make_task

CLI = "stvla_ros.cli"
Start = Callable[..., Process]


def eventually(condition: Callable[[], bool], timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def nodes_of(domain_or_runs: Path) -> list[str]:
    """Command lines of node processes that were given the parameter file of this test."""
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "stvla_ros.nodes." in line and str(domain_or_runs) in line]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of the shipped parameters, by whose path a test knows its own processes."""
    from stvla_ros.ros.graph import default_parameters

    copy = tmp_path / "stvla.yaml"
    copy.write_text(default_parameters().read_text())
    return copy


def test_domains_are_private_and_the_environment_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "41")
    with private_domain() as one, private_domain() as two:
        assert one != two
        assert os.environ["ROS_DOMAIN_ID"] == str(two)
        assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert os.environ["ROS_DOMAIN_ID"] == "41"
    monkeypatch.setenv("ROS_DOMAIN_ID", "many")
    with pytest.raises(ConfigError, match="wanted 0 to 101, got 'many'"), private_domain():
        pass


def test_the_demos_speak_of_red_things_and_of_soup() -> None:
    said = {task: make_task(task, kind.demo_seed).instruction for task, kind in TASKS.items()}
    assert said["pick_place"] == "Put the red block in the plate."
    assert said.pop("put_groceries") == "Put the soup in the cupboard."
    assert all(" red " in instruction for instruction in said.values())


def test_run_without_a_stack_says_so(start: Start, tmp_path: Path) -> None:
    process = start(CLI, "run", "Put the red block in the plate.", "--runs", str(tmp_path))
    assert process.wait() == exit_codes.UNREACHABLE
    assert process.output.startswith("stvla: No stack is running")
    assert process.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "old", "new", "words"),
    [
        ("demo", "tube_radius_m: 0.05", "tube_radius_m: 5.0", ["tube_radius_m", "0.005 to 0.5"]),
        ("up", "policy:\n", "polcy:\n", ["polcy", "Did you mean 'policy'?"]),
        ("up", "needs: [planner", "neds: [planner", ["neds", "Did you mean 'needs'?"]),
    ],
)
def test_a_wrong_parameter_ends_everything_with_one_sentence(
    start: Start, params: Path, tmp_path: Path, command: str, old: str, new: str, words: list[str]
) -> None:
    assert old in params.read_text()
    params.write_text(params.read_text().replace(old, new))
    process = start(CLI, command, "--params", str(params), *(["--runs", str(tmp_path / "runs")] * (command == "demo")))
    assert process.wait(60.0) == exit_codes.USAGE
    last = process.output.strip().splitlines()[-1]
    assert last.startswith("stvla: ")
    assert all(word in last for word in words), process.output
    assert "Traceback" not in process.output
    assert eventually(lambda: nodes_of(params) == [], 5.0)


@pytest.mark.slow
def test_demo_puts_the_red_block_in_the_plate(start: Start, params: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    learned = [word for kind, name in LEARNED.items() for word in (f"--{kind}", name)]  # what `make demo` runs
    process = start(CLI, "demo", "--params", str(params), *learned, "--runs", str(runs))
    code = process.wait(240.0)
    assert code == 0, process.output
    assert process.output.startswith("Put the red block in the plate.")
    for phase in ("planning", "predicting", "moving"):
        assert re.search(rf"^ *\d+\.\d s  {phase} ", process.output, re.MULTILINE)

    summary = json.loads((runs / "latest" / "summary.json").read_text())
    assert (summary["outcome"], summary["success"]) == ("OK", True)
    assert (summary["task"], summary["seed"]) == ("pick_place", TASKS["pick_place"].demo_seed)
    assert summary["keyposes"] >= 3
    assert summary["times_s"]["total"] > summary["times_s"]["motion"] > 1.0
    assert 0.0 < summary["idle_share"] < 1.0
    state = summary["state"]
    assert (state["finished"], state["step_index"], state["step_total"]) == (True, 0, 1)
    assert len(state["sub_instructions"]) == 1
    assert "red block" in state["sub_instructions"][0]
    assert len(state["plan_times_s"]) >= summary["replans"] + 1
    assert 0.0 < state["plan_p50_s"] <= state["plan_p95_s"]
    assert [event["phase"] for event in summary["events"]][:3] == ["planning", "predicting", "moving"]

    with av.open(str(runs / "latest" / "run.mp4")) as film:
        frames = list(film.decode(video=0))
    assert len(frames) > 20
    width = frames[-1].width // 3
    last = frames[-1].to_ndarray(format="rgb24")
    assert all(last[40:, n * width : (n + 1) * width].std() > 10 for n in range(3)), "a view is missing in the film"
    assert cv2.imread(str(runs / "latest" / "storyboard.png")).shape[0] > 3 * 200
    assert {p.name for p in (runs / "latest" / "logs").iterdir()} >= {"sim.log", "executor.log", "task.log"}
    assert eventually(lambda: nodes_of(params) == [], 5.0)


@pytest.mark.slow
def test_ctrl_c_cancels_the_goal_and_leaves_nothing_behind(start: Start, params: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    process = start(CLI, "demo", "--params", str(params), "--runs", str(runs), "--no-film")
    assert eventually(lambda: " moving " in process.output, 120.0), process.output
    assert process.stop(signal.SIGINT, 60.0) == exit_codes.of_outcome(OutcomeCode.CANCELED), process.output
    assert json.loads((runs / "latest" / "summary.json").read_text())["outcome"] == "CANCELED"
    assert "Traceback" not in process.output
    assert eventually(lambda: nodes_of(params) == [], 5.0)


@pytest.mark.slow
def test_up_run_and_stop_in_two_terminals(
    start: Start, params: Path, tmp_path: Path, domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = start(
        CLI, "up", "--params", str(params), "--task", "push_buttons", "--seed", "55", "--logs", str(tmp_path / "logs")
    )
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    assert wait_for_nodes(graph.node_names(GraphOptions()), 120.0) == (), up.output
    assert start(CLI, "stop").wait(60.0) == 0, up.output
    command = ["run", "Push the red button.", "--runs", str(tmp_path / "runs"), "--no-film"]
    stopped = start(CLI, *command)
    assert stopped.wait(60.0) == exit_codes.of_outcome(OutcomeCode.CANCELED), stopped.output
    assert "stvla stop --release" in stopped.output
    assert not (tmp_path / "runs").exists(), "the goal was not even sent"
    assert start(CLI, "stop", "--release").wait(60.0) == 0
    shell = f"{shlex.join([sys.executable, '-u', '-m', CLI, *command])} | head -1; exit ${{PIPESTATUS[0]}}"
    into_a_closed_pipe = subprocess.run(["bash", "-c", shell], timeout=120.0).returncode
    assert into_a_closed_pipe == exit_codes.of_outcome(OutcomeCode.CANCELED)
    assert json.loads((tmp_path / "runs" / "latest" / "summary.json").read_text())["outcome"] == "CANCELED"
    command[1] = "Put the plaid elephant in the plate."
    refused = start(CLI, *command)
    assert refused.wait(60.0) == exit_codes.of_outcome(OutcomeCode.GOAL_NOT_GROUNDED), refused.output
    summary = json.loads((tmp_path / "runs" / "latest" / "summary.json").read_text())
    assert (summary["outcome"], summary["keyposes"], summary["success"]) == ("GOAL_NOT_GROUNDED", 0, False)
    assert up.stop(signal.SIGINT, 30.0) == 0
    assert eventually(lambda: nodes_of(params) == [], 5.0)
