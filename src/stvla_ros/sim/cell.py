"""The cell: physics, arm and gripper commands, cameras, tasks and their scores behind one object."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from stvla_ros.config import param
from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import ARM_JOINTS, FINGER_JOINTS, HOME_Q_RAD, MAX_WIDTH_M
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.sim import LOOKS
from stvla_ros.sim.arm import ARM_KD_S, GRIPPER, gripper_actuator_force
from stvla_ros.sim.camera import THIRD, TRIPOD, ThirdViewConfig, TripodCameraConfig, make_camera
from stvla_ros.sim.controller import ControllerConfig, TrajectoryController, TrajectoryGoal
from stvla_ros.sim.fair_lock import FairLock
from stvla_ros.sim.looks import dressed
from stvla_ros.sim.objects import SceneObject
from stvla_ros.sim.rendering import Renderer
from stvla_ros.sim.scene import STATE, CellTruth, Scene, SceneState, photograph, truth_of
from stvla_ros.sim.sensor import Sensor, SensorConfig
from stvla_ros.sim.stereo import Optics
from stvla_ros.sim.surfaces import surface_points
from stvla_ros.sim.tasks import KnowsItsTarget, Score, Task, TwoVerdicts, make_task
from stvla_ros.sim.world import World
from stvla_ros.types import F64, U8, Camera, JointPath, RgbdFrame, RobotState, TrajectoryTolerances

SETTLE_S = 0.1
_OUT_OF_SIGHT_M = (0.0, 0.0, -1000.0)


@dataclass(frozen=True)
class CellConfig:
    """Settings of the simulated cell."""

    timestep_s: float = param(0.002, "physics step [s]", ge=0.0005, le=0.005)
    gripper_speed_m_s: float = param(0.1, "speed of opening and closing (both fingers together) [m/s]", ge=0.01, le=0.2)
    gripper_force_n: float = param(30.0, "force per finger when a command names none [N]", ge=1.0, le=70.0)
    camera: TripodCameraConfig = param(TripodCameraConfig(), "the camera of the stack")  # noqa: RUF009
    third: ThirdViewConfig = param(ThirdViewConfig(), "the view for people")  # noqa: RUF009
    sensor: SensorConfig = param(SensorConfig(), "defects of the camera")  # noqa: RUF009
    look: str = param(
        "plain", "'hard': grain, gloss, mixed light, clutter and household things, by the scene's seed", choices=LOOKS
    )
    controller: ControllerConfig = param(ControllerConfig(), "the arm's trajectory controller")  # noqa: RUF009


class Cell:
    """A Panda at its table.

    Thread safe: one lock guards the physics, and a thread draws images from a copy of its state, so that :meth:`step`
    and :meth:`render` run side by side. Time advances only in :meth:`step` and :meth:`advance`; it never goes back, not
    even at a reset.
    """

    def __init__(self, config: CellConfig | None = None) -> None:
        self.config = config or CellConfig()
        self.camera: Camera = make_camera(self.config.camera)
        self._lock = FairLock()
        self._renderer = Renderer()
        self._steps = 0
        self._controller = TrajectoryController(self.config.controller, HOME_Q_RAD)
        scene = self._scene_of(None, 0)
        self._load(None, scene, scene.model())

    @property
    def time_ns(self) -> int:
        """Simulated time."""
        return round(self._steps * self.config.timestep_s * 1e9)

    def restart_clock(self) -> None:
        """Time begins at 0 again, for a reset that follows. Not where anything remembers earlier stamps, as nodes do."""
        with self._lock:
            self._steps = self._laid_at = 0

    @property
    def instruction(self) -> str:
        """The current task's instruction; empty before the first reset."""
        return self._task.instruction if self._task else ""

    def reset(self, task: str, seed: int, distractors: int = -1) -> str:
        """Set up the table; the arm is at home with an open hand. An active motion ends as canceled.

        Args:
            task: One of :data:`stvla_ros.sim.tasks.TASKS`.
            seed: Decides the whole scene.
            distractors: Number of objects that the task does not need; -1: the task's own number.

        Returns:
            The instruction.

        Raises:
            StageError: INVALID_GOAL for an unknown task (names the closest), values out of range, or a table
                too small for so many objects.
        """
        made = make_task(task, seed, distractors)
        return self.reset_to(dressed(made, seed) if self.config.look == "hard" else made, seed)

    def reset_to(self, task: Task, seed: int, camera: TripodCameraConfig | None = None) -> str:
        """:meth:`reset` with a task that was made elsewhere.

        Args:
            task: What lies on the table.
            seed: Decides the sensor's noise and a hard look.
            camera: Another camera from now on.

        Returns:
            The instruction.
        """
        scene = self._scene_of(task, seed, camera)
        model = scene.model()  # before the lock: physics goes on meanwhile
        with self._lock:
            if camera is not None:
                self.config, self.camera = replace(self.config, camera=camera), make_camera(camera)
            self._load(task, scene, model)
            self.advance(SETTLE_S)
        return task.instruction

    def set_state(self, q_rad: F64, gripper_m: float, objects: Mapping[str, F64] | None = None) -> None:
        """Set arm, fingers and objects at once, at rest: another state of the same scene.

        No time passes, and contacts are not checked. An active motion ends as canceled.

        Args:
            q_rad: (7,) joint positions.
            gripper_m: Distance between the fingers.
            objects: (4, 4) ``T_base_object`` of the movable objects to move.
        """
        with self._lock:
            self._controller.drop("The arm was set to another place.")
            self._data.qpos[self._arm_qpos], self._data.qpos[self._finger_qpos] = q_rad, gripper_m / 2
            for name, T in (objects or {}).items():
                quat = np.zeros(4)
                mujoco.mju_mat2Quat(quat, T[:3, :3].ravel())
                self._data.joint(name).qpos[:] = (*T[:3, 3], *quat)
            self._data.qvel[:] = 0.0
            self._rest(q_rad, gripper_m)

    def can_move(self, name: str) -> bool:
        """The object is not fixed to the table. Raises KeyError for an unknown one."""
        return bool(self._model.body(name).dofnum[0] == 6)

    def robot_touches(self, name: str) -> bool:
        """Any link is in contact with the object."""
        with self._lock:
            return self._world.robot_touches(name)

    def place(self, name: str) -> tuple[float, float]:
        """x and y of an object in the base frame, m."""
        with self._lock:
            x, y, _ = self._world.position(name)
        return float(x), float(y)

    def move_object(self, name: str, xy_m: tuple[float, float]) -> None:
        """Move a movable object at once; it keeps its height and orientation, and is at rest. The robot goes on."""
        with self._lock:
            joint = self._data.joint(name)
            joint.qpos[:2], joint.qvel[:] = xy_m, 0.0
            mujoco.mj_forward(self._model, self._data)

    def step(self) -> None:
        """One physics step with the controllers."""
        with self._lock:
            self._control()
            mujoco.mj_step(self._model, self._data)
            self._steps += 1
            self._observe()

    def advance(self, duration_s: float) -> None:
        """Run physics steps for this long. Other threads may run in between."""
        for _ in range(max(1, round(duration_s / self.config.timestep_s))):
            self.step()

    def follow(self, path: JointPath, tolerances: TrajectoryTolerances | None = None) -> TrajectoryGoal:
        """Start to follow a path, within the configured tolerances or others. The returned goal has the status.

        Raises:
            StageError: CONTROLLER_FAILED when the arm still moves or the path does not fit.
        """
        with self._lock:
            return self._controller.start(path, self._now_s, tolerances)

    def cancel(self) -> None:
        """Bring the arm to a standstill within its limits."""
        with self._lock:
            self._controller.cancel(self._now_s)

    @property
    def task(self) -> Task | None:
        """The current task."""
        return self._task

    @property
    def moving(self) -> bool:
        """The arm follows a path or is being stopped."""
        return self._controller.moving

    @property
    def reference(self) -> tuple[F64, F64]:
        """(7,) positions and (7,) velocities commanded to the arm's servos."""
        with self._lock:
            return self._controller.reference

    def move_gripper(self, width_m: float, force_n: float | None = None) -> None:
        """Open or close at the hand's speed, until ``width_m`` or ``force_n`` per finger is reached.

        Raises:
            StageError: CONTROLLER_FAILED when the width is not in 0..0.08 m.
        """
        if not 0.0 <= width_m <= MAX_WIDTH_M + 1e-6:
            raise StageError(
                OutcomeCode.CONTROLLER_FAILED, f"Gripper width: wanted 0 to {MAX_WIDTH_M} m, got {width_m}."
            )
        force = self.config.gripper_force_n if force_n is None else min(max(force_n, 1.0), 70.0)
        with self._lock:
            limit = gripper_actuator_force(force)
            self._model.actuator(GRIPPER).forcerange[:] = (-limit, limit)
            self._grip_from_s, self._grip_from_m, self._grip_m = self._now_s, self._width_m, width_m
            self._fingers_moved_s = self._now_s

    @property
    def gripper_moving(self) -> bool:
        """The fingers moved or got a command within the last 0.15 s."""
        return self._now_s - self._fingers_moved_s < 0.15

    def state(self) -> RobotState:
        """Measured joints, tool pose and finger distance."""
        with self._lock:
            q, dq = self._data.qpos[self._arm_qpos].copy(), self._data.qvel[self._arm_dofs].copy()
            width_m, stamp_ns = self._width_m, self.time_ns
        return RobotState(q, dq, tcp_pose(q), width_m, stamp_ns)

    def scene_state(self) -> SceneState:
        """What a :class:`stvla_ros.sim.scene.StateRenderer` needs to draw the cell as it is now elsewhere."""
        with self._lock:
            state = np.empty(mujoco.mj_stateSize(self._model, STATE))
            mujoco.mj_getState(self._model, self._data, state, STATE)
            return SceneState(self._scene, state, self.time_ns)

    def render(self, hidden: Collection[str] = (), ideal: bool = False) -> RgbdFrame:
        """One image of the tripod camera: colour and depth of the same instant.

        With sensor defects on, deliver it ``config.sensor.latency_s`` after its stamp.
        Images of the same instant have the same noise, whatever is hidden.

        Args:
            hidden: Names of objects to leave out, with their shadows: the ground truth of what is behind them.
            ideal: Without the sensor's defects, even if they are on; its range stays limited.

        Raises:
            ConfigError: No OpenGL on this machine.
            KeyError: No object has that name.
        """
        with self._lock:
            (data, stamp_ns), sensor = self._snapshot(hidden), self._ideal if ideal else self._sensor
            shadows = self._scene.shadows
        photo = photograph(self._renderer, sensor, data, self.camera, shadows, stamp_ns)
        return RgbdFrame(*photo, self.camera, stamp_ns)

    def render_third(self) -> U8:
        """(H, W, 3) view for people."""
        data, _ = self._snapshot()
        return self._renderer.rgb(data, THIRD, self.config.third.width_px, self.config.third.height_px)

    def truth(self, hidden: Collection[str] = ()) -> CellTruth:
        """Ground truth: for scoring and tests only, never for the stack.

        Args:
            hidden: Names of objects that the labels leave out, as in :meth:`render`.
        """
        with self._lock:
            (data, stamp_ns), names = self._snapshot(hidden), tuple(o.name for o in self._objects)
        return truth_of(self._renderer, data, self.camera, names, stamp_ns)

    def optics(self) -> Optics:
        """What the visible surfaces are made of, for a :class:`stvla_ros.sim.sensor.Sensor` of one's own."""
        data, _ = self._snapshot()
        return self._renderer.optics(data, TRIPOD, self.camera.width_px, self.camera.height_px)

    def surfaces(self, spacing_m: float = 0.004) -> dict[str, F64]:
        """(N, 3) points all over the visible surface of each object, for ground truth only."""
        with self._lock:
            (data, _), names = self._snapshot(), [o.name for o in self._objects]
        return {name: surface_points(data, name, spacing_m) for name in names}

    def score(self) -> Score:
        """The task's verdict from the simulator's state.

        The goal must stay reached for the task's hold time. This is simulated on a copy, where the robot holds
        still; the cell itself does not advance.

        Raises:
            StageError: INVALID_GOAL before the first reset.
        """
        with self._lock:
            task, (trial, _) = self._task, self._snapshot()
        if task is None:
            raise StageError(OutcomeCode.INVALID_GOAL, "There is no task yet: reset the scene first.")
        model, world = trial.model, World(trial.model, trial)
        mujoco.mj_step(model, trial, round(0.5 / self.config.timestep_s))
        twofold = task if isinstance(task, TwoVerdicts) else None
        problem = by_rlbench = ""
        for _ in range(1 + round(task.hold_s / 0.05)):
            problem = problem or task.problem(world)
            by_rlbench = by_rlbench or (twofold.rlbench_problem(world) if twofold else problem)
            if problem and by_rlbench:
                break
            mujoco.mj_step(model, trial, round(0.05 / self.config.timestep_s))
        detail = problem or "Done."
        facts = dict(twofold.facts(world)) if twofold else {}
        if isinstance(task, KnowsItsTarget):
            facts["wrong_target"] = float(task.wrong_target(world))
        return Score(not problem, detail, not by_rlbench if twofold else None, facts)

    def close(self) -> None:
        """Free the renderer. Safe to call twice."""
        self._renderer.close()

    @property
    def _now_s(self) -> float:
        """Time since the reset: a scene repeats exactly, however late the reset is."""
        return (self._steps - self._laid_at) * self.config.timestep_s

    @property
    def _width_m(self) -> float:
        return float(self._data.qpos[self._finger_qpos].sum())

    @property
    def _objects(self) -> tuple[SceneObject, ...]:
        return self._task.objects if self._task else ()

    def _scene_of(self, task: Task | None, seed: int, camera: TripodCameraConfig | None = None) -> Scene:
        """The scene with this task, seen by another camera or the current one."""
        config, objects = self.config, task.objects if task else ()
        return Scene(
            objects, config.timestep_s, camera or config.camera, config.third, config.sensor, seed, config.look
        )

    def _load(self, task: Task | None, scene: Scene, model: mujoco.MjModel) -> None:
        """Set everything to its start."""
        with self._lock:
            self._controller.drop("The scene was reset.")
            self._laid_at = self._steps
            self._task, self._scene, self._model, self._data = task, scene, model, mujoco.MjData(model)
            self._arm_qpos = np.array([model.joint(n).qposadr[0] for n in ARM_JOINTS])
            self._arm_dofs = np.array([model.joint(n).dofadr[0] for n in ARM_JOINTS])
            self._arm_ctrl = np.array([model.actuator(n).id for n in ARM_JOINTS])
            self._grip_ctrl = model.actuator(GRIPPER).id
            self._finger_qpos = np.array([model.joint(n).qposadr[0] for n in FINGER_JOINTS])
            self._finger_dofs = np.array([model.joint(n).dofadr[0] for n in FINGER_JOINTS])
            self._data.qpos[self._arm_qpos] = HOME_Q_RAD
            self._data.qpos[self._finger_qpos] = MAX_WIDTH_M / 2
            self._rest(HOME_Q_RAD, MAX_WIDTH_M)
            self._world = World(model, self._data)
            focal_px = float(self.camera.K[0, 0])
            self._sensor = Sensor(scene.sensor, focal_px, scene.seed)
            self._ideal = Sensor(replace(scene.sensor, enabled=False), focal_px, scene.seed)

    def _rest(self, q_rad: F64, gripper_m: float) -> None:
        """Hold the current position."""
        self._controller = TrajectoryController(self.config.controller, q_rad)
        self._grip_m = self._grip_from_m = gripper_m
        self._grip_from_s = self._fingers_moved_s = self._now_s
        mujoco.mj_forward(self._model, self._data)

    def _control(self) -> None:
        q, dq = self._controller.sample(self._now_s + self.config.timestep_s)
        self._data.ctrl[self._arm_ctrl] = q + ARM_KD_S * dq
        travel = self.config.gripper_speed_m_s * (self._now_s - self._grip_from_s)
        change = self._grip_m - self._grip_from_m
        width = self._grip_from_m + max(-travel, min(travel, change))
        self._data.ctrl[self._grip_ctrl] = width / 2

    def _observe(self) -> None:
        q, dq = self._data.qpos[self._arm_qpos], self._data.qvel[self._arm_dofs]
        force = self._world.robot_force_n() if self._controller.moving else 0.0
        if np.abs(self._data.qvel[self._finger_dofs]).max() > 0.002:
            self._fingers_moved_s = self._now_s
        self._controller.observe(self._now_s, q, dq, force, self.config.timestep_s)
        if self._task is not None:
            self._task.watch(self._world)

    def _snapshot(self, hidden: Collection[str] = ()) -> tuple[mujoco.MjData, int]:
        """A copy of the state for another thread, with hidden objects far below the floor."""
        with self._lock:
            data = mujoco.MjData(self._model)
            mujoco.mj_copyData(data, self._model, self._data)
            stamp_ns = self.time_ns
        mujoco.mj_fwdPosition(data.model, data)  # a step ends with new joint positions and the bodies where they were
        roots = [data.model.body(name).id for name in hidden]
        data.geom_xpos[np.isin(data.model.body_rootid[data.model.geom_bodyid], roots)] = _OUT_OF_SIGHT_M
        return data, stamp_ns
