"""Observations and keyposes as messages, and back: docs/serving.md lists their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import to_quaternion
from stvla_ros.policy.remote.wire import WireError
from stvla_ros.types import HISTORY, Camera, Guidance, Keypose, Observation, RgbdFrame, RobotState, Trace3d

PROTOCOL = "stvla.policy/1"
"""In a server's first message."""

MAX_SIDE_PX, MAX_PATH, MAX_CHARS = 4096, 10_000, 2000

CODES = {
    code.name: code
    for code in (
        OutcomeCode.INVALID_GOAL, OutcomeCode.KEYPOSE_OUT_OF_BOUNDS, OutcomeCode.GRASP_FAILED, OutcomeCode.NO_DEPTH,
        OutcomeCode.NO_PROGRESS, OutcomeCode.WRONG_GUIDANCE,
    )
}  # fmt: skip
"""Outcomes that a policy may name. No server can say, for instance, that a person canceled."""

FRAME, ROBOT = "observation/", "state/"


REQUIRED = (
    "prompt",
    *(f"{FRAME}{name}" for name in (
        "rgb", "depth_m", "K", "T_base_camera", "stamp_ns", "mode", "path_m", "path_source", "plan_id", "sub_instruction",
        "tube_radius_m", "progress_m",
    )),
    *(f"{ROBOT}{name}" for name in ("q_rad", "dq_rad_s", "T_base_tcp", "gripper_m", "stamp_ns")),
    "history",
)  # fmt: skip
"""Fields of a request."""


def plain_observation(seen: Observation) -> dict[str, Any]:
    """A flat dict: pixels, camera and path below ``observation/``, the arm below ``state/``."""
    guidance, robot = seen.guidance, seen.robot
    frame, trace = guidance.frame, guidance.trace
    return {
        "prompt": seen.instruction,
        f"{FRAME}rgb": frame.rgb,
        f"{FRAME}depth_m": frame.depth_m,
        f"{FRAME}K": frame.camera.K,
        f"{FRAME}T_base_camera": frame.camera.T_base_camera,
        f"{FRAME}stamp_ns": frame.stamp_ns,
        f"{FRAME}mode": guidance.mode,
        f"{FRAME}path_m": trace.xyz_m,
        f"{FRAME}path_source": trace.source,
        f"{FRAME}plan_id": trace.plan_id,
        f"{FRAME}sub_instruction": trace.sub_instruction,
        f"{FRAME}tube_radius_m": guidance.tube_radius_m,
        f"{FRAME}progress_m": guidance.progress_m,
        f"{ROBOT}q_rad": robot.q_rad,
        f"{ROBOT}dq_rad_s": robot.dq_rad_s,
        f"{ROBOT}T_base_tcp": robot.T_base_tcp,
        f"{ROBOT}gripper_m": robot.gripper_m,
        f"{ROBOT}stamp_ns": robot.stamp_ns,
        "history": [plain_keypose(keypose) for keypose in seen.history],
    }


def read_observation(message: Any) -> Observation:
    """The observation in a message; instances are not sent, so it has none.

    Raises:
        WireError: Which field is missing or wrong, and what was wanted.
    """
    get = Fields(message)
    rgb = get.array(f"{FRAME}rgb", np.uint8, None, None, 3)
    h, w = rgb.shape[:2]
    if not 0 < max(h, w) <= MAX_SIDE_PX or not min(h, w):
        raise WireError(f"{FRAME}rgb: wanted an image of 1 to {MAX_SIDE_PX} pixels a side, got {h} x {w}.")
    K, T_base_camera = get.array(f"{FRAME}K", np.float64, 3, 3), get.pose(f"{FRAME}T_base_camera")
    depth_m, stamp_ns = get.array(f"{FRAME}depth_m", np.float32, h, w), get.number(f"{FRAME}stamp_ns", int)
    path_m = get.array(f"{FRAME}path_m", np.float32, None, 3)
    if len(path_m) > MAX_PATH:
        raise WireError(f"{FRAME}path_m: wanted at most {MAX_PATH} points, got {len(path_m)}.")
    source = get.array(f"{FRAME}path_source", np.uint8, len(path_m))
    words = {name: get.text(f"{FRAME}{name}") for name in ("mode", "plan_id", "sub_instruction")}
    history = get.list("history", HISTORY)
    try:
        guidance = Guidance(
            Trace3d(path_m, source, words["plan_id"], words["sub_instruction"]),
            get.number(f"{FRAME}tube_radius_m", float),
            (),
            (),
            RgbdFrame(rgb, depth_m, Camera(K, w, h, T_base_camera), stamp_ns),
            words["mode"],
            progress_m=get.number(f"{FRAME}progress_m", float),
        )
        robot = RobotState(
            get.array(f"{ROBOT}q_rad", np.float64, 7),
            get.array(f"{ROBOT}dq_rad_s", np.float64, 7),
            get.pose(f"{ROBOT}T_base_tcp"),
            get.number(f"{ROBOT}gripper_m", float),
            get.number(f"{ROBOT}stamp_ns", int),
        )
    except ValueError as error:
        raise error if isinstance(error, WireError) else WireError(str(error)) from error
    return Observation(guidance, robot, tuple(map(read_keypose, history)), get.text("prompt"))


