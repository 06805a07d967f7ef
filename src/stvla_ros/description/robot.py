"""The arm's limits and its names in ROS: the section ``robot`` of the parameter file, the same for every node."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from stvla_ros.config import param
from stvla_ros.description import panda
from stvla_ros.types import F64


def _fixed(settings: object) -> None:
    """Turn every array of a frozen dataclass into read-only float64."""
    for field in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        if not isinstance(value, VelocityEnvelope | None):
            array = np.array(value, dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(settings, field.name, array)


@dataclass(frozen=True, eq=False)
class VelocityEnvelope:
    """Velocity limits that fall towards the ends of the joints' range; every attribute is (7,).

    A joint at q may move upwards by ``min(most, max(0, sqrt(gain * (q_end_max - q)) - offset))``, and downwards in the
    same way by its distance from ``q_end_min``.

    Attributes:
        q_min_rad: Lower end of the range.
        q_max_rad: Upper end of the range.
        q_end_min_rad: Where the lower curve ends, a little outside of the range.
        q_end_max_rad: Where the upper curve ends.
        gain: Twice a deceleration [rad/s^2].
        offset: Reserve [rad/s].
        most: Limit in the middle of the range [rad/s].
    """

    q_min_rad: F64
    q_max_rad: F64
    q_end_min_rad: F64
    q_end_max_rad: F64
    gain: F64
    offset: F64
    most: F64

    def __post_init__(self) -> None:
        _fixed(self)

    def bounds(self, q_rad: F64) -> tuple[F64, F64]:
        """Smallest and largest velocity [rad/s] at (..., 7) positions, both (..., 7)."""
        below, above = (
            np.clip(np.sqrt(np.maximum(self.gain * room, 0.0)) - self.offset, 0.0, self.most)
            for room in (q_rad - self.q_end_min_rad, self.q_end_max_rad - q_rad)
        )
        return -below, above


@dataclass(frozen=True, eq=False)
class ArmLimits:
    """(7,) limits of the joints: range [rad], velocity [rad/s], acceleration [rad/s^2], jerk [rad/s^3].

    Planners use the constant limits. If the robot itself allows more, ``envelope`` has what it allows.
    """

    q_min_rad: F64
    q_max_rad: F64
    velocity: F64
    acceleration: F64
    jerk: F64
    envelope: VelocityEnvelope | None = None

    def __post_init__(self) -> None:
        _fixed(self)

    def narrowed(self, margin_rad: float) -> ArmLimits:
        """The same limits with a range that is smaller at both ends."""
        return replace(self, q_min_rad=self.q_min_rad + margin_rad, q_max_rad=self.q_max_rad - margin_rad)

    @property
    def hard_range_rad(self) -> tuple[F64, F64]:
        """Ends of the range that the robot enforces, (7,) each."""
        wide = self.envelope or self
        return wide.q_min_rad, wide.q_max_rad

    def velocity_bounds(self, q_rad: F64) -> tuple[F64, F64]:
        """Smallest and largest velocity [rad/s] that the robot allows at (..., 7) positions, both (..., 7)."""
        if self.envelope is not None:
            return self.envelope.bounds(q_rad)
        most = np.broadcast_to(self.velocity, np.shape(q_rad))
        return -most, most


PANDA = ArmLimits(panda.Q_MIN_RAD, panda.Q_MAX_RAD, panda.V_MAX_RAD_S, panda.A_MAX_RAD_S2, panda.J_MAX_RAD_S3)
"""Franka Emika Panda (FER). Franka Control Interface documentation, "Limits for Panda"."""

FR3_ENVELOPE = VelocityEnvelope(
    q_min_rad=np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159]),
    q_max_rad=np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159]),
    q_end_min_rad=np.array([-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196]),
    q_end_max_rad=np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196]),
    gain=np.array([12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0]),
    offset=np.array([0.3, 0.2, 0.2, 0.3, 0.35, 0.35, 0.35]),
    most=np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26]),
)
"""Franka Research 3. Franka Control Interface documentation, "Limits for Franka Research 3", the formulas of the
position-dependent velocities. libfranka's rate limiter uses the same ones."""

