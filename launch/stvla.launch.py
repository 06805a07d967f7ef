"""The whole stack under ``ros2 launch stvla_ros stvla.launch.py``; the nodes come from :mod:`stvla_ros.ros.graph`.

Examples::

    ros2 launch stvla_ros stvla.launch.py
    ros2 launch stvla_ros stvla.launch.py robot:=real camera:=external params:=/path/to/cell.yaml
    ros2 launch stvla_ros stvla.launch.py mode:=composed planner:=colour
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit, OnShutdown
from launch.events import matches_action
from launch.events.process import ProcessExited, SignalProcess
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from stvla_ros import registry
from stvla_ros.config import ConfigError, closest
from stvla_ros.ros import SUPERVISOR, graph

FROM_FILE = "as in the parameter file"
CHOICES = ("robot", "camera", "mode", "record", "console")


def generate_launch_description() -> LaunchDescription:
    """Arguments, environment, and the nodes chosen by them."""
    profile = graph.middleware_profile()
    environment = [
        SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", EnvironmentVariable(name, default_value=str(profile)))
        for name in ["FASTRTPS_DEFAULT_PROFILES_FILE"]
        if profile is not None
    ]
    return LaunchDescription([*_arguments(), *environment, OpaqueFunction(function=_nodes)])


def _arguments() -> list[DeclareLaunchArgument]:
    backends = [
        DeclareLaunchArgument(
            kind,
            default_value="",
            choices=["", *registry.names(kind)],
            description=f"{kind} backend; empty: {FROM_FILE}",
        )
        for kind in registry.BACKEND_PARAMETER
    ]
    return [
        DeclareLaunchArgument("robot", default_value="sim", choices=list(graph.ROBOTS), description="which robot"),
        DeclareLaunchArgument(
            "camera",
            default_value="auto",
            choices=list(graph.CAMERAS),
            description="auto: the simulator's, or external; recorded: a replay; realsense: a RealSense camera; external: "
            "a driver started elsewhere",
        ),
        *backends,
        DeclareLaunchArgument(
            "mode",
            default_value="separate",
            choices=list(graph.MODES),
            description="separate: one process per node; composed: one for planner, guidance, policy and task",
        ),
        DeclareLaunchArgument(
            "record",
            default_value="",
            choices=["", *graph.KEEP],
            description="record every goal, or keep only those that fail; empty: no recorder",
        ),
        DeclareLaunchArgument(
            "console", default_value="false", choices=["false", "true"], description="serve the operator console"
        ),
        DeclareLaunchArgument("params", default_value="", description="parameter file; empty: config/stvla.yaml"),
    ]


def _nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """One process per entry of :data:`stvla_ros.ros.graph.NODES` that the options choose."""

    _check_names(sys.argv)

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    options = graph.GraphOptions(
        robot=value("robot"),
        camera=value("camera"),
        mode=value("mode"),
        record=value("record") or None,
        console=value("console") == "true",
        params=Path(value("params")).expanduser() if value("params") else None,
        backends={kind: value(kind) or None for kind in registry.BACKEND_PARAMETER},
    )
    try:
        nodes = [entity for spec in graph.processes(options) for entity in _process(options, spec)]
    except ConfigError as error:
        raise RuntimeError(str(error)) from error
    return [LogInfo(msg=graph.who_may_move(context.environment)), *nodes]


def _check_names(words: list[str]) -> None:
    """Raises RuntimeError for an undeclared argument, which ``ros2 launch`` would ignore.

    If another launch file includes this one, the command line belongs to that file and is not checked.
    """
    me, names = Path(__file__).name, (*CHOICES, *registry.BACKEND_PARAMETER, "params")
    behind = next((words[i + 1 :] for i, word in enumerate(words) if Path(word).name == me), [])
    for name, given, _ in (word.partition(":=") for word in behind):
        if given and name not in names:
            raise RuntimeError(f"{me}: no argument '{name}'.{closest(name, names)}")


def _process(options: graph.GraphOptions, spec: graph.NodeSpec) -> list[LaunchDescriptionEntity]:
    """A node that is restarted when it dies; wrong parameters end the launch instead.

    The node gets no name, because a name would rename every node of a composed process. It ends with this launch: a
    shutdown sends SIGTERM at once (launch itself waits 5 s unless Ctrl-C came from a terminal), and if the launch
    process ends without a shutdown (SIGTERM, SIGKILL), the node notices that itself
    (:func:`stvla_ros.ros.run.end_with_supervisor`).
    """
    node = Node(
        package="stvla_ros",
        executable=spec.executable,
        ros_arguments=graph.ros_arguments(options, spec),
        output="screen",
        respawn=spec.respawn,
        respawn_delay=graph.RESPAWN_DELAY_S,
        additional_env={SUPERVISOR: str(os.getpid())},
    )
    end = EmitEvent(event=SignalProcess(signal_number=signal.SIGTERM, process_matcher=matches_action(node)))

    def look(event: ProcessExited, _: LaunchContext) -> list[LaunchDescriptionEntity]:
        if event.returncode != graph.WRONG_PARAMETERS:
            return []
        raise RuntimeError(f"{spec.name} refused its parameters")  # ends the launch with exit code 1

    return [
        node,
        RegisterEventHandler(OnProcessExit(target_action=node, on_exit=look)),
        RegisterEventHandler(OnShutdown(on_shutdown=[end])),
    ]
