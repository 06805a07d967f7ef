"""A recorded task of plain values, and the same decisions again with faults put in."""

from dataclasses import dataclass, field, replace

import numpy as np

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.replay.values import Comparison, Decision, Difference, Kind, Masking, Mode, Moment, Replay
from stvla_ros.types import (
    Camera,
    JointPath,
    Keypose,
    Outcome,
    RgbdFrame,
    RobotState,
    Trace3d,
    TracePlan,
)

SECOND_NS = 1_000_000_000
NASTY = 'Put the <script>alert(1)</script> & "red" block in the plate.'
OK = Outcome(OutcomeCode.OK, "")
K = np.array([[200.0, 0, 79.5], [0, 200.0, 59.5], [0, 0, 1]])
DOWN = np.array([[1.0, 0, 0, 0.5], [0, -1, 0, 0.0], [0, 0, -1, 1.0], [0, 0, 0, 1]])
CAMERA = Camera(K, 160, 120, DOWN)


def frame(stamp_ns: int) -> RgbdFrame:
    """A camera 1 m above a grey table with a red block."""
    rgb = np.full((120, 160, 3), 150, np.uint8)
    rgb[50:70, 30:50] = (200, 30, 30)
    return RgbdFrame(rgb, np.ones((120, 160), np.float32), CAMERA, stamp_ns)


def robot(stamp_ns: int) -> RobotState:
    return RobotState(HOME_Q_RAD, np.zeros(7), tcp_pose(HOME_Q_RAD), 0.08, stamp_ns)


def keypose(x_m: float = 0.4, gripper_open: bool = False) -> Keypose:
    T = np.diag([1.0, -1.0, -1.0, 1.0])
    T[:3, 3] = x_m, 0.05, 0.02
    return Keypose(T, gripper_open)


def decision(number: int, kind: Kind, stamp_ns: int, shift_m: float = 0.0) -> Decision:
    """What the stage answers; ``shift_m`` moves all of it along x."""
    if kind is Kind.PLAN:
        t = np.linspace(0, 1, 8)
        uv = np.column_stack([250 + 500 * t, 500 - 0 * t])
        xyz = np.column_stack([0.3 + 0.4 * t + shift_m, 0 * t, 0.05 + 0.2 * t * (1 - t)]).astype(np.float32)
        plan = TracePlan(NASTY, "pick it up", uv, 1.0, 0 * t, 0, False, "colour", "<b>raw</b>", stamp_ns, "plan-1")
        return Decision(number, kind, OK, 0.05, plan, Trace3d(xyz, np.ones(8, np.uint8), "plan-1", "pick it up"), OK)
    if kind is Kind.GUIDE:
        removed = np.zeros((120, 160), bool)
        removed[80:100, 100 + round(200 * shift_m) : 130] = True
        return Decision(number, kind, OK, 0.01, masking=Masking("full", (1,), (2,), 0.1, (), removed, "x"))
    if kind is Kind.PREDICT:
        return Decision(number, kind, OK, 0.002, keypose=keypose(0.4 + shift_m))
    q = HOME_Q_RAD + np.linspace(0, 0.3, 10)[:, None] * [1, 0, 0, 0, 0, 0, 0]
    path = JointPath(q, np.zeros((10, 7)), np.linspace(0, 1, 10))
    return Decision(number, kind, OK, 0.02, keypose=keypose(0.4 + shift_m), paths=(path,))


KINDS = (Kind.PLAN, Kind.GUIDE, Kind.GUIDE, Kind.PREDICT, Kind.MOVE) * 2


def _moments() -> list[Moment]:
    out = []
    for i, kind in enumerate(KINDS):
        stamp = (i + 1) * SECOND_NS
        image = 3 * SECOND_NS if kind is Kind.PREDICT else stamp
        made = decision(i, kind, image)
        more = {"keypose": made.keypose} if kind is Kind.MOVE else {}
        out.append(Moment(i, kind, stamp, image, robot(stamp), NASTY, "plan-1", recorded=made, **more))
    return out


@dataclass
class SampleTask:
    """A :class:`RecordedTask` without a bag."""

    name: str = "bag & <i>one</i>"
    instruction: str = NASTY
    moments: list[Moment] = field(default_factory=_moments)
    seconds: float = 10.0
    derived: bool = False
    outcome: Outcome | None = OK
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: {"git commit": "abc"})
    notes: tuple[str, ...] = ()
    asked_ns: list[int] = field(default_factory=list)
    lost_ns: tuple[int, ...] = ()

    def frame(self, stamp_ns: int) -> RgbdFrame:
        self.asked_ns.append(stamp_ns)
        if stamp_ns in self.lost_ns:
            raise StageError(OutcomeCode.STALE_IMAGE, "The recording has no such frame.")
        return frame(stamp_ns)


def replayed(task: SampleTask, shifts_m: dict[int, float]) -> tuple[Replay, Comparison]:
    """The same decisions, some of them shifted, and the comparison with the recorded ones."""
    made = tuple(decision(m.number, m.kind, m.image_stamp_ns, shifts_m.get(m.number, 0.0)) for m in task.moments)
    differences = []
    for m in task.moments:
        shift = 1e3 * shifts_m.get(m.number, 0.0)
        one = Difference(m.number, m.kind, shift == 0, f"{shift:.1f} mm" * (shift != 0), shift / 5)
        if m.kind is Kind.GUIDE:
            one = replace(one, mask_iou=1.0 if shift == 0 else 0.8)
        elif m.kind is Kind.PLAN:
            one = replace(one, path_rmse_mm=shift, position_mm=shift)
        else:
            one = replace(one, position_mm=shift, rotation_deg=0.0)
        differences.append(one)
    parts = [d for d in differences if not d.equal]
    headline = (
        f"First part at step {parts[0].number} ({parts[0].kind}): {parts[0].sentence}." if parts else "Same decisions."
    )
    comparison = Comparison(("recorded", "replayed"), ("aa", "bb" if parts else "aa"), tuple(differences), headline)
    return Replay("replayed", Mode.TEACHER_FORCED, made, comparison.hashes[1], 0.5), comparison
