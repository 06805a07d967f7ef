"""The last look at every path before the arm follows it, whoever planned it.

It checks the path as a controller will interpolate it, with cubics between the samples, against the robot's limits and
against the space that the operator allows. All of it is software: it is no safety function, is not certified, and does
not replace the robot's own limits and its emergency stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from stvla_ros.config import ConfigError, param
from stvla_ros.description.hulls import hull_meshes, read_obj
from stvla_ros.description.panda import ARM_JOINTS, MAX_WIDTH_M
from stvla_ros.description.robot import PANDA, ArmLimits
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.interfaces import Robot
from stvla_ros.motion.arm_volume import HELD, ArmVolume, Sweep, Touch
from stvla_ros.types import F64, Box, JointPath

SECTION = "executor.executor.path_safety"
"""Node and section of the settings."""

CONTROL_PERIOD_S = 0.001
"""Period of the robot's position controller: a step of the acceleration is a jerk over this time."""

CHECK_STEP_RAD = 0.02
"""Between two postures that are checked for their place, no joint moves further."""

_ROUNDING = 1.001  # of ratios to a limit
_DEEPER_M = 0.001  # a path that starts in a forbidden place may not go this much deeper
_AT_REST = 0.01  # rad/s
_SPARSE_RAD = 0.05  # samples further apart than this do not show where the arm is between them


@dataclass(frozen=True)
class PathSafetyConfig:
    """What every path is held to. Boxes are six numbers: x, y, z of two opposite corners in the base frame."""

    fence_m: tuple[float, ...] = param(
        (-0.6, -0.9, -0.05, 1.0, 0.9, 1.3), "space that no part of the arm and of what it holds leaves [m]"
    )
    keep_out_m: tuple[float, ...] = param((), "boxes that no part of the arm enters, six numbers each [m]")
    slow_m: tuple[float, ...] = param(
        (), "boxes in which the arm moves slowly, six numbers each: the people's side of the table [m]"
    )
    slow_speed_m_s: float = param(
        0.1, "top speed of every point of a link that is in such a box [m/s]", ge=0.01, le=1.0
    )
    tool_speed_m_s: float = param(1.7, "top speed of the tool [m/s]", ge=0.01, le=3.0)
    elbow_speed_m_s: float = param(1.2, "top speed of the elbow [m/s]", ge=0.01, le=3.0)
    limit_share: float = param(1.0, "share of the joints' limits that a path may use", ge=0.05, le=1.0)
    joint_margin_rad: float = param(0.005, "distance from the ends of the joints' range [rad]", ge=0.0, le=0.2)
    start_tolerance_rad: float = param(0.05, "largest jump from the arm to the start of a path [rad]", ge=0.0, le=0.1)
    soft_start_motions: int = param(1, "motions at reduced speed after a stop, a reflex or a recovery", ge=0, le=20)
    soft_start_scale: float = param(0.3, "their speed, as a share of the planned one", ge=0.05, le=1.0)

    def __post_init__(self) -> None:
        for name in ("fence_m", "keep_out_m", "slow_m"):
            _boxes(name, getattr(self, name))
        if len(self.fence_m) != 6:
            raise ConfigError(f"{SECTION}.fence_m: wanted six numbers (two corners), got {len(self.fence_m)}.")


def _boxes(name: str, numbers: tuple[float, ...]) -> F64:
    """(N, 2, 3) lower and upper corners. Raises ConfigError if the numbers are no boxes."""
    if len(numbers) % 6 or not np.isfinite(numbers).all():
        raise ConfigError(
            f"{SECTION}.{name}: wanted six finite numbers per box (x, y, z of two opposite corners), "
            f"got {len(numbers)}: {list(numbers)}."
        )
    corners = np.sort(np.array(numbers, dtype=np.float64).reshape(-1, 2, 3), axis=1)
    for box in corners:
        if (np.ptp(box, axis=0) < 1e-3).any():
            raise ConfigError(f"{SECTION}.{name}: the box {box.ravel().tolist()} is thinner than 1 mm.")
    return corners


