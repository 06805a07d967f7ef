"""The Panda as bodies, joints and actuators of a MuJoCo model, from the shared table of facts.

Servo gains: those of the Panda in MuJoCo Menagerie (position servos, about 10 Hz). The gripper is
one servo on the mean finger travel with a force limit, as the real hand is controlled.
"""

from __future__ import annotations

import mujoco
import numpy as np

from stvla_ros.description.hulls import hull_meshes, visual_meshes
from stvla_ros.description.kinematics import rpy_matrix
from stvla_ros.description.panda import (
    ARM_JOINTS,
    BASE_LINK,
    FINGER_JOINTS,
    FINGER_LINKS,
    INERTIALS,
    JOINTS,
    TCP_LINK,
    TORQUE_MAX_NM,
    Joint,
)
from stvla_ros.description.urdf import ALLOWED_PAIRS
from stvla_ros.types import F64

ARM_KP = (4500.0, 4500.0, 3500.0, 3500.0, 2000.0, 2000.0, 2000.0)
ARM_KD_S = 0.1
"""Damping over stiffness; also the lead of the velocity feed-forward: ctrl = q + ARM_KD_S * dq."""

GRIPPER = "gripper"
GRIPPER_KP = 20000.0
GRIPPER_KD = 200.0

STIFF_SOLREF, STIFF_SOLIMP = [0.004, 1.0], [0.98, 0.995, 0.0005, 0.5, 2.0]
"""Contacts of the hand: MuJoCo's defaults let a light block sink 2 mm into the fingers."""

VISUAL_GROUP, COLLISION_GROUP = 1, 3
_HULL_ONLY = {"contype": 1, "conaffinity": 1, "group": COLLISION_GROUP}


def add_panda(spec: mujoco.MjSpec) -> None:
    """Add the arm with its hand at the origin of the world.

    Raises:
        ConfigError: The mesh package is not installed.
    """
    _add_meshes(spec)
    base = spec.worldbody.add_body(name=BASE_LINK)
    _dress(base, BASE_LINK)
    for joint in JOINTS:
        _add_link(spec, joint)
    for parent, child in ALLOWED_PAIRS:
        spec.add_exclude(bodyname1=parent, bodyname2=child)
    for name, kp, torque in zip(ARM_JOINTS, ARM_KP, TORQUE_MAX_NM, strict=True):
        _add_servo(spec, name, mujoco.mjtTrn.mjTRN_JOINT, kp, kp * ARM_KD_S, float(torque))
    _add_gripper(spec)


def gripper_actuator_force(finger_force_n: float) -> float:
    """Force limit of the gripper's servo for a force per finger: the tendon halves it."""
    return 2.0 * finger_force_n


def _add_meshes(spec: mujoco.MjSpec) -> None:
    for link, path in hull_meshes().items():
        spec.add_mesh(name=f"hull_{link}", file=str(path))
    for parts in visual_meshes().values():
        for part in parts:
            spec.add_mesh(name=part.path.stem, file=str(part.path))
            _material(spec, part.rgba)


def _material(spec: mujoco.MjSpec, rgba: tuple[float, ...]) -> str:
    name = "panda_" + "".join(f"{round(255 * c):02x}" for c in rgba[:3])
    if spec.material(name) is None:
        tint = [0.93 * c for c in rgba[:3]]
        spec.add_material(name=name, rgba=[*tint, 1.0], specular=0.35, shininess=0.5)
    return name


def _add_link(spec: mujoco.MjSpec, joint: Joint) -> None:
    body = spec.body(joint.parent).add_body(name=joint.child, pos=joint.xyz_m, quat=_quaternion(joint.rpy_rad))
    body.gravcomp = 1.0
    if joint.child == TCP_LINK:
        body.add_site(name=TCP_LINK, size=[0.004, 0.004, 0.004], group=4)
    if joint.kind != "fixed":
        slide = joint.kind == "prismatic"
        body.add_joint(
            name=joint.name,
            type=mujoco.mjtJoint.mjJNT_SLIDE if slide else mujoco.mjtJoint.mjJNT_HINGE,
            axis=joint.axis,
            range=[joint.lower, joint.upper],
            limited=True,
            armature=0.1,  # rotor inertia seen at the joint
            damping=[10.0 if slide else 1.0, 0.0, 0.0],
        )
    if joint.child in INERTIALS:
        inertial = INERTIALS[joint.child]
        body.explicitinertial = True
        body.mass, body.ipos, body.fullinertia = inertial.mass_kg, inertial.com_m, inertial.inertia_kgm2
        _dress(body, joint.child)


def _quaternion(rpy_rad: tuple[float, float, float]) -> F64:
    """wxyz, as MuJoCo has it."""
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, rpy_matrix(rpy_rad).ravel())
    return quat


def _dress(body: mujoco.MjsBody, link: str) -> None:
    """Give a link its hull for contacts and its coloured meshes for images."""
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=f"hull_{link}",
        priority=1,
        solref=STIFF_SOLREF,
        solimp=STIFF_SOLIMP,
        **_HULL_ONLY,
    )
    for part in visual_meshes()[link]:
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=part.path.stem,
            material="panda_" + part.path.stem.rsplit("_", 1)[1],
            contype=0,
            conaffinity=0,
            group=VISUAL_GROUP,
        )
    if link in FINGER_LINKS:
        _add_pad(body, 1.0 if link == FINGER_LINKS[0] else -1.0)


def _add_pad(finger: mujoco.MjsBody, side: float) -> None:
    """A flat rubber pad just above the finger's hull: a box holds a block by four corners, a hull by one."""
    finger.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=[0.0, side * 0.0034, 0.0445],
        size=[0.0085, 0.0035, 0.0090],
        priority=2,  # rubber decides the friction, whatever it touches
        friction=[1.0, 0.02, 0.001],
        condim=4,
        solref=STIFF_SOLREF,
        solimp=STIFF_SOLIMP,
        **_HULL_ONLY,
    )


def _add_servo(
    spec: mujoco.MjSpec, target: str, kind: mujoco.mjtTrn, kp: float, kd: float, force: float
) -> mujoco.MjsActuator:
    """force = kp * (ctrl - length) - kd * speed, limited."""
    actuator = spec.add_actuator(name=target, target=target, trntype=kind)
    actuator.gaintype, actuator.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    actuator.gainprm[0] = kp
    actuator.biasprm[1], actuator.biasprm[2] = -kp, -kd
    actuator.forcelimited, actuator.forcerange = True, [-force, force]
    return actuator


def _add_gripper(spec: mujoco.MjSpec) -> None:
    tendon = spec.add_tendon(name=GRIPPER)
    for joint in FINGER_JOINTS:
        tendon.wrap_joint(joint, 0.5)
    spec.add_equality(
        name="fingers_move_together",
        type=mujoco.mjtEq.mjEQ_JOINT,
        name1=FINGER_JOINTS[0],
        name2=FINGER_JOINTS[1],
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        data=[0.0, 1.0, *[0.0] * 10],
        solimp=[0.95, 0.99, 0.001, 0.5, 2.0],
        solref=[0.005, 1.0],
    )
    _add_servo(spec, GRIPPER, mujoco.mjtTrn.mjTRN_TENDON, GRIPPER_KP, GRIPPER_KD, gripper_actuator_force(30.0))
