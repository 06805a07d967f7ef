"""What move_group gets is written from the tables of the other planners, and config/moveit fits MoveIt's rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from stvla_ros.description.moveit import (
    CHECK_STEP_RAD,
    joint_limits,
    move_group_parameters,
    robot_description,
    semantic_description,
)
from stvla_ros.description.panda import HOME_Q_RAD, LINKS
from stvla_ros.description.robot import RobotConfig
from stvla_ros.description.urdf import ALLOWED_PAIRS

FOLDER = Path(__file__).resolve().parents[2] / "config/moveit"
FILES: dict[str, Any] = {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yaml")}
ROBOTS = [RobotConfig(model="panda"), RobotConfig(model="fr3"), RobotConfig(model="fr3", prefix="left_fr3")]

robots = pytest.mark.parametrize("robot", ROBOTS, ids=lambda robot: robot.prefix)


@robots
def test_names_have_the_prefix_and_meshes_are_urls_of_files(robot: RobotConfig) -> None:
    model = ElementTree.fromstring(robot_description(robot))
    links = {link.get("name", "") for link in model.iter("link")}
    assert all(name.startswith(f"{robot.prefix}_") for name in links)
    assert {name.replace("panda", robot.prefix, 1) for name in LINKS} <= links
    assert model.find("mujoco") is None
    meshes = [mesh.get("filename", "") for mesh in model.iter("mesh")]
    assert meshes
    assert all(name.startswith("file:///") and Path(name[7:]).is_file() for name in meshes)


@robots
def test_limits_of_urdf_and_joint_limits_are_those_of_the_model(robot: RobotConfig) -> None:
    model, given = ElementTree.fromstring(robot_description(robot)), joint_limits(robot)["joint_limits"]
    of_urdf = {joint.get("name"): joint.find("limit") for joint in model.iter("joint")}
    for i, name in enumerate(robot.arm_joints):
        limit, mine = of_urdf[name], given[name]
        assert limit is not None
        low, high, speed = (float(limit.get(key, "nan")) for key in ("lower", "upper", "velocity"))
        assert (low, high) == pytest.approx((robot.limits.q_min_rad[i], robot.limits.q_max_rad[i]))
        assert (mine["min_position"], mine["max_position"]) == (robot.limits.q_min_rad[i], robot.limits.q_max_rad[i])
        assert speed == mine["max_velocity"] == robot.limits.velocity[i]
        assert (mine["max_acceleration"], mine["max_jerk"]) == (robot.limits.acceleration[i], robot.limits.jerk[i])
    assert set(given) == {*robot.arm_joints, *robot.finger_joints}


@robots
def test_srdf_allows_the_pairs_of_the_other_planners_and_names_only_what_the_urdf_has(robot: RobotConfig) -> None:
    model, srdf = ElementTree.fromstring(robot_description(robot)), ElementTree.fromstring(semantic_description(robot))
    links, joints = ({each.get("name") for each in model.iter(kind)} for kind in ("link", "joint"))
    pairs = {(each.get("link1"), each.get("link2")) for each in srdf.iter("disable_collisions")}
    assert pairs == {tuple(name.replace("panda", robot.prefix, 1) for name in pair) for pair in ALLOWED_PAIRS}
    assert {each.get("name") for each in srdf.iter("joint")} == {*robot.arm_joints, *robot.finger_joints} <= joints
    (chain,) = srdf.iter("chain")
    assert {chain.get("base_link"), chain.get("tip_link"), srdf.find("end_effector").get("parent_link")} <= links  # type: ignore[union-attr]
    groups = {group.get("name") for group in srdf.iter("group")}
    assert groups == {f"{robot.prefix}_arm", f"{robot.prefix}_hand"}
    assert srdf.get("name") == model.get("name")
    ready = next(state for state in srdf.iter("group_state") if state.get("name") == "ready")
    values = [float(joint.get("value", "nan")) for joint in ready]
    assert values == pytest.approx(HOME_Q_RAD)
    assert (values >= robot.limits.q_min_rad).all()
    assert (values <= robot.limits.q_max_rad).all()


@robots
def test_parameters_name_the_group_of_the_srdf(robot: RobotConfig) -> None:
    parameters, group = move_group_parameters(robot, FILES), f"{robot.prefix}_arm"
    step = parameters["ompl"][group]["longest_valid_segment_fraction"]
    extent = np.linalg.norm(robot.limits.q_max_rad - robot.limits.q_min_rad)
    assert step * extent == pytest.approx(CHECK_STEP_RAD)
    assert set(parameters["ompl"][group]["planner_configs"]) <= set(parameters["ompl"]["planner_configs"])
    assert list(parameters["robot_description_kinematics"]) == [group]
    assert parameters["robot_description_planning"]["cartesian_limits"]["max_trans_vel"] <= 0.25
    assert parameters["default_planning_pipeline"] in parameters["planning_pipelines"]
    assert all(pipeline in parameters for pipeline in parameters["planning_pipelines"])


@pytest.mark.parametrize("name", ["ompl", "pilz"])
def test_every_pipeline_checks_its_result_and_leaves_the_timing_to_us(name: str) -> None:
    adapters = FILES[name]["response_adapters"]
    assert "default_planning_response_adapters/ValidateSolution" in adapters
    assert not any("TimeOptimal" in adapter for adapter in adapters)


def test_move_group_moves_nothing() -> None:
    settings = FILES["move_group"]
    assert settings["allow_trajectory_execution"] is False
    assert {"MoveGroupExecuteTrajectoryAction", "MoveGroupMoveAction"} <= {
        name.removeprefix("move_group/") for name in settings["disable_capabilities"].split()
    }
