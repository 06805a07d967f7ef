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
from ros.bags import record_scene
from system.brain_harness import wait

from stvla_ros import registry
from stvla_ros.config import ConfigError, read_parameters
from stvla_ros.description.robot import RobotConfig
from stvla_ros.ros import graph
from stvla_ros.ros.client import wait_for_nodes
from stvla_ros.ros.graph import GraphOptions, processes, ros_arguments
from stvla_ros.ros.up import Stack

ROOT = Path(__file__).parents[2]


def names(**options: Any) -> list[str]:
    return [spec.name for spec in processes(GraphOptions(**options))]


def test_which_processes() -> None:
    assert names() == ["sim", "executor", "planner", "guidance", "policy", "task"]
    assert names(mode="composed") == ["sim", "executor", "composed"]
    assert names(mode="composed", console=True) == ["sim", "executor", "composed", "console"]
    assert names(robot="real") == ["executor", "planner", "guidance", "policy", "task"]
    for camera in ("recorded", "realsense"):
        assert names(robot="real", camera=camera, mode="composed") == ["camera", "executor", "composed"]
    assert names(robot="franka", mode="composed") == ["franka", "executor", "composed"]
    assert names(robot="franka_sim", mode="composed") == ["sim", "franka", "executor", "composed"]
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
        ({"robot": "simm"}, "robot: wanted one of sim, real, franka, franka_sim, got 'simm'. Did you mean 'sim'?"),
        ({"mode": "composd"}, "Did you mean 'composed'?"),
        ({"camera": "replay"}, "camera: wanted one of auto, recorded, realsense, external"),
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


def told(options: GraphOptions, process: graph.NodeSpec) -> dict[str, Any]:
    """What a process is told besides the parameter file."""
    first, file, second, more = ros_arguments(options, process)
    assert first == second == "--params-file"
    assert Path(file) == (options.params or graph.default_parameters())
    return read_parameters(Path(more))


def test_arguments_reach_their_process() -> None:
    options = GraphOptions(backends={"planner": "colour", "motion": "ompl"}, overrides={"sim.seed": "3"})
    robot = {"**": {"robot": {"kind": "sim"}}}
    assert told(options, graph.PLANNER) == {**robot, "planner": {"backend": "colour"}}
    assert told(options, graph.EXECUTOR) == {**robot, "executor": {"motion": "ompl"}}
    assert told(options, graph.SIM) == {**robot, "sim": {"seed": 3}}
    assert told(options, graph.COMPOSED) == {**robot, "planner": {"backend": "colour"}}
    camera = GraphOptions(camera="realsense", overrides={"camera.realsense.serial": "'012'"})
    assert told(camera, graph.CAMERA) == {**robot, "camera": {"source": "realsense", "realsense": {"serial": "012"}}}
    assert told(camera, graph.SIM) == {**robot, "sim": {"camera": "unused/camera"}}


def test_the_robot_is_described_once_for_all_processes() -> None:
    options = GraphOptions(robot="real", overrides={"robot.model": "fr3"})
    for process in processes(options):
        assert told(options, process) == {"**": {"robot": {"kind": "real", "model": "fr3"}}}


