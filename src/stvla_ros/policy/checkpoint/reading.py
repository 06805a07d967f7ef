"""What a released file does not say about its network, and what is known about the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from stvla_ros.config import ConfigError, lookup
from stvla_ros.policy.checkpoint.bounds import RLBENCH_18_TASKS_M
from stvla_ros.policy.checkpoint.names import DIFFUSER, FLOWMATCH
from stvla_ros.policy.checkpoint.policy_file import FRAMES, QUATERNIONS
from stvla_ros.policy.network.config import CHOICES

Bounds = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Reading:
    """How to read a released file; None means unknown.

    Attributes:
        cameras: Names of the cameras, in the order of training.
        image_px: Width and height of every image.
        heads: Attention heads.
        subsample_factor: One image token in this many is kept for self-attention.
        steps: Denoising steps; for ``ddpm`` the number used in training.
        denoiser: ``flow`` or ``ddpm``.
        hands: 1 or 2.
        quaternion: ``xyzw``, or ``wxyz_literal`` for weights trained with 3D Diffuser Actor's
            ``quaternion_format=wxyz`` on xyzw data, like all its published ones.
        frame: Frame of positions: ``base`` of the robot, or ``rlbench``, that simulator's world.
        bounds_m: Lower and upper corner of the workspace, without margin.
        buffer_m: Margin around the workspace.
    """

    cameras: tuple[str, ...] | None = None
    image_px: int | None = None
    heads: int | None = None
    subsample_factor: int | None = None
    steps: int | None = None
    denoiser: str | None = None
    hands: int | None = None
    quaternion: str | None = None
    frame: str | None = None
    bounds_m: Bounds | None = None
    buffer_m: float | None = None

    def over(self, other: Reading) -> Reading:
        """``other``, overridden by everything that is known here."""
        return replace(other, **{name: value for name, value in vars(self).items() if value is not None})


HOW = MappingProxyType(
    {
        "cameras": "--cameras NAME[,NAME...] (in the order of training)",
        "image_px": "--image-px N (256 in all published ones)",
        "heads": "--heads N (8 in all published ones)",
        "subsample_factor": "--subsample-factor N (the training's fps_subsampling_factor)",
        "steps": "--steps N (denoising steps of the training)",
        "denoiser": "--denoiser flow|ddpm",
        "hands": "--hands 1|2",
        "quaternion": "--quaternion xyzw|wxyz_literal (wxyz_literal if its quaternion_format was wxyz on xyzw data)",
        "frame": "--frame base|rlbench (the frame of its positions)",
        "bounds_m": "--bounds FILE --task NAME|all (3D Diffuser Actor's JSON of workspace bounds)",
        "buffer_m": "--buffer M (the training's gripper_loc_bounds_buffer)",
    }
)
"""Field -> the option of ``stvla policy convert`` that gives it."""

IMPLIED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        DIFFUSER: MappingProxyType({"denoiser": "ddpm", "hands": 1}),
        FLOWMATCH: MappingProxyType({"quaternion": "xyzw", "bounds_m": None, "buffer_m": None}),
    }
)
"""The same for all files of a code; None: the file contains it."""

_PERACT = Reading(
    cameras=("left_shoulder", "right_shoulder", "wrist", "front"),
    image_px=256,
    heads=8,
    subsample_factor=5,
    steps=100,
    quaternion="wxyz_literal",
    frame="rlbench",
    bounds_m=RLBENCH_18_TASKS_M,
    buffer_m=0.04,
)


@dataclass(frozen=True)
class Preset:
    """A published file.

    Attributes:
        code: The code that trained it.
        reading: What the file does not say.
        vision_text_layers: Distinguishes it from the other files.
        source: Where these values are published.
    """

    code: str
    reading: Reading
    vision_text_layers: int
    source: str


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "diffuser_actor_peract": Preset(
            DIFFUSER, _PERACT, 2, "online_evaluation_rlbench/eval_peract.sh of nickgkan/3d_diffuser_actor"
        ),
        "diffuser_actor_gnfactor": Preset(
            DIFFUSER,
            replace(_PERACT, cameras=("front",), buffer_m=0.08),
            2,
            "online_evaluation_rlbench/eval_gnfactor.sh of nickgkan/3d_diffuser_actor",
        ),
        "3dfa_peract2": Preset(
            FLOWMATCH,
            Reading(
                cameras=("front", "wrist_left", "wrist_right"),
                image_px=256,
                heads=8,
                subsample_factor=4,
                steps=5,
                denoiser="flow",
                hands=2,
                frame="rlbench",
            ),
            3,
            "online_evaluation_rlbench/eval_peract2.sh of nickgkan/3d_flowmatch_actor",
        ),
    }
)
"""The published RLBench policies, by file name."""


def preset(name: str) -> Preset:
    """A published file.

    Raises:
        ConfigError: No such name; the message has the closest.
    """
    return lookup(PRESETS, name, "--as")


def unknown(reading: Reading, code: str) -> list[str]:
    """Names of the fields that a file of ``code`` needs and that are unknown."""
    return [f.name for f in fields(reading) if f.name not in IMPLIED[code] and getattr(reading, f.name) is None]


def completed(reading: Reading, code: str, where: str) -> Reading:
    """The reading, complete and checked.

    Raises:
        ConfigError: A value is unknown, not one of its choices, or contradicts what all files of the code have; the
            message says what to give.
    """
    _check_choices(reading, where)
    lacking = unknown(reading, code)
    if lacking:
        named = ", ".join(name for name, p in PRESETS.items() if p.code == code)
        raise ConfigError(
            f"{where}: a file of {code} does not say everything: give {', '.join(HOW[name] for name in lacking)}, "
            f"or for a published file --as {named.replace(', ', ' or ')}."
        )
    for name, value in IMPLIED[code].items():
        given = getattr(reading, name)
        if given not in (None, value):
            known = f"contains its own {name}" if value is None else f"always has {name} {value!r}"
            raise ConfigError(f"{where}: a file of {code} {known}: leave {HOW[name].split(' ')[0]} out.")
    return replace(reading, **IMPLIED[code])


def _check_choices(reading: Reading, where: str) -> None:
    choices = {"quaternion": QUATERNIONS, "frame": FRAMES, "denoiser": CHOICES["denoiser"]}
    for name, valid in choices.items():
        value = getattr(reading, name)
        if value is not None and value not in valid:
            raise ConfigError(f"{where}: {name} '{value}' is not known; wanted {HOW[name]}.")