class PathSafety:
    """Checks paths, slows them where they are too fast, and starts softly. One instance serves one thread."""

    def __init__(self, config: PathSafetyConfig, arm: ArmLimits = PANDA) -> None:
        self._config, self._arm = config, arm
        self._slow = {f"slow zone {i + 1}": box for i, box in enumerate(_boxes("slow_m", config.slow_m))}
        keep_out = {f"keep-out box {i + 1}": box for i, box in enumerate(_boxes("keep_out_m", config.keep_out_m))}
        self._volume = ArmVolume(_boxes("fence_m", config.fence_m)[0], {**keep_out, **self._slow})
        self._soft_motions = 0

    def soften(self) -> None:
        """Follow the next motions at reduced speed: after a stop, a reflex, or a recovery."""
        self._soft_motions = self._config.soft_start_motions

    def checked(self, path: JointPath, held: Box | None = None, gripper_m: float = MAX_WIDTH_M) -> JointPath:
        """The path, slower if the tool, the elbow, or a part in a slow zone would be too fast.

        Args:
            path: As planned.
            held: What the gripper holds, in the tool frame.
            gripper_m: Distance between the fingers.

        Raises:
            StageError: NO_PATH if it violates a limit of the joints; COLLISION if a part of the arm leaves the fence or
                enters a keep-out box. A path that begins in such a place may lead out of it.
        """
        check_joints(path, self._arm, self._config)
        chosen = spaced(path.q_rad, CHECK_STEP_RAD)
        sweep = self._volume.sweep(path.q_rad[chosen], gripper_m, held)
        self._check_places(sweep)
        factor = self._slowness(sweep, path.t_s[chosen], held)
        return path if factor >= 1.0 else slowed(path, factor)

    def follow(self, robot: Robot, path: JointPath, cancel: CancelToken) -> None:
        """Have the robot follow a checked path that starts where it stands. After an interruption the next is softer.

        Raises:
            StageError: CONTROLLER_FAILED if the arm is not at the start of the path; whatever the robot raises.
        """
        self._check_start(path, robot.state().q_rad)
        soft = self._soft_motions > 0
        try:
            robot.follow(slowed(path, self._config.soft_start_scale) if soft else path, cancel)
        except StageError as error:
            if error.code is not OutcomeCode.PREEMPTED:
                self.soften()
            raise
        self._soft_motions = max(0, self._soft_motions - 1)

    def _check_start(self, path: JointPath, q_rad: F64) -> None:
        off = np.abs(path.q_rad[0] - q_rad)
        worst = int(np.argmax(off))
        if not off[worst] <= self._config.start_tolerance_rad:
            raise StageError(
                OutcomeCode.CONTROLLER_FAILED,
                f"The path starts {off[worst]:.3f} rad from where {ARM_JOINTS[worst]} is; at most "
                f"{self._config.start_tolerance_rad:g} rad are allowed: something moved the arm, so plan again.",
            )

    def _check_places(self, sweep: Sweep) -> None:
        """Refuse the first posture with a part in a forbidden place, unless it is there from the start and comes out."""
        by_sample: list[dict[tuple[str, str], Touch]] = [{} for _ in sweep.poses]
        for touch in sorted(sweep.touches, key=lambda touch: touch.depth_m):
            if touch.zone not in self._slow:
                by_sample[touch.sample][touch.zone, touch.part] = touch  # the deepest one stays
        allowed_m = {key: touch.depth_m for key, touch in by_sample[0].items()}
        for touches in by_sample:
            for key, touch in touches.items():
                if touch.depth_m > allowed_m.get(key, 0.0) + _DEEPER_M:
                    raise StageError(OutcomeCode.COLLISION, _forbidden(touch))
            allowed_m = {key: min(depth, touches[key].depth_m) for key, depth in allowed_m.items() if key in touches}

    def _slowness(self, sweep: Sweep, t_s: F64, held: Box | None) -> float:
        """Factor of the speed with which everything keeps its speed limit; at most 1."""
        if len(t_s) < 2:
            return 1.0
        c, step = self._config, np.diff(t_s)
        ratios = [np.linalg.norm(np.diff(sweep.tool_m, axis=0), axis=1) / step / c.tool_speed_m_s]
        ratios.append(np.linalg.norm(np.diff(sweep.elbow_m, axis=0), axis=1) / step / c.elbow_speed_m_s)
        for part, sample in sorted({(t.part, t.sample) for t in sweep.touches if t.zone in self._slow}):
            link = sweep.links.index("panda_hand_tcp" if part == HELD else part)
            for i in range(max(sample - 1, 0), min(sample + 1, len(step))):
                before, after = (_moved(_corners(part, held), sweep.poses[k, link]) for k in (i, i + 1))
                fastest = np.linalg.norm(after - before, axis=1).max() / step[i]
                ratios.append(np.array([fastest / c.slow_speed_m_s]))
        return 1.0 / max(1.0, float(np.concatenate(ratios).max()))


