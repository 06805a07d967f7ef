"""Settings of a Franka that this software drives itself."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from stvla_ros.config import ConfigError, param


def _vector(where: str, values: tuple[float, ...], size: int, low: float, high: float) -> None:
    if len(values) != size or not all(isfinite(v) and low <= v <= high for v in values):
        raise ConfigError(f"{where}: wanted {size} numbers of {low:g} to {high:g}, got {list(values)}.")


@dataclass(frozen=True)
class CollisionConfig:
    """What the robot takes for a contact and for a collision, at constant speed and while it accelerates."""

    contact_torque_nm: float = param(15.0, "torque of a joint that counts as contact [Nm]", ge=1.0, le=80.0)
    collision_torque_nm: float = param(25.0, "torque of a joint that is a reflex [Nm]", ge=1.0, le=80.0)
    contact_force_n: float = param(20.0, "force on the tool that counts as contact [N]; torques [Nm]", ge=1.0, le=100.0)
    collision_force_n: float = param(40.0, "force on the tool that is a reflex [N]; torques [Nm]", ge=1.0, le=100.0)

    def __post_init__(self) -> None:
        for kind in ("torque_nm", "force_n"):
            contact, collision = getattr(self, f"contact_{kind}"), getattr(self, f"collision_{kind}")
            if contact > collision:
                raise ConfigError(
                    f"collision.contact_{kind} is {contact:g}: wanted at most collision.collision_{kind}, {collision:g}."
                )


@dataclass(frozen=True)
class LoadConfig:
    """What is mounted on the flange besides the end effector that Desk knows."""

    mass_kg: float = param(0.0, "its mass [kg]", ge=0.0, le=3.0)
    com_m: tuple[float, ...] = param((0.0, 0.0, 0.0), "its centre of mass in the flange's frame [m]")
    inertia_kgm2: tuple[float, ...] = param((0.0,) * 9, "its inertia about that point, 3x3 by columns [kg m^2]")

    def __post_init__(self) -> None:
        _vector("load.com_m", self.com_m, 3, -0.5, 0.5)
        _vector("load.inertia_kgm2", self.inertia_kgm2, 9, -1.0, 1.0)


@dataclass(frozen=True)
class HandConfig:
    """The Franka Hand."""

    mounted: bool = param(True, "whether the arm has a Franka Hand; false: another node serves the gripper's action")
    home: bool = param(True, "home the fingers in activate when they have not been since power-on: they move")
    speed_m_s: float = param(0.1, "speed of the fingers [m/s]", ge=0.01, le=0.2)
    force_n: float = param(40.0, "force of a goal that names none [N]", ge=1.0, le=70.0)
    epsilon_inner_m: float = param(
        0.08, "how much narrower than its goal a grasp may end without letting go [m]", ge=0.0, le=0.08
    )
    epsilon_outer_m: float = param(
        0.08, "how much wider than its goal a grasp may end without letting go [m]", ge=0.0, le=0.08
    )


@dataclass(frozen=True)
class FrankaConfig:
    """The robot's address, and how it is driven."""

    hostname: str = param("172.16.0.2", "address of the robot's control box")
    activate_at_start: bool = param(False, "activate without an operator; meant for a simulated robot")
    realtime: bool = param(True, "refuse a kernel without real-time capabilities (PREEMPT_RT)")
    connect_timeout_s: float = param(8.0, "how long the robot may take to answer [s]", ge=1.0, le=60.0)
    joint_rate_hz: float = param(100.0, "joint states per second", ge=10.0, le=1000.0)
    velocity_scale: float = param(1.0, "paths faster than this share of the limits are refused", ge=0.01, le=1.0)
    start_tolerance_rad: float = param(0.05, "largest distance from the arm to a path's start", ge=0.0, le=0.1)
    path_tolerance_rad: float = param(0.2, "largest tracking error of goals that set none [rad]", ge=0.001, le=1.0)
    goal_tolerance_rad: float = param(0.01, "largest error at the end of goals that set none [rad]", ge=0.0005, le=0.5)
    goal_time_s: float = param(1.5, "how late the arm may arrive in goals that set nothing [s]", ge=0.0, le=10.0)
    silence_s: float = param(1.0, "the arm brakes when its node is silent for this time [s]", ge=0.1, le=5.0)
    joint_impedance_nm_rad: tuple[float, ...] = param(
        (3000.0, 3000.0, 3000.0, 2500.0, 2500.0, 2000.0, 2000.0), "stiffness of the robot's joint controller [Nm/rad]"
    )
    collision: CollisionConfig = param(CollisionConfig(), "thresholds of reflexes")  # noqa: RUF009
    load: LoadConfig = param(LoadConfig(), "load on the flange")  # noqa: RUF009
    hand: HandConfig = param(HandConfig(), "the Franka Hand")  # noqa: RUF009

    def __post_init__(self) -> None:
        _vector("joint_impedance_nm_rad", self.joint_impedance_nm_rad, 7, 10.0, 14250.0)