def test_a_simulated_franka_never_moves_the_real_one(
    monkeypatch: pytest.MonkeyPatch, parameter_file: Callable[[str], Path]
) -> None:
    """Whatever address the file has, and whoever else simulates on this computer."""
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    file = parameter_file("franka:\n  ros__parameters:\n    hostname: 172.16.0.2\n    realtime: true\n")
    options = GraphOptions(robot="franka_sim", params=file)
    assert told(options, graph.SIM)["sim"] == {"interface": "fci", "fci": {"hostname": "127.0.7.2"}}
    driver = told(options, graph.FRANKA)["franka"]
    assert driver == {"hostname": "127.0.7.2", "realtime": False, "activate_at_start": True}
    assert "franka" not in told(GraphOptions(robot="franka", params=file), graph.FRANKA)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "/**:\n  ros__parameters:\n    robot:\n      model: fr4\n",
            "robot.model: wanted one of panda, fr3.*, got 'fr4'",
        ),
        ("/**:\n  ros__parameters:\n    robot:\n      arm_acton: x\n", "robot: unknown setting 'arm_acton'"),
        (
            "executor:\n  ros__parameters:\n    robot:\n      arm_action: x\n",
            "node 'executor' has a section 'robot' of its own: move it to '/\\*\\*'",
        ),
    ],
)
def test_a_wrong_robot_is_refused_before_anything_starts(
    parameter_file: Callable[[str], Path], text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ros_arguments(GraphOptions(params=parameter_file(text)), graph.TASK)


def test_deadlines_that_cross_are_refused_before_anything_starts(parameter_file: Callable[[str], Path]) -> None:
    """The planner's own sentence must come before the task's patience ends."""
    crossed = GraphOptions(backends={"planner": "openai"}, overrides={"task.deadlines.plan_s": "95"})
    with pytest.raises(ConfigError, match="plan_s is 95 s, but a plan of 'openai' may take 95 s: 5 s for an image"):
        ros_arguments(crossed, graph.TASK)
    file = parameter_file(
        "planner:\n  ros__parameters:\n    backend: openai\n    openai:\n      deadline_s: 200.0\n      reply_deadline_s: 7.0\n"
    )
    with pytest.raises(ConfigError, match="plan_s is 150 s, but a plan of 'openai' may take 212 s"):
        ros_arguments(GraphOptions(params=file), graph.TASK)
    ros_arguments(GraphOptions(params=file, overrides={"task.deadlines.plan_s": "213"}), graph.TASK)


@pytest.mark.parametrize("planner", ["openai", "qwen3_vl", "colour"])
def test_default_deadlines_do_not_cross(planner: str) -> None:
    ros_arguments(GraphOptions(backends={"planner": planner}), graph.TASK)


def test_a_name_that_begins_with_a_digit_goes_into_a_file() -> None:
    """rcl cannot parse it on the command line."""
    options = GraphOptions(backends={"policy": "3dfa"}, overrides={"policy.3dfa.threads": "2"})
    robot = {"**": {"robot": {"kind": "sim"}}}
    assert told(options, graph.POLICY) == {**robot, "policy": {"backend": "3dfa", "3dfa": {"threads": 2}}}
    assert ros_arguments(options, graph.POLICY) == ros_arguments(options, graph.POLICY)
    assert told(options, graph.TASK) == robot


def test_nobody_can_foretell_where_parameter_files_are() -> None:
    """What is known beforehand, another user lays a link or a file of their own at."""
    program = (
        "from stvla_ros.ros import graph\n"
        "options = graph.GraphOptions(overrides={'planner.colour.grip_depth_m': '2e-2'})\n"
        "print(graph.ros_arguments(options, graph.PLANNER)[-1], flush=True)\n"
        "input()\n"
    )
    files = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        files.append(Path(process.stdout.readline().strip()))
        assert files[-1].is_file()
        assert files[-1].parent.stat().st_mode & 0o777 == 0o700
        assert files[-1].parent.stat().st_uid == os.getuid()
        process.communicate("\n")
        assert not files[-1].parent.exists(), "it goes with the supervisor"
    assert files[0] != files[1]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "Any program on this computer or its subnet in ROS domain 0 may move the arm; {}=LOCALHOST keeps it"),
        ({"ROS_DOMAIN_ID": "7", "{}": "LOCALHOST"}, "Any program on this computer in ROS domain 7 may move the arm; {}=SUBNET"),
        ({"ROS_LOCALHOST_ONLY": "1", "ROS_STATIC_PEERS": "10.0.0.2"}, "Any program on this computer in ROS domain 0 may"),
        ({"{}": "LOCALHOST", "ROS_STATIC_PEERS": "10.0.0.2"}, "Any program on this computer or 10.0.0.2 in ROS domain 0"),
        ({"{}": "OFF"}, "No program can move the arm, and the nodes cannot find each other: {}=OFF."),
    ],
)  # fmt: skip
def test_the_operator_is_told_who_may_move_the_arm(environment: dict[str, str], sentence: str) -> None:
    name = graph.DISCOVERY_RANGE
    told = graph.who_may_move({key.format(name): value for key, value in environment.items()})
    assert told.startswith(sentence.format(name))


