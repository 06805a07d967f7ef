"""The list of nodes that ``stvla up`` and ``launch/stvla.launch.py`` start, and the settings with which they start.

Imports neither rclpy nor a stage, so that importing it is cheap.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import stvla_ros.evaluate  # names the planner 'oracle'
import stvla_ros.ros.backends  # noqa: F401 - names the motion planner 'moveit'
from stvla_ros import rcl_yaml, registry
from stvla_ros.config import EVERY_NODE, SHARED, ConfigError, build, check_range
from stvla_ros.description.robot import KINDS

ROBOTS = KINDS
"""sim: the simulated cell with controllers of its own; real: a robot behind ros2_control, started elsewhere; franka: the
node ``franka`` drives the robot; franka_sim: that node and the simulated cell behind its network interface."""

MODES = ("separate", "composed")
CAMERAS = ("auto", "recorded", "realsense", "external")
"""auto: the simulator's camera with robot sim or franka_sim, otherwise external; recorded: replay a recording; realsense: the node
``camera`` drives a RealSense camera; external: a driver that is started elsewhere, e.g. realsense-ros."""

BRAIN = ("planner", "guidance", "policy", "task")
"""Nodes that mode ``composed`` puts into one process."""

KEEP = ("all", "failures")
"""Which recordings a recorder keeps: of every goal, or only of those that do not end with OK."""

DISCOVERY_RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"

WRONG_PARAMETERS = 2
"""Exit code of a node that refused its parameters: restarting it would not help."""

RESPAWN_DELAY_S = 2.0
"""Longer than the heartbeat timeout, so that all nodes notice a loss before the node is back."""


@dataclass(frozen=True)
class NodeSpec:
    """One process.

    Attributes:
        name: Its name in logs.
        module: For ``python -m``.
        executable: For ``ros2 run stvla_ros`` and launch.
        nodes: Names of its ROS nodes, as in parameter files and heartbeats.
        respawn: Start it again when it dies.
    """

    name: str
    module: str
    executable: str
    nodes: tuple[str, ...]
    respawn: bool = True


def _node(name: str) -> NodeSpec:
    return NodeSpec(name, f"stvla_ros.nodes.{name}", name, (name,))


SIM, FRANKA, CAMERA, PLANNER, GUIDANCE, POLICY, EXECUTOR, TASK, RECORD, CONSOLE = map(
    _node, ("sim", "franka", "camera", "planner", "guidance", "policy", "executor", "task", "record", "console")
)
COMPOSED = NodeSpec("composed", "stvla_ros.nodes.composed", "composed", BRAIN)
NODES = (SIM, FRANKA, CAMERA, PLANNER, GUIDANCE, POLICY, EXECUTOR, TASK, RECORD, CONSOLE)


@dataclass(frozen=True)
class GraphOptions:
    """What to start.

    Attributes:
        robot: See :data:`ROBOTS`.
        camera: See :data:`CAMERAS`.
        mode: One process per node, or one process for the nodes in :data:`BRAIN`.
        params: Parameter file; None: the one in the package.
        backends: Kind -> name; None or missing: as in the parameter file.
        overrides: Additional parameters, ``node.parameter`` -> value as YAML text, e.g. ``sim.seed``: ``3``;
            ``robot.parameter`` for all nodes.
        record: Which goals to record, see :data:`KEEP`; None: no recorder is started.
        console: Whether the operator console is started.
    """

    robot: str = "sim"
    camera: str = "auto"
    mode: str = "separate"
    params: Path | None = None
    backends: Mapping[str, str | None] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    record: str | None = None
    console: bool = False


def processes(options: GraphOptions) -> tuple[NodeSpec, ...]:
    """The processes of a stack, in the order in which they start.

    Raises:
        ConfigError: An option has an unknown value.
    """
    check_range({"choices": ROBOTS}, options.robot, "robot")
    check_range({"choices": MODES}, options.mode, "mode")
    check_range({"choices": CAMERAS}, options.camera, "camera")
    robot = {"sim": (SIM,), "franka": (FRANKA,), "franka_sim": (SIM, FRANKA)}.get(options.robot, ())
    camera = (CAMERA,) if options.camera in ("recorded", "realsense") else ()
    brain = (PLANNER, GUIDANCE, POLICY, TASK) if options.mode == "separate" else (COMPOSED,)
    recorder = (RECORD,) if options.record else ()  # hears the others' first messages, and ends after them
    console = (CONSOLE,) if options.console else ()
    return (*recorder, *robot, *camera, EXECUTOR, *brain, *console)


def node_names(options: GraphOptions) -> tuple[str, ...]:
    """Names of the ROS nodes that send heartbeats."""
    return tuple(name for process in processes(options) for name in process.nodes)


def ros_arguments(options: GraphOptions, process: NodeSpec) -> list[str]:
    """The arguments after ``--ros-args`` on the command line of a process.

    Raises:
        ConfigError: The parameter file or an override is wrong; no node reads an override; a backend is unknown; the
            file is for the other kind of robot; deadlines contradict each other.
    """
    check_settings(options)
    chosen = {f"{n}.{p}": options.backends.get(kind) for kind, (n, p) in registry.BACKEND_PARAMETER.items()}
    changes = {
        f"{SHARED}.kind": options.robot,
        **_of_robot(options.robot),
        **({"camera.source": options.camera} if options.camera in ("recorded", "realsense") else {}),
        **{n: v for n, v in chosen.items() if v is not None},
        **({"record.keep": options.record} if options.record else {}),
        **options.overrides,
    }
    if "sim" in process.nodes and options.camera != "auto":
        changes["sim.camera"] = "unused/camera"
    mine = {n: v for n, v in changes.items() if n.split(".")[0] in (SHARED, *process.nodes)}
    file = options.params or default_parameters()
    return ["--params-file", str(file), "--params-file", str(_parameter_file(mine, file))]


def guest_arguments(params: Path | None, changes: Mapping[str, str]) -> list[str]:
    """The arguments after ``--ros-args`` of a recorder or console for a stack which somebody else started.

    Args:
        params: Parameter file; None: the one in the package.
        changes: As :attr:`GraphOptions.overrides`, of that node and the robot only.

    Raises:
        ConfigError: The parameter file or a change is wrong.
    """
    file = params or default_parameters()
    registry.read_nodes(file, overrides=changes)
    return ["--params-file", str(file), "--params-file", str(_parameter_file(changes, file))]


def _of_robot(robot: str) -> dict[str, str]:
    """Parameters that make the two nodes of robot ``franka_sim`` a pair, whatever the file says of a real robot.

    Each ROS domain gets a loopback address of its own, so that several stacks on a computer do not meet.
    """
    if robot != "franka_sim":
        return {}
    address = f"127.0.{int(os.environ.get('ROS_DOMAIN_ID') or 0) % 256}.2"
    return {
        "sim.interface": "fci",
        "sim.fci.hostname": address,
        "franka.hostname": address,
        "franka.realtime": "false",
        "franka.activate_at_start": "true",
    }


def _parameter_file(changes: Mapping[str, str], file: Path) -> Path:
    """Write a parameter file that overrides ``file``, whatever that contains.

    rcl processes the sections of both files in the order in which their names first appear, and the last one wins. So
    these sections get names that ``file`` does not have. In a section of the same name, or with ``-p``, an integer in
    the file would win against a float. Also, rcl accepts no name with a part like ``3dfa`` after ``-p``.
    """
    sections: dict[str, dict[str, dict[str, Any]]] = {}
    taken = rcl_yaml.read(file.read_bytes())
    for dotted, text in changes.items():
        node, _, parameter = dotted.partition(".")
        name, parameter = ("/**", dotted) if node == SHARED else (f"/**/{node}", parameter)
        while name in taken:
            name = f"/**{name}"
        settings = sections.setdefault(name, {rcl_yaml.PARAMETERS_KEY: {}})[rcl_yaml.PARAMETERS_KEY]
        settings[parameter] = rcl_yaml.read_value(text)
    content = rcl_yaml.write(sections)
    place = _private_folder() / f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.yaml"
    place.write_text(content)
    return place


@cache
def _private_folder() -> Path:
    """A folder that only this user can write to; removed when this process, the supervisor, exits."""
    folder = tempfile.mkdtemp(prefix="stvla-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def who_may_move(environment: Mapping[str, str]) -> str:
    """One line for the operator: whose goals the stack accepts, judged by the ROS variables of its nodes."""
    domain = environment.get("ROS_DOMAIN_ID") or "0"
    reach, peers = environment.get(DISCOVERY_RANGE) or "SUBNET", environment.get("ROS_STATIC_PEERS", "")
    if environment.get("ROS_LOCALHOST_ONLY") == "1":  # the older variable wins, as in rcl
        reach, peers = "LOCALHOST", ""
    places = {"LOCALHOST": ["this computer"], "OFF": []}.get(reach, ["this computer", "its subnet"])
    where = " or ".join([*places, *filter(None, [peers])])
    if not where:
        return f"No program can move the arm, and the nodes cannot find each other: {DISCOVERY_RANGE}=OFF."
    other = (
        ("SUBNET", "opens it to the network") if reach == "LOCALHOST" else ("LOCALHOST", "keeps it to this computer")
    )
    return f"Any program on {where} in ROS domain {domain} may move the arm; {DISCOVERY_RANGE}={other[0]} {other[1]}."


def check_parameter_file(file: Path) -> None:
    """Raises ConfigError when the file cannot be read or has a wrong setting of any node."""
    registry.read_nodes(file)


def check_settings(options: GraphOptions) -> None:
    """Check everything that :func:`ros_arguments` checks, without side effects. Raises ConfigError."""
    file = options.params or default_parameters()
    for kind, name in options.backends.items():
        if name is not None:
            check_range({"choices": registry.names(kind)}, name, kind)
    nodes = registry.read_nodes(file, options.backends, options.overrides)
    _check_robot(options, nodes, file)
    _check_started(options)
    _check_deadlines(nodes, file)


def _check_robot(options: GraphOptions, nodes: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    kind = nodes.get(EVERY_NODE, {}).get(SHARED, {}).get("kind", options.robot)
    if kind != options.robot:
        raise ConfigError(
            f"{file}: robot.kind is '{kind}', but the stack is started with robot '{options.robot}' (--robot, robot:=): "
            f"start it with robot '{kind}', or remove robot.kind."
        )


def _check_started(options: GraphOptions) -> None:
    for dotted in options.overrides:
        if (node := dotted.split(".")[0]) not in (SHARED, *node_names(options)):
            raise ConfigError(
                f"{dotted}: the node '{node}' is not started with robot '{options.robot}' and camera '{options.camera}', so no "
                "node reads it."
            )


def _check_deadlines(nodes: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Check that the task node waits for a plan longer than the planner's own deadlines: else the planner's error is
    lost.

    Raises:
        ConfigError: It does not wait long enough.
    """
    from stvla_ros.ros.frames import CameraConfig
    from stvla_ros.ros.remote_stages import Deadlines

    task, planner = nodes.get("task", {}), nodes.get("planner", {})
    name = planner.get("backend", "colour")
    config = build(registry.load("planner", name).Config, planner.get(name, {}), f"{file}: planner.{name}")
    longest_s = getattr(config, "longest_plan_s", 0.0)
    image_s = build(CameraConfig, planner.get("camera", {}), f"{file}: planner.camera").timeout_s
    plan_s = build(Deadlines, task.get("deadlines", {}), f"{file}: task.deadlines").plan_s
    if longest_s and plan_s <= longest_s + image_s:
        raise ConfigError(
            f"task.deadlines.plan_s is {plan_s:g} s, but a plan of '{name}' may take {longest_s + image_s:g} s: {image_s:g} s for "
            f"an image (planner.camera.timeout_s) and {longest_s:g} s for the model (deadline_s and its last reply_deadline_s). "
            "Raise task.deadlines.plan_s, or lower the others."
        )


def default_parameters() -> Path:
    """``config/stvla.yaml`` of the source tree, or of the installed package.

    Raises:
        ConfigError: Neither is there.
    """
    return _shared("config/stvla.yaml")


def middleware_profile() -> Path | None:
    """``config/fastdds.xml``, which makes room for images in shared memory; None when it is not installed."""
    return _profile("config/fastdds.xml")


def client_profile() -> Path | None:
    """``config/fastdds_client.xml``, for clients on the stack's machine; None when it is not installed."""
    return _profile("config/fastdds_client.xml")


def moveit_config() -> Path:
    """Folder ``config/moveit``. Raises ConfigError: it is not installed."""
    return _shared("config/moveit/move_group.yaml").parent


def _profile(name: str) -> Path | None:
    try:
        return _shared(name)
    except ConfigError:
        return None


def _shared(name: str) -> Path:
    root = Path(__file__).resolve().parents[3]
    candidates = [root / name]
    candidates += [prefix / "share" / "stvla_ros" / name for prefix in Path(__file__).resolve().parents]
    for path in candidates:
        if path.is_file():
            return path
    raise ConfigError(f"{name}: not found in {root} nor in share/stvla_ros of the installation.")