def _forbidden(touch: Touch) -> str:
    where = ", ".join(f"{x:.2f}" for x in touch.place_m)
    if touch.zone.startswith("keep-out"):
        return (
            f"The path takes {touch.part} {1000 * touch.depth_m:.0f} mm into {touch.zone} at ({where}) m: "
            f"choose another goal, or change {SECTION}.keep_out_m."
        )
    return (
        f"The path takes {touch.part} {1000 * touch.depth_m:.0f} mm out of the fence ({touch.zone}) at ({where}) m: "
        f"choose a goal further inside, or change {SECTION}.fence_m."
    )


def _corners(part: str, held: Box | None) -> F64:
    """(V, 3) corners of a link's hull in the link frame, or of the held box in the tool frame."""
    if part != HELD:
        return _hull(part)
    assert held is not None
    signs = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), -1).reshape(-1, 3)
    return _moved(signs * held.size_m, held.T_frame_box)


@cache
def _hull(link: str) -> F64:
    return read_obj(hull_meshes()[link])[0]


def _moved(points_m: F64, T: F64) -> F64:
    return np.asarray(points_m @ T[:3, :3].T + T[:3, 3])


def slowed(path: JointPath, factor: float) -> JointPath:
    """The same path at ``factor`` times its speed."""
    return JointPath(path.q_rad, path.dq_rad_s * factor, path.t_s / factor)


def spaced(q_rad: F64, step_rad: float) -> npt.NDArray[np.intp]:
    """Indices of (N, 7) postures, the first and last included, between which no joint moves by more than a step.

    :func:`check_joints` refuses paths whose samples are too far apart for that.
    """
    way = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(q_rad, axis=0)).max(axis=1))])
    marks = np.arange(0.0, way[-1], step_rad / 2)
    chosen = np.searchsorted(way, marks, side="right") - 1
    return np.unique(np.append(chosen, len(q_rad) - 1))