def test_where_nobody_chose_the_nodes_talk_on_this_computer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(graph.DISCOVERY_RANGE, raising=False)
    assert Stack().environment[graph.DISCOVERY_RANGE] == "LOCALHOST"
    monkeypatch.setenv(graph.DISCOVERY_RANGE, "SUBNET")
    assert Stack().environment[graph.DISCOVERY_RANGE] == "SUBNET"


def test_a_client_that_looks_further_finds_a_stack_that_keeps_to_this_computer(
    domain: int, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with ROS from apt, where nothing sets the variable for ``stvla run`` in the other terminal."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv(graph.DISCOVERY_RANGE, "SUBNET")
    node = start("stvla_ros.nodes.policy", env={graph.DISCOVERY_RANGE: "LOCALHOST"})
    assert not wait_for_nodes(["policy"], 60.0), node.output


def test_every_node_can_be_started_both_ways() -> None:
    setup = (ROOT / "setup.py").read_text()
    listed = set(re.search(r"NODES = \((.*?)\)", setup, re.S).group(1).replace('"', "").replace(" ", "").split(","))
    for spec in (*graph.NODES, graph.COMPOSED):
        assert find_spec(spec.module) is not None
        assert spec.executable in listed, f"setup.py has no console script {spec.executable}"


def test_the_list_of_nodes_is_that_of_the_nodes() -> None:
    """A node that is not listed would have its settings passed over; one listed with other settings, wrongly checked."""
    assert {name for spec in graph.NODES for name in spec.nodes} | {"record"} == set(registry.NODES)
    for name, (path, backends) in registry.NODES.items():
        module, cls = path.split(":")
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        calls = [c for c in ast.walk(ast.parse(Path(spec.origin).read_text())) if isinstance(c, ast.Call)]
        made = next(c for c in calls if c.args and isinstance(c.args[0], ast.Constant) and c.args[0].value == name)
        assert ast.unparse(made.args[1]) == cls
        given = {k.arg: ast.literal_eval(k.value) for k in made.keywords}
        assert given.get("backends", {}) == backends


def test_default_parameter_file_fits_the_nodes() -> None:
    """Every node's section is accepted by that node's own settings."""
    from stvla_ros.evaluate.stack import read_settings

    file = graph.default_parameters()
    assert set(read_parameters(file)) == {name for spec in graph.NODES for name in spec.nodes} | {"**"}
    read_settings(file)


def test_the_pipeline_reads_the_same_robot(parameter_file: Callable[[str], Path]) -> None:
    from stvla_ros.evaluate.stack import read_settings

    file = parameter_file("/**:\n  ros__parameters:\n    robot:\n      model: fr3\n")
    settings = read_settings(file, overrides={"robot.open_width_m": "0.07"})
    assert settings.robot == RobotConfig(model="fr3", open_width_m=0.07)


def test_launch_file_declares_the_arguments_and_reads_the_list() -> None:
    source = (ROOT / "launch" / "stvla.launch.py").read_text()
    tree = ast.parse(source)
    declared = {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "DeclareLaunchArgument"
        if isinstance(call.args[0], ast.Constant)
    }
    assert declared == {"robot", "camera", "mode", "record", "console", "params"}
    assert set(registry.BACKEND_PARAMETER) == {
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
        assert all(os.getsid(pid) == pid for pid in first.values()), "what the terminal runs may hold them up"
        wait(lambda: any("The node 'camera' is here." in t for _, t in lines))  # for who misses it later
        os.kill(first["camera"], signal.SIGKILL)
        wait(lambda: stack.pids().get("camera", first["camera"]) != first["camera"], 20.0)
        assert any(n == "camera" and "ended with signal SIGKILL; it starts again in 2 s" in t for n, t in lines)
        stack.wait_ready(60.0)
        told = [
            "Stack ready: planner, guidance, policy, executor, ",
            "Lost the node 'camera'",
            "The node 'camera' is back",
        ]
        wait(lambda: all(any(sentence in t for _, t in lines) for sentence in told), 20.0)
        assert sum("Stack ready" in t for _, t in lines) == 1
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
