"""The list of nodes, and its two readers: the supervisor and the launch file."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import stalls
from ros.brain_bench import record_scene, wait

from stvla_ros.config import ConfigError, read_parameters
from stvla_ros.ros import graph
from stvla_ros.ros.graph import GraphOptions, processes, ros_arguments
from stvla_ros.ros.up import Stack

ROOT = Path(__file__).parents[2]


def names(**options: Any) -> list[str]:
    return [spec.name for spec in processes(GraphOptions(**options))]


def test_which_processes() -> None:
    assert names() == ["sim", "executor", "planner", "guidance", "policy", "task"]
    assert names(mode="composed") == ["sim", "executor", "composed"]
    assert names(robot="real") == ["executor", "planner", "guidance", "policy", "task"]
    assert names(robot="real", camera="recorded", mode="composed") == ["camera", "executor", "composed"]
    assert graph.node_names(GraphOptions(mode="composed")) == (
        "sim",
        "executor",
        "planner",
        "guidance",
        "policy",
        "task",
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"robot": "simm"}, "robot: wanted one of sim, real, got 'simm'. Did you mean 'sim'?"),
        ({"mode": "composd"}, "Did you mean 'composed'?"),
        ({"camera": "replay"}, "camera: wanted one of auto, recorded, external"),
        ({"backends": {"planner": "color"}}, "planner: wanted one of .*Did you mean 'colour'?"),
        ({"overrides": {"plannr.backend": "x"}}, "Did you mean 'planner'?"),
        ({"params": Path("/nowhere.yaml")}, r"/nowhere.yaml: cannot be read \(No such file or directory\)"),
    ],
)
def test_wrong_options(options: dict[str, Any], sentence: str) -> None:
    chosen = GraphOptions(**options)
    with pytest.raises(ConfigError, match=sentence):
        [ros_arguments(chosen, spec) for spec in processes(chosen)]


def test_node_name_typo_in_the_parameter_file(parameter_file: Callable[[str], Path]) -> None:
    file = parameter_file("plannr:\n  ros__parameters:\n    backend: colour\n")
    with pytest.raises(ConfigError, match=r"no node 'plannr'\. Did you mean 'planner'"):
        ros_arguments(GraphOptions(params=file), graph.PLANNER)


def test_arguments_reach_their_process() -> None:
    options = GraphOptions(backends={"planner": "colour", "motion": "ompl"}, overrides={"sim.seed": "3"})
    assert ros_arguments(options, graph.PLANNER)[2:] == ["-p", "planner:backend:=colour"]
    assert ros_arguments(options, graph.EXECUTOR)[2:] == ["-p", "executor:motion:=ompl"]
    assert ros_arguments(options, graph.SIM)[2:] == ["-p", "sim:seed:=3"]
    assert ros_arguments(options, graph.COMPOSED)[2:] == ["-p", "planner:backend:=colour"]


def test_a_name_that_begins_with_a_digit_goes_into_a_file() -> None:
    """rcl cannot parse it on the command line."""
    options = GraphOptions(overrides={"policy.3dfa.threads": "2"})
    option, file = ros_arguments(options, graph.POLICY)[2:]
    assert option == "--params-file"
    assert read_parameters(Path(file)) == {"policy": {"3dfa.threads": 2}}
    assert ros_arguments(options, graph.POLICY)[2:] == [option, file]
    assert ros_arguments(options, graph.TASK)[2:] == []


def test_every_node_can_be_started_both_ways() -> None:
    setup = (ROOT / "setup.py").read_text()
    listed = set(re.search(r"NODES = \((.*?)\)", setup, re.S).group(1).replace('"', "").replace(" ", "").split(","))
    for spec in (*graph.NODES, graph.COMPOSED):
        assert find_spec(spec.module) is not None
        assert spec.executable in listed, f"setup.py has no console script {spec.executable}"


def test_default_parameter_file_fits_the_nodes() -> None:
    """Every node's section is accepted by that node's own settings."""
    from stvla_ros.evaluate.stack import read_settings

    file = graph.default_parameters()
    assert set(read_parameters(file)) == {name for spec in graph.NODES for name in spec.nodes}
    read_settings(file)


def test_launch_file_declares_the_arguments_and_reads_the_list() -> None:
    source = (ROOT / "launch" / "stvla.launch.py").read_text()
    tree = ast.parse(source)
    declared = {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "DeclareLaunchArgument"
        if isinstance(call.args[0], ast.Constant)
    }
    assert declared == {"robot", "camera", "mode", "params"}
    assert set(graph.BACKEND_PARAMETER) == {
        "planner",
        "policy",
        "segmenter",
        "motion",
    }
    assert "graph.processes(options)" in source
    assert "graph.ros_arguments(options, spec)" in source
    assert not re.search(r"\bname=", source), "a name would rename every node of a composed process"


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, domain: int) -> GraphOptions:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    folder = record_scene(tmp_path / "recording")
    return GraphOptions("real", "recorded", "composed", overrides={"camera.path": str(folder)})


def test_supervisor_starts_respawns_and_stops(recorded: GraphOptions, tmp_path: Path) -> None:
    lines: list[tuple[str, str]] = []
    with Stack(recorded, tmp_path / "logs", lambda name, line: lines.append((name, line))) as stack:
        stack.wait_ready(60.0)
        first = stack.pids()
        assert set(first) == {"camera", "executor", "composed"}
        os.kill(first["camera"], signal.SIGKILL)
        wait(lambda: stack.pids().get("camera", first["camera"]) != first["camera"], 20.0)
        assert any(n == "camera" and "ended with signal SIGKILL; it starts again in 2 s" in t for n, t in lines)
        stack.wait_ready(60.0)
        second, start = stack.pids(), stalls.clock()
    assert stalls.clock() - start < 4.0
    for pid in (*first.values(), *second.values()):
        assert not Path(f"/proc/{pid}").exists()
    assert "SIGKILL" in (tmp_path / "logs" / "camera.log").read_text()


def test_wrong_parameters_end_the_stack(recorded: GraphOptions) -> None:
    wrong = GraphOptions("real", "recorded", "composed", overrides={"camera.path": "/nowhere"})
    with (
        pytest.raises(ConfigError, match="/nowhere: wanted a folder with a recording, found nothing"),
        Stack(wrong) as stack,
    ):
        stack.wait_ready(60.0)


def test_no_orphans_when_the_supervisor_is_killed(recorded: GraphOptions, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from stvla_ros.ros.up import Stack\n"
        "from stvla_ros.ros.graph import GraphOptions\n"
        f"options = GraphOptions('real', 'recorded', 'composed', overrides={dict(recorded.overrides)!r})\n"
        "stack = Stack(options)\n"
        "stack.start()\n"
        "stack.wait_ready(60.0)\n"
        "print('pids', *stack.pids().values(), flush=True)\n"
        "stack.wait()\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    pids = next(line for line in supervisor.stdout if line.startswith("pids")).split()[1:]
    supervisor.kill()
    supervisor.wait(10.0)
    wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 15.0)