def plain_keypose(keypose: Keypose) -> dict[str, Any]:
    """A dict."""
    return {
        "T_base_tcp": keypose.T_base_tcp,
        "gripper_open": keypose.gripper_open,
        "may_collide": keypose.may_collide,
        "stamp_ns": keypose.stamp_ns,
    }


def read_keypose(message: Any) -> Keypose:
    """The keypose in a dict. Raises WireError if it is none, e.g. one with a pose that is no rigid transform."""
    get = Fields(message)
    return Keypose(get.pose("T_base_tcp"), get.truth("gripper_open"), get.truth("may_collide"),
                   get.number("stamp_ns", int))  # fmt: skip


def plain_answer(keypose: Keypose | None) -> dict[str, Any]:
    """What a policy said. ``actions`` is the same as openpi's clients read it: (0 or 1, 8) position m, quaternion xyzw, 1 for
    open."""
    if keypose is None:
        return {"keypose": None, "actions": np.zeros((0, 8), np.float32)}
    T = keypose.T_base_tcp
    row = [*T[:3, 3], *to_quaternion(T[:3, :3]), float(keypose.gripper_open)]
    return {"keypose": plain_keypose(keypose), "actions": np.array([row], np.float32)}


def plain_failure(error: StageError) -> dict[str, Any]:
    """A typed outcome in place of an answer."""
    return {"error": {"code": error.code.name, "sentence": error.sentence}}


def read_answer(message: Any) -> Keypose | None:
    """What the policy of a server said.

    Raises:
        StageError: The policy's own.
        WireError: It is no answer.
    """
    get = Fields(message)
    if "error" in get.fields:
        error = Fields(get.fields["error"])
        name, sentence = error.text("code"), error.text("sentence")
        if name not in CODES or not sentence.isprintable():
            raise WireError(
                f"error: wanted an outcome of a policy and a sentence, got {name[:40]!r}, {sentence[:80]!r}."
            )
        raise StageError(CODES[name], sentence)
    if "keypose" not in get.fields:
        raise WireError("keypose: is missing.")
    found = get.fields["keypose"]
    return None if found is None else read_keypose(found)


class Fields:
    """The fields of a received dict, each checked when it is taken.

    Raises:
        WireError: It is no dict; a field is missing or wrong.
    """

    def __init__(self, message: Any) -> None:
        if not isinstance(message, Mapping):
            raise WireError(f"Wanted a map of fields, got {type(message).__name__}.")
        self.fields = message

    def _get(self, name: str) -> Any:
        if name not in self.fields:
            raise WireError(f"{name}: is missing.")
        return self.fields[name]

    def array(self, name: str, dtype: type[np.generic], *shape: int | None) -> np.ndarray[Any, Any]:
        found = self._get(name)
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        fits = isinstance(found, np.ndarray) and found.ndim == len(shape)
        if not fits or any(want not in (None, side) for want, side in zip(shape, found.shape, strict=True)):
            got = found.shape if isinstance(found, np.ndarray) else type(found).__name__
            raise WireError(f"{name}: wanted an array ({wanted}), got {got}.")
        if not np.can_cast(found.dtype, dtype, "same_kind"):
            raise WireError(f"{name}: wanted {np.dtype(dtype)}, got {found.dtype}.")
        return np.ascontiguousarray(found, dtype)

    def pose(self, name: str) -> np.ndarray[Any, Any]:
        T = self.array(name, np.float64, 4, 4)
        rigid = np.isfinite(T).all() and np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-3)
        if not rigid or np.linalg.det(T[:3, :3]) < 0 or not np.allclose(T[3], [0, 0, 0, 1]):
            raise WireError(f"{name}: wanted a rigid transform.")
        return T

    def number(self, name: str, kind: type[int] | type[float]) -> Any:
        found = self._get(name)
        if isinstance(found, np.generic):
            found = found.item()
        if isinstance(found, bool) or not isinstance(found, int if kind is int else int | float):
            raise WireError(f"{name}: wanted a {'whole ' if kind is int else ''}number, got {str(found)[:40]}.")
        if not np.isfinite(found):
            raise WireError(f"{name}: wanted a finite number, got {found}.")
        return kind(found)

    def truth(self, name: str) -> bool:
        found = self._get(name)
        if not isinstance(found, bool | np.bool_):
            raise WireError(f"{name}: wanted true or false, got {str(found)[:40]}.")
        return bool(found)

    def text(self, name: str) -> str:
        found = self._get(name)
        if not isinstance(found, str) or len(found) > MAX_CHARS:
            raise WireError(f"{name}: wanted text of at most {MAX_CHARS} characters, got {str(found)[:40]}.")
        return found

    def list(self, name: str, most: int) -> list[Any]:
        found = self._get(name)
        if not isinstance(found, list) or len(found) > most:
            raise WireError(f"{name}: wanted a list of at most {most}, got {str(found)[:40]}.")
        return found
