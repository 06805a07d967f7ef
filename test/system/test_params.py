"""Parameters: what the pipeline refuses, a node refuses with the same words and exit code 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rcl_interfaces.msg import ParameterType
from rclpy.parameter import Parameter

from stvla_ros.config import ConfigError, param
from stvla_ros.description.robot import RobotConfig
from stvla_ros.registry import names
from stvla_ros.ros.params import nest
from stvla_ros.ros.stage_node import StageNode


@dataclass(frozen=True)
class Inner:
    """A nested section."""

    depth_m: float = param(0.5, "a depth [m]", ge=0.0, le=2.0, live=True)
    names: tuple[str, ...] = param(("a", "b"), "some names")


@dataclass(frozen=True)
class Outer:
    """Settings of a test node."""

    backend: str = param("geometric", "a backend")
    rate_hz: float = param(5.0, "a rate", ge=0.1, le=100.0, live=True)
    count: int = param(3, "a count", ge=1, le=9)
    on: bool = param(True, "a switch")
    nothing: tuple[str, ...] = param((), "an empty list")
    inner: Inner = param(Inner(), "nested")  # noqa: RUF009


@pytest.fixture
def make(domain: int) -> Any:
    """A node made with command-line parameters."""
    nodes = []

    def build(*parameters: str) -> StageNode[Outer]:
        args = ["--ros-args"] + [x for p in parameters for x in ("-p", p)]
        rclpy.init(args=args, domain_id=domain)
        node = StageNode("test_node", Outer, backends={"backend": "segmenter"})
        nodes.append(node)
        return node

    yield build
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def test_defaults_ranges_and_documentation(make: Any) -> None:
    node = make()
    assert node.config == Outer()
    assert node.get_parameter("inner.names").value == ["a", "b"]
    described = node.describe_parameter("rate_hz")
    assert described.description == "a rate; may change while the node runs"
    assert described.type == ParameterType.PARAMETER_DOUBLE
    assert (described.floating_point_range[0].from_value, described.floating_point_range[0].to_value) == (0.1, 100.0)
    assert node.describe_parameter("count").integer_range[0].to_value == 9
    assert node.has_parameter("geometric.min_area_px"), "the chosen backend's own settings are parameters too"


def test_overrides_reach_the_settings(make: Any) -> None:
    node = make("rate_hz:=7", "inner.depth_m:=1", "inner.names:=[p, q]", "on:=false", "geometric.min_area_px:=99")
    assert node.config == Outer(rate_hz=7.0, on=False, inner=Inner(1.0, ("p", "q")))
    assert node.parameters.settings("backend") == {"min_area_px": 99}
    assert node.get_parameter("rate_hz").type_ == Parameter.Type.DOUBLE, "7 means 7.0"


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("rat_hz:=7.0", "test_node: unknown setting 'rat_hz'. Did you mean 'rate_hz'?"),
        ("inner.dept_m:=1.0", "test_node.inner: unknown setting 'dept_m'. Did you mean 'depth_m'?"),
        ("geometric.min_area:=1", "test_node.geometric: unknown setting 'min_area'. Did you mean 'min_area_px'?"),
        ("geometrik.min_area:=1", "test_node: unknown setting 'geometrik'. Did you mean 'geometric'?"),
        ("rate_hz:=0.0", "test_node.rate_hz: wanted 0.1 to 100.0, got 0.0."),
        ("rate_hz:=.nan", "test_node.rate_hz: wanted 0.1 to 100.0, got nan."),
        ("rate_hz:=fast", "test_node.rate_hz: wanted float, got str 'fast'."),
        ("count:=2.5", "test_node.count: wanted int, got float 2.5."),
        ("on:=1", "test_node.on: wanted bool, got int 1."),
        ("inner:=3", "test_node.inner: wanted a mapping of settings, got int 3."),
        (
            "backend:=geometrc",
            f"test_node.backend: wanted one of {', '.join(names('segmenter'))}, got 'geometrc'. Did you mean 'geometric'?",
        ),
    ],
)
def test_wrong_overrides(make: Any, parameter: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(parameter)
    assert str(caught.value) == sentence


@dataclass(frozen=True)
class WithRobot:
    """Settings of a node that has to do with the robot."""

    robot: RobotConfig = param(RobotConfig(), "which robot")  # noqa: RUF009


def test_the_section_for_every_node_reaches_a_node(domain: int, parameter_file: Callable[[str], Path]) -> None:
    """ROS applies ``/**`` to every node, whatever else the file says; the command line is stronger."""
    text = "/**:\n  ros__parameters:\n    robot:\n      model: fr3\n      open_width_m: 0.07\n"
    file = parameter_file(text + "test_node:\n  ros__parameters: {}\nother:\n  ros__parameters:\n    rate_hz: 1.0\n")
    rclpy.init(args=["--ros-args", "--params-file", str(file), "-p", "robot.kind:=real"], domain_id=domain)
    node = StageNode("test_node", WithRobot)
    try:
        assert node.config.robot == RobotConfig(kind="real", model="fr3", open_width_m=0.07)
        assert node.get_parameter("robot.joint_states").value == "franka/joint_states", "shown as it is used"
        refused = node.set_parameters([Parameter("robot.arm_action", value="/x")])[0]
        assert "read only at the start" in refused.reason
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


@pytest.mark.parametrize("parameter", ["inner.names:=[]", "rate_hz:=[]", "inner.names:=# nothing"])
def test_a_parameter_without_a_value(make: Any, parameter: str) -> None:
    """rcl reads the name and no value, and rclpy ends with a ValueError."""
    with pytest.raises(
        ConfigError, match=r"test_node: a setting has no value \(an empty list or section\?\): leave it out"
    ):
        make(parameter)


def test_numbers_as_rcl_reads_them(make: Any) -> None:
    node = make("rate_hz:=5e1", "inner.depth_m:=.5", "count:=0x5", "on:=n", "inner.names:=['1', on_]")
    assert node.config == Outer(rate_hz=50.0, count=5, on=False, inner=Inner(0.5, ("1", "on_")))


def test_a_list_of_another_type(make: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"test_node.inner.names: wanted a list of str, got int 1\. In quotes it is a text"
    ):
        make("inner.names:=[1, 2]")


def test_setting_while_running(make: Any) -> None:
    node = make()
    results = node.set_parameters(
        [
            Parameter("rate_hz", value=9.0),
            Parameter("rate_hz", value=900.0),
            Parameter("inner.depth_m", value=2.0),
            Parameter("count", value=4),
            Parameter("rate_hz", value="2e1"),  # `ros2 param set` takes this for a text
        ]
    )
    assert [r.successful for r in results] == [True, False, True, False, False]
    assert "test_node.count is read only at the start" in results[3].reason
    assert node.config == Outer(rate_hz=9.0, inner=Inner(2.0))


def test_nest_refuses_value_and_section_of_one_name() -> None:
    assert nest({"a.b": 1, "a.c.d": [2], "e": "x"}) == {"a": {"b": 1, "c": {"d": [2]}}, "e": "x"}
    with pytest.raises(ConfigError, match="'a' is a setting and cannot be a section"):
        nest({"a": 1, "a.b": 2})
    with pytest.raises(ConfigError, match="wanted a section with settings"):
        nest({"a.b": 2, "a": 1})


@pytest.mark.parametrize("node", ["planner", "guidance", "policy", "task", "camera"])
def test_typo_ends_the_process_with_one_sentence(
    start: Callable[..., Any], parameter_file: Callable[[str], Path], node: str
) -> None:
    file = parameter_file(f"{node}:\n  ros__parameters:\n    heartbeat_timeot_s: 1.0\n")
    process = start(f"stvla_ros.nodes.{node}", "--ros-args", "--params-file", str(file))
    assert process.wait() == 2, process.output
    assert len(process.said()) == 1, process.output
    assert f"{node}: unknown setting 'heartbeat_timeot_s'." in process.output


@pytest.mark.parametrize(
    "text", ["planner: [", "planner:\n  ros__parameters:\n    backend: {a: [1, x]}\n", "- planner\n"]
)
def test_broken_yaml_ends_the_process(
    start: Callable[..., Any], parameter_file: Callable[[str], Path], text: str
) -> None:
    process = start("stvla_ros.nodes.planner", "--ros-args", "--params-file", str(parameter_file(text)))
    assert process.wait() == 2, process.output
    assert "Traceback" not in process.output


def test_missing_parameter_file(start: Callable[..., Any]) -> None:
    process = start("stvla_ros.nodes.planner", "--ros-args", "--params-file", "/nowhere/stvla.yaml")
    assert process.wait() == 2, process.output
    assert "/nowhere/stvla.yaml" in process.output
    assert "Traceback" not in process.output
