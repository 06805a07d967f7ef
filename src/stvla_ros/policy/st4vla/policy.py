"""The ``st4vla`` policy: chunks of keyposes from the guided image and the words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stvla_ros.config import ConfigError, param
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.policy.contact import done_there, touches
from stvla_ros.policy.learned import choose_device
from stvla_ros.policy.observation import check_depth, check_guidance, seen_points, spoken
from stvla_ros.policy.st4vla.actions import ToolPose, filled_in, tool_poses
from stvla_ros.policy.st4vla.checkpoint import St4VlaCheckpoint, read
from stvla_ros.policy.st4vla.heads import action_head
from stvla_ros.types import Keypose, Observation

AT_M = 0.02
"""A keypose counts as executed if the history ends this near to it."""


@dataclass(frozen=True)
class St4VlaPolicyConfig:
    """Settings of the ST4VLA policy."""

    checkpoint: str = param("", "folder of a checkpoint (`best` or `last` of `stvla train st4vla-nano`)")
    device: str = param("auto", "auto (a GPU where there is one), cpu, cuda, cuda:N")
    threads: int = param(1, "CPU threads of the network: more of them slow down the other nodes", ge=1, le=256)
    precision: str = param("float32", "of the VLM; bf16 is for GPUs", choices=("float32", "bf16"))
    execute: int = param(
        1, "keyposes of a chunk that are executed before the next one is predicted, at most; 1: each from a new image",
        ge=1, le=64,
    )  # fmt: skip
    steps: int = param(0, "sampling steps of the action head; 0: as in the checkpoint", ge=0, le=1000)
    seed: int = param(
        0, "of the sampler's noise; the same seed and image stamp give the same prediction", ge=0, le=2**31 - 1
    )


class St4VlaPolicy:
    """Samples a chunk and answers with its keyposes, one per call.

    The next keyposes of a chunk are used only for the plan and words that it was predicted for, after the keypose
    before them was executed; otherwise a new chunk is predicted from the newest image. Positions never leave the
    range of the training data, to which normalised actions are clipped.
    """

    Config = St4VlaPolicyConfig

    def __init__(self, config: St4VlaPolicyConfig) -> None:
        self._config = config
        found = _checkpoint(config)
        self._spec, self._processor = found.spec, found.processor
        self._device = choose_device(config.device)
        self._model = found.model.to(self._device)
        if config.precision == "bf16":
            self._model.vlm.to(torch.bfloat16)
        self._next: list[ToolPose] = []
        self._for: tuple[str, str] = ("", "")
        self._last: Keypose | None = None

    def predict(self, observation: Observation) -> Keypose | None:
        """See :class:`stvla_ros.interfaces.Policy`.

        As with the keypose networks, a path counts as complete when the prediction would touch its end again.

        Raises:
            StageError: INVALID_GOAL without an instruction; NO_DEPTH without depth, by which contact is recognised;
                WRONG_GUIDANCE if the image has a drawn path and the training images had none, or the other way round;
                KEYPOSE_OUT_OF_BOUNDS if the prediction is not finite or no pose.
        """
        check_guidance(observation.guidance, self._spec.guidance)
        words = spoken(observation)
        check_depth(observation.guidance.frame.depth_m)
        now = (observation.guidance.trace.plan_id, words)
        if not self._goes_on(observation, now):
            self._next, self._for = self._chunk(observation, words), now
        following = self._next.pop(0)
        T, is_open = following.T_base_tcp, following.gripper_open
        self._last = Keypose(T, is_open, touches(observation, seen_points(observation), T, is_open))
        if done_there(observation, self._last):
            self._next = []
            return None
        return self._last

    def _goes_on(self, observation: Observation, now: tuple[str, str]) -> bool:
        """Whether the present chunk's next keypose may follow."""
        if not self._next or self._for != now or self._last is None or not observation.history:
            return False
        done = observation.history[-1]
        off = np.linalg.norm(done.T_base_tcp[:3, 3] - self._last.T_base_tcp[:3, 3])
        return bool(off < AT_M and done.gripper_open == self._last.gripper_open)

    def _chunk(self, observation: Observation, words: str) -> list[ToolPose]:
        """The keyposes of a new chunk that may be executed; at least one."""
        chunk = self._sample(observation, words)
        try:
            poses = tool_poses(chunk, self._spec.actions, observation.robot.T_base_tcp)
        except ValueError as error:
            raise StageError(
                OutcomeCode.KEYPOSE_OUT_OF_BOUNDS,
                f"The policy's chunk is no motion ({error}): its weights or its input are broken.",
            ) from error
        return poses[: self._config.execute]

    def _sample(self, observation: Observation, words: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(T, D) in its own units."""
        frame, expert = observation.guidance.frame, self._spec.expert
        image = self._processor.resized(frame.rgb)
        batch = self._processor([[image]], [filled_in(self._spec.prompt, words)]).to(self._device)
        generator = torch.Generator().manual_seed(self._config.seed + frame.stamp_ns)
        noise = torch.randn(1, expert.chunk, expert.action_dim, generator=generator).to(self._device)
        torch.set_num_threads(self._config.threads)
        with torch.inference_mode():
            if self._config.precision == "bf16":
                batch = replace(batch, pixels=batch.pixels.to(torch.bfloat16))
                with torch.autocast(self._device.type, torch.bfloat16):
                    condition = self._model.condition(batch).float()
            else:
                condition = self._model.condition(batch)
            found = self._model.expert.action_model.sample(condition, noise)[0]
        return self._spec.statistics.raw(found.double().cpu().numpy())


def _checkpoint(config: St4VlaPolicyConfig) -> St4VlaCheckpoint:
    """The checkpoint, with the sampler's steps."""
    where = "policy.st4vla.checkpoint"
    if not config.checkpoint.strip():
        raise ConfigError(f"{where}: wanted the folder of a checkpoint, got nothing. Train one with `stvla train`.")
    found = read(Path(config.checkpoint).expanduser())
    if config.steps:
        try:
            head = action_head(replace(found.spec.expert, sampling_steps=config.steps))
        except ValueError as error:
            raise ConfigError(f"policy.st4vla.steps: {error}") from error
        head.load_state_dict(found.model.expert.action_model.state_dict())
        found.model.expert.action_model = head.eval()
    return found
