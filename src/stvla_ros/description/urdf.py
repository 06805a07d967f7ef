"""URDF and SRDF of the Panda, written from :mod:`stvla_ros.description.panda`."""

from __future__ import annotations

from dataclasses import replace

from stvla_ros.description.hulls import hull_meshes, visual_meshes
from stvla_ros.description.panda import ARM_JOINTS, FINGER_JOINTS, INERTIALS, JOINTS, TCP_LINK, Joint
from stvla_ros.description.robot import PANDA, ArmLimits

ALLOWED_PAIRS: tuple[tuple[str, str], ...] = (
    *((f"panda_link{i}", f"panda_link{i + 1}") for i in range(7)),
    ("panda_link5", "panda_link7"),
    ("panda_link7", "panda_hand"),
    ("panda_hand", "panda_leftfinger"),
    ("panda_hand", "panda_rightfinger"),
    ("panda_leftfinger", "panda_rightfinger"),
)
"""Pairs of links whose hulls always or nearly always overlap: neighbours, and link 5 with 7 whose hulls meet at the wrist."""

_MUJOCO = '<mujoco><compiler discardvisual="true" fusestatic="false" strippath="false" balanceinertia="true"/></mujoco>'


def urdf(name: str = "panda", fine_visuals: bool = False, limits: ArmLimits = PANDA) -> str:
    """The Panda with hand as URDF text.

    Loads in MuJoCo, Pinocchio and RViz. Joint and link names are Franka's. The fingers are no mimic joints: a planner
    sets both.

    Args:
        name: Robot name.
        fine_visuals: Show the decimated coloured meshes instead of the hulls.
        limits: Range and velocities of the arm's joints; links and hulls stay the Panda's.

    Raises:
        ConfigError: The mesh package is not installed.
    """
    links = [_link(link, fine_visuals) for link in INERTIALS]
    links += [f'<link name="{link}"/>' for link in ("panda_link8", TCP_LINK)]
    ranges = zip(
        ARM_JOINTS, limits.q_min_rad.tolist(), limits.q_max_rad.tolist(), limits.velocity.tolist(), strict=True
    )
    arm = {name: {"lower": low, "upper": high, "velocity": speed} for name, low, high, speed in ranges}
    joints = [_joint(replace(joint, **arm.get(joint.name, {}))) for joint in JOINTS]
    return "\n".join(['<?xml version="1.0"?>', f'<robot name="{name}">', _MUJOCO, *links, *joints, "</robot>"]) + "\n"


def srdf(name: str = "panda") -> str:
    """Planning groups and allowed collisions as SRDF text: ``panda_arm`` (to the tool centre point) and ``hand``."""
    lines = ['<?xml version="1.0"?>', f'<robot name="{name}">', '<group name="panda_arm">']
    lines += [f'  <joint name="{joint}"/>' for joint in ARM_JOINTS] + ["</group>", '<group name="hand">']
    lines += [f'  <joint name="{joint}"/>' for joint in FINGER_JOINTS] + ["</group>"]
    lines += [f'<disable_collisions link1="{a}" link2="{b}" reason="Adjacent"/>' for a, b in ALLOWED_PAIRS]
    return "\n".join([*lines, "</robot>"]) + "\n"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:.12g}" for v in values)


def _link(link: str, fine_visuals: bool) -> str:
    body = INERTIALS[link]
    inertia = " ".join(
        f'{k}="{v:.12g}"' for k, v in zip(("ixx", "iyy", "izz", "ixy", "ixz", "iyz"), body.inertia_kgm2, strict=True)
    )
    hull = _mesh(str(hull_meshes()[link]))
    visuals = (
        [_visual(str(v.path), v.rgba) for v in visual_meshes()[link]]
        if fine_visuals
        else [_visual(str(hull_meshes()[link]), (0.9, 0.9, 0.9, 1.0))]
    )
    return "\n".join(
        [
            f'<link name="{link}">',
            f'  <inertial><origin xyz="{_numbers(body.com_m)}"/><mass value="{body.mass_kg:.12g}"/><inertia {inertia}/></inertial>',
            *visuals,
            f"  <collision>{hull}</collision>",
            "</link>",
        ]
    )


def _mesh(path: str) -> str:
    return f'<geometry><mesh filename="{path}"/></geometry>'


def _visual(path: str, rgba: tuple[float, ...]) -> str:
    colour = "".join(f"{int(255 * c):02x}" for c in rgba)
    return f'  <visual>{_mesh(path)}<material name="c{colour}"><color rgba="{_numbers(rgba)}"/></material></visual>'


def _joint(joint: Joint) -> str:
    lines = [
        f'<joint name="{joint.name}" type="{joint.kind}">',
        f'  <parent link="{joint.parent}"/><child link="{joint.child}"/>',
        f'  <origin xyz="{_numbers(joint.xyz_m)}" rpy="{_numbers(joint.rpy_rad)}"/>',
    ]
    if joint.kind != "fixed":
        bounds = f'lower="{joint.lower:.12g}" upper="{joint.upper:.12g}"'
        limits = f'velocity="{joint.velocity:.12g}" effort="{joint.effort:.12g}"'
        lines += [f'  <axis xyz="{_numbers(joint.axis)}"/>', f"  <limit {bounds} {limits}/>"]
    return "\n".join([*lines, "</joint>"])