FR3 = ArmLimits(
    q_min_rad=np.array([-2.3093, -1.5133, -2.4937, -2.7478, -2.4800, 0.8521, -2.6895]),
    q_max_rad=np.array([2.3093, 1.5133, 2.4937, -0.4461, 2.4800, 4.2094, 2.6895]),
    velocity=np.array([2.0, 1.0, 1.5, 1.25, 3.0, 1.5, 3.0]),
    acceleration=np.full(7, 10.0),
    jerk=np.full(7, 5000.0),
    envelope=FR3_ENVELOPE,
)
"""Franka Research 3. Franka Control Interface documentation, "Limits for Franka Research 3".

The velocity that an FR3 allows falls towards the ends of its joints' range. A planner with constant limits uses the
documentation's rectangular set, which is the conservative one: a narrower range, in which smaller velocities are
allowed everywhere.
"""

KINDS = ("sim", "real", "franka", "franka_sim")
"""Kinds of robots. All but ``sim`` have franka_ros2's names of gripper and joint states."""

SIMULATED = ("sim", "franka_sim")
"""Robots that are simulated: there are scenes to lay out and to score."""

LIMITS = {"panda": PANDA, "fr3": FR3}
"""Name of a model -> its limits. Kinematics (lengths, frames) are the same for both."""

OPEN_WIDTH_M = 0.078
"""Width of an open hand. The driver aborts above the width found by homing, which may be just below 0.08 m."""


@dataclass(frozen=True)
class RobotConfig:
    """Names and facts of the robot. An empty name is replaced by the default of this kind of robot.

    For a real robot, the joint states are those that its driver measures. franka_ros2's ``/joint_states`` is no substitute:
    ``joint_state_publisher`` stamps it with the current time even when the arm is silent, which would go unnoticed.
    """

    kind: str = param(
        "sim",
        "sim: the simulated cell; real: franka_ros2 or other ros2_control robots; franka: our node franka; franka_sim: that "
        "node in front of the simulated cell. Set by the launch option robot",
        choices=KINDS,
    )
    model: str = param("panda", "model of the arm: decides the joints' limits", choices=tuple(LIMITS))
    prefix: str = param("", "prefix of the names of joints and links; empty: the model")
    base_frame: str = param("", "frame of the robot's base; empty: PREFIX_link0")
    arm_action: str = param("", "action of the arm's controller; empty: /PREFIX_arm_controller/follow_joint_trajectory")
    gripper_action: str = param(
        "", "action of the gripper; empty: sim: /PREFIX_gripper/gripper_action, others: /franka_gripper/gripper_action"
    )
    joint_states: str = param("", "topic with the arm's joints; empty: sim: joint_states, others: franka/joint_states")
    gripper_joint_states: str = param(
        "", "topic with the fingers' joints; empty: sim: the arm's, others: franka_gripper/joint_states"
    )
    open_width_m: float = param(
        OPEN_WIDTH_M,
        "finger distance of an open gripper, below the one that homing finds [m]",
        ge=0.01,
        le=panda.MAX_WIDTH_M,
    )

    def __post_init__(self) -> None:
        real = self.kind != "sim"
        self._default("prefix", self.model)
        self._default("base_frame", f"{self.prefix}_link0")
        self._default("arm_action", f"/{self.prefix}_arm_controller/follow_joint_trajectory")
        self._default("gripper_action", f"/{'franka' if real else self.prefix}_gripper/gripper_action")
        own = "franka_gripper/joint_states" if real and not self.joint_states else ""
        self._default("joint_states", "franka/joint_states" if real else "joint_states")
        self._default("gripper_joint_states", own or self.joint_states)

    def _default(self, name: str, value: str) -> None:
        if not getattr(self, name):
            object.__setattr__(self, name, value)

    @property
    def limits(self) -> ArmLimits:
        """Limits of the model's joints."""
        return LIMITS[self.model]

    @property
    def arm_joints(self) -> tuple[str, ...]:
        """Names of the seven joints of the arm, base first."""
        return tuple(f"{self.prefix}{name.removeprefix('panda')}" for name in panda.ARM_JOINTS)

    @property
    def finger_joints(self) -> tuple[str, ...]:
        """Names of the joints of the two fingers."""
        return tuple(f"{self.prefix}{name.removeprefix('panda')}" for name in panda.FINGER_JOINTS)
