"""The ``3dda`` and ``3dfa`` policies: a keypose network on the guided frame (paper 3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stvla_ros.config import ConfigError, param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import from_quaternion, pose
from stvla_ros.policy.batch import to_network
from stvla_ros.policy.checkpoint.policy_file import PolicyFile, read_policy_file
from stvla_ros.policy.contact import done_there, touches
from stvla_ros.policy.network.fast.network import FastKeyposeNetwork
from stvla_ros.policy.network.network import Noise
from stvla_ros.policy.observation import check_guidance, policy_input, seen_points
from stvla_ros.policy.refine import refined
from stvla_ros.policy.text_input import for_policy
from stvla_ros.types import F64, Keypose, Observation

WEIGHTS = Path(__file__).with_name("weights.safetensors")
"""Of ``3dfa`` where no checkpoint is named: see docs/weights.md for what they were trained on."""

SHARED_SAMPLES = 8
"""With a shared scene so many keyposes take 10 ms of a core, and one takes 7."""

HOW_TO_GET = "Train one with `stvla train`, or convert a released file with `stvla policy convert`."


@dataclass(frozen=True)
class KeyposePolicyConfig:
    """Settings of the learned policies."""

    checkpoint: str = param(
        "",
        "policy checkpoint (.safetensors) of `stvla train` or `stvla policy convert`; empty: for 3dfa the package's weights",
    )
    device: str = param("auto", "auto (a GPU where there is one), cpu, cuda, cuda:N")
    threads: int = param(1, "CPU threads of the network: more of them slow down the other nodes", ge=1, le=256)
    tokenizer: str = param("", "folder or hub id of CLIP's tokenizer, for checkpoints with CLIP's text tower")
    precision: str = param(
        "float32", "of the denoising layers; bf16 is for GPUs and approximate", choices=("float32", "bf16")
    )
    steps: int = param(0, "denoising steps; 0: as trained, any other number is approximate", ge=0, le=1000)
    seed: int = param(
        0, "of the sampler's noise; the same seed and image stamp give the same prediction", ge=0, le=2**31 - 1
    )
    samples: int = param(
        0,
        "keyposes drawn at once, of which the most central one counts; 0: 8 if they share the encoded scene (nano), else 1",
        ge=0,
        le=64,
    )
    refine_m: float = param(
        0.05,
        "a keypose this close beside the grasp that is measured where the path begins, or beside the path's end, is moved "
        "there; 0: the network's keyposes as they are [m]",
        ge=0.0,
        le=0.2,
    )


class KeyposePolicy:
    """Encodes the guided frame, samples a keypose, and refuses one that is not finite or leaves the workspace.

    It remembers the tool's pose at the start of the step (a prediction without history), because the networks' history
    begins there.
    """

    Config = KeyposePolicyConfig
    denoiser = ""

    def __init__(self, config: KeyposePolicyConfig) -> None:
        self._config = config
        self._file = _checkpoint(config.checkpoint, self.denoiser)
        self._device = choose_device(config.device)
        self._network = _network(self._file, config, self._device)
        self._text = for_policy(self._file, config.tokenizer)
        self._bounds_m = self._file.bounds_m
        self._samples = config.samples or (SHARED_SAMPLES if self._file.network.shared_scene else 1)
        self._start: F64 | None = None

    def predict(self, observation: Observation) -> Keypose | None:
        """See :class:`stvla_ros.interfaces.Policy`.

        The networks never predict that a path is complete. It counts as complete when they would touch its end a second
        time; without this they would go on while the planner checks whether the task is finished.

        Raises:
            StageError: INVALID_GOAL without an instruction; NO_DEPTH without depth; WRONG_GUIDANCE if the image has a
                drawn path and the training images had none, or the other way round; KEYPOSE_OUT_OF_BOUNDS if the
                prediction is not finite or leaves the workspace of the training.
        """
        check_guidance(observation.guidance, self._file.guidance)
        if not observation.history:
            self._start = observation.robot.T_base_tcp
        xyz_m, quaternion, p_open = self._sample(observation)
        self._check(xyz_m, quaternion, p_open)
        T, gripper_open = pose(from_quaternion(quaternion), xyz_m), p_open >= 0.5
        seen_m = seen_points(observation)
        keypose = Keypose(T, gripper_open, touches(observation, seen_m, T, gripper_open))
        if done_there(observation, keypose):
            return None
        within_m = self._config.refine_m
        return refined(observation, seen_m[0], keypose, within_m) if within_m > 0 else keypose

    def _sample(self, observation: Observation) -> tuple[F64, F64, float]:
        """Position (3,) m, quaternion xyzw (4,), probability of an open gripper."""
        view = policy_input(observation, self._start, self._file.network.image_px)
        text = self._text(view.instruction)
        generator = torch.Generator().manual_seed(self._config.seed + observation.guidance.frame.stamp_ns)
        noise = Noise.draw(self._network.config, self._samples, generator)
        noise = Noise(noise.start.to(self._device), noise.steps.to(self._device))
        torch.set_num_threads(self._config.threads)
        with torch.inference_mode():
            context = self._network.encode(to_network([view], text, self._device))
            rows = self._network.sample(context, noise)[:, 0, 0].double().cpu().numpy()
        row = rows[most_central(rows[:, :3])]
        return row[:3], row[3:7], float(row[7])

    def _check(self, xyz_m: F64, quaternion: F64, p_open: float) -> None:
        low, high = self._bounds_m
        finite = np.isfinite([*xyz_m, *quaternion, p_open]).all() and np.linalg.norm(quaternion) > 1e-3
        if not finite:
            raise StageError(
                OutcomeCode.KEYPOSE_OUT_OF_BOUNDS,
                "The policy's keypose is not finite: its weights or its input are broken.",
            )
        if (xyz_m < low).any() or (xyz_m > high).any():
            found, a, b = (", ".join(f"{x:.2f}" for x in v) for v in (xyz_m, low, high))
            raise StageError(
                OutcomeCode.KEYPOSE_OUT_OF_BOUNDS,
                f"The policy's keypose at ({found}) m is outside ({a}) to ({b}) m, where it was trained: plan again.",
            )


class DiffuserActorPolicy(KeyposePolicy):
    """3D Diffuser Actor: the keypose by denoising diffusion, 100 steps; needs a checkpoint (docs/policies.md)."""

    denoiser = "ddpm"


class FlowmatchActorPolicy(KeyposePolicy):
    """3D FlowMatch Actor: the keypose by rectified flow, 5 steps; comes with small weights (docs/weights.md)."""

    denoiser = "flow"


BACKEND = {"ddpm": "3dda", "flow": "3dfa"}


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is the first GPU, or else the CPU.

    Raises:
        ConfigError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device: '{name}' cannot be used here ({str(error).splitlines()[0]}).") from error
    return device


def most_central(xyz_m: F64) -> int:
    """Index of the position, of (N, 3), with the smallest sum of distances to all (the medoid).

    A generative network has tails: a few samples in a thousand are centimetres off, where all others agree within
    millimetres.
    """
    return int(np.argmin(np.linalg.norm(xyz_m[:, None] - xyz_m, axis=-1).sum(axis=1)))


def _network(file: PolicyFile, config: KeyposePolicyConfig, device: torch.device) -> FastKeyposeNetwork:
    """The network's fast path."""
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    try:
        return file.build_fast(device, steps=config.steps or None, dtype=dtype)
    except ValueError as error:
        raise ConfigError(f"policy.{BACKEND[file.network.denoiser]}.steps: {error}") from error


def _checkpoint(name: str, denoiser: str) -> PolicyFile:
    where = f"policy.{BACKEND[denoiser]}.checkpoint"
    if not name.strip():
        if denoiser != "flow":
            raise ConfigError(f"{where}: wanted a policy checkpoint, got nothing. {HOW_TO_GET}")
        name = str(WEIGHTS)
    file = read_policy_file(Path(name).expanduser())
    if file.network.denoiser != denoiser:
        raise ConfigError(
            f"{where}: the network of {name} has the denoiser '{file.network.denoiser}': "
            f"use the policy '{BACKEND[file.network.denoiser]}' for it."
        )
    if file.frame != "base":
        raise ConfigError(
            f"{where}: {name} was trained in the frame '{file.frame}', and this stack uses the robot's base frame: "
            "fine-tune it on episodes of this robot (`stvla train --initial`)."
        )
    if file.network.cameras != 1 or file.network.hands != 1:
        raise ConfigError(
            f"{where}: {name} needs {file.network.cameras} cameras and {file.network.hands} hands; this stack has one "
            "of each."
        )
    return file
