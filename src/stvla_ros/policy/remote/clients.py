"""Requests of openpi's example clients, in our fields: one table per client.

Their names and shapes are those of ``make_libero_example`` and ``make_droid_example`` in
github.com/Physical-Intelligence/openpi, src/openpi/policies/libero_policy.py and droid_policy.py; what is in
``observation/state`` is said by examples/libero/main.py. They send two small images and the arm. Our policies need depth, the
camera and a path besides, so such a client must add those, by our names; fields of ours in a request are used as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stvla_ros.description.kinematics import tcp_pose
from stvla_ros.description.panda import MAX_WIDTH_M
from stvla_ros.policy.remote.messages import FRAME, REQUIRED, ROBOT, Fields
from stvla_ros.policy.remote.wire import WireError


@dataclass(frozen=True)
class Field:
    """A field of another client.

    Attributes:
        theirs: Its name.
        dtype: Its numbers.
        shape: Its sides; None: any.
        ours: Makes our fields of it. Nothing, where we have no use for it.
    """

    theirs: str
    dtype: type[np.generic]
    shape: tuple[int | None, ...]
    ours: Callable[[np.ndarray[Any, Any]], dict[str, Any]]


def _nothing(_: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {}


def _image(rgb: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {f"{FRAME}rgb": rgb}


def _joints(q_rad: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The tool is that of the Franka hand; a client with another one sends ``state/T_base_tcp`` besides."""
    return {f"{ROBOT}q_rad": q_rad, f"{ROBOT}dq_rad_s": np.full(7, np.nan), f"{ROBOT}T_base_tcp": tcp_pose(q_rad)}


def _closed(share: np.ndarray[Any, Any]) -> dict[str, Any]:
    """0: open, 1: closed."""
    return {f"{ROBOT}gripper_m": float(MAX_WIDTH_M * (1.0 - np.clip(share[0], 0.0, 1.0)))}


def _fingers(state: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Position, axis and angle of the hand, and both fingers' joints, of which one is negative. The hand's pose is in
    LIBERO's world, not in the robot's base frame, so it is no pose of ours."""
    return {f"{ROBOT}gripper_m": float(state[6] - state[7])}


_WORDS = "prompt"

CLIENTS: Mapping[str, tuple[Field, ...]] = {
    "LIBERO": (
        Field("observation/image", np.uint8, (None, None, 3), _image),
        Field("observation/wrist_image", np.uint8, (None, None, 3), _nothing),
        Field("observation/state", np.float64, (8,), _fingers),
    ),
    "DROID": (
        Field("observation/exterior_image_1_left", np.uint8, (None, None, 3), _image),
        Field("observation/wrist_image_left", np.uint8, (None, None, 3), _nothing),
        Field("observation/joint_position", np.float64, (7,), _joints),
        Field("observation/gripper_position", np.float64, (1,), _closed),
    ),
}
"""openpi's example -> what it sends besides ``prompt``. The first field tells clients apart."""


def client_of(message: Any) -> str:
    """Which of :data:`CLIENTS` sent a request; empty: one of ours, or no client that we know."""
    fields = message if isinstance(message, Mapping) else {}
    return next((name for name, table in CLIENTS.items() if table[0].theirs in fields), "")


def translated(message: Mapping[str, Any], client: str) -> dict[str, Any]:
    """Our fields of another client's request.

    Raises:
        WireError: A field is missing or wrong, or it lacks what such a client does not send and a policy needs.
    """
    get, made = Fields(message), dict[str, Any]()
    for field in CLIENTS[client]:
        made |= field.ours(get.array(field.theirs, field.dtype, *field.shape))
    made |= {f"{FRAME}sub_instruction": get.text(_WORDS), "history": []}
    made |= {name: message[name] for name in REQUIRED if name in message}
    if missing := [name for name in REQUIRED if name not in made]:
        raise WireError(
            f"openpi's {client} client does not send what this policy needs: add {', '.join(missing)}, as docs/serving.md "
            "describes them."
        )
    return made