def check_joints(path: JointPath, arm: ArmLimits, config: PathSafetyConfig) -> None:
    """Hold a path to the joints' range, velocity, acceleration and jerk, as a controller interpolates it.

    Between two samples the position is the cubic with the samples' velocities. The velocity is checked at samples and
    in the middle between them, the acceleration at both ends of each cubic. The jerk is that of the cubics, and the
    step of the acceleration between two cubics over one period of the controller.

    Raises:
        StageError: NO_PATH.
    """
    if not (np.isfinite(path.q_rad).all() and np.isfinite(path.dq_rad_s).all() and np.isfinite(path.t_s).all()):
        raise StageError(OutcomeCode.NO_PATH, "The planned path has values that are not finite: plan again.")
    _check_range(path, arm, config.joint_margin_rad)
    moving = np.abs(path.dq_rad_s[[0, -1]]).max(axis=1)
    if moving.max() > _AT_REST:
        raise StageError(
            OutcomeCode.NO_PATH,
            f"The planned path {'starts' if moving[0] > _AT_REST else 'ends'} at {moving.max():.2f} rad/s; "
            "a path starts and ends at rest: plan again.",
        )
    if len(path.t_s) < 2:
        return
    gap = np.abs(np.diff(path.q_rad, axis=0)).max()
    if gap > _SPARSE_RAD:
        raise StageError(
            OutcomeCode.NO_PATH,
            f"Two samples of the planned path are {gap:.2f} rad apart; a path that can be checked has one at least every "
            f"{_SPARSE_RAD:g} rad: sample it more finely.",
        )
    h = np.diff(path.t_s)[:, None]
    mean, v0, v1 = np.diff(path.q_rad, axis=0) / h, path.dq_rad_s[:-1], path.dq_rad_s[1:]
    a0, a1 = (6 * mean - 4 * v0 - 2 * v1) / h, (4 * v1 + 2 * v0 - 6 * mean) / h
    steps = np.diff(np.concatenate([np.zeros((1, 7)), np.stack([a0, a1], 1).reshape(-1, 7), np.zeros((1, 7))]), axis=0)
    share, t = config.limit_share, path.t_s
    _check_velocity(path, 1.5 * mean - 0.25 * (v0 + v1), arm, share)
    _check_ratio("acceleration", "rad/s^2", np.maximum(np.abs(a0), np.abs(a1)), share * arm.acceleration, t)
    _check_ratio("jerk", "rad/s^3", np.abs(a1 - a0) / h, share * arm.jerk, t)
    _check_ratio("jerk", "rad/s^3", np.abs(steps[::2]) / CONTROL_PERIOD_S, share * arm.jerk, t)


def _check_range(path: JointPath, arm: ArmLimits, margin_rad: float) -> None:
    """A path that starts outside may lead inside."""
    low, high = arm.hard_range_rad
    beyond = np.maximum(np.maximum(low + margin_rad - path.q_rad, path.q_rad - high + margin_rad), 0.0)
    further = beyond - np.minimum.accumulate(beyond, axis=0)
    k, joint = np.unravel_index(int(np.argmax(further)), further.shape)
    if further[k, joint] > 1e-6:
        raise StageError(
            OutcomeCode.NO_PATH,
            f"The planned path takes {ARM_JOINTS[joint]} to {path.q_rad[k, joint]:.3f} rad at {path.t_s[k]:.2f} s; its "
            f"range is {low[joint]:.3f} to {high[joint]:.3f} with {margin_rad:g} rad to spare: choose another goal, or "
            f"lower {SECTION}.joint_margin_rad.",
        )


def _check_velocity(path: JointPath, middle_rad_s: F64, arm: ArmLimits, share: float) -> None:
    q = np.concatenate([path.q_rad, (path.q_rad[1:] + path.q_rad[:-1]) / 2])
    v = np.concatenate([path.dq_rad_s, middle_rad_s])
    low, high = arm.velocity_bounds(q)
    most = share * np.where(v < 0, -low, high)
    _check_ratio("velocity", "rad/s", np.abs(v), most, np.concatenate([path.t_s, (path.t_s[1:] + path.t_s[:-1]) / 2]))


def _check_ratio(name: str, unit: str, values: F64, most: F64, t_s: F64) -> None:
    """Refuse (N, 7) values that exceed their limits, (7,) or (N, 7); ``t_s`` has at least N times."""
    most = np.broadcast_to(most, values.shape)
    over = values - _ROUNDING * most
    if over.max() <= 1e-6:
        return
    k, joint = np.unravel_index(int(np.argmax(values / np.maximum(most, 1e-9))), values.shape)
    raise StageError(
        OutcomeCode.NO_PATH,
        f"The planned path has {ARM_JOINTS[joint]} reach a {name} of {values[k, joint]:.3g} {unit} at {t_s[k]:.2f} s; the "
        f"robot's limit there is {most[k, joint]:.3g}: lower the motion planner's {name}_scale.",
    )
