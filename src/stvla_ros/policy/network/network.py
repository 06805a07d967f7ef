"""The keypose network of 3D Diffuser Actor (arXiv 2402.10885) and 3D FlowMatch Actor (arXiv 2508.11002)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.encoder import SceneEncoder
from stvla_ros.policy.network.head import PredictionHead
from stvla_ros.policy.network.rotations import quaternion_from_sixd, sixd_from_quaternion
from stvla_ros.policy.network.schedulers import POSITION, ROTATION, scheduler
from stvla_ros.policy.network.values import NetworkInput, Noise, SceneContext, check_inputs

__all__ = ["KeyposeNetwork", "NetworkConfig", "NetworkInput", "Noise", "SceneContext"]

POSITION_WEIGHT, ROTATION_WEIGHT = 30.0, 10.0
"""Weights of the L1 losses relative to the opening's cross-entropy, as in the code of both publications."""


class KeyposeNetwork(nn.Module):
    """Predicts the gripper's next keypose by denoising it, conditioned on the scene.

    Parameters have the names of 3D FlowMatch Actor's released files; those that it never uses do not exist.
    """

    def __init__(self, config: NetworkConfig, bounds_m: ArrayLike) -> None:
        """Create a network with random weights, including CLIP's.

        Args:
            config: Its shape.
            bounds_m: (2, 3) lower and upper corner of the workspace, which is mapped to -1..1.

        Raises:
            ValueError: The bounds are not two corners in the right order.
        """
        super().__init__()
        self.config = config
        self.workspace_normalizer = nn.Parameter(_checked_bounds(bounds_m), requires_grad=False)
        self.encoder = SceneEncoder(config)
        self.traj_encoder = nn.Linear(POSITION + ROTATION, config.width)
        self.prediction_head = PredictionHead(config)
        self.scheduler = scheduler(config)

    def encode(self, inputs: NetworkInput) -> SceneContext:
        """Everything that any number of denoising steps needs of B observations.

        Raises:
            ValueError: A shape does not match the configuration.
        """
        check_inputs(inputs, self.config)
        xyz, history, path = inputs.xyz_m, inputs.history[..., :3].flatten(1, 2), inputs.path_m
        if self.config.rotary == "normalised":
            xyz = self.normalise(xyz.movedim(2, -1)).movedim(-1, 2)
            history = self.normalise(history)
            path = None if path is None else self.normalise(path)
        return self.encoder(inputs.rgb, xyz, inputs.text, history, path)

    def denoise(self, context: SceneContext, x: Tensor, t: Tensor | float) -> Tensor:
        """One evaluation (m B, L, hands, 10): velocity or noise of position and rotation, and the opening's logit.

        Args:
            context: B scenes.
            x: Noisy keyposes (m B, L, hands, 9), or (m B, L, 9) for one hand: normalised position and 6D rotation. m
                consecutive rows belong to one scene.
            t: Denoising time, a number or (m B,): 0..1 for a flow, the index of the step for diffusion.
        """
        x = x.unsqueeze(2) if x.ndim == 3 else x
        times = torch.as_tensor(t, device=x.device).expand(len(x))
        xyz = x[..., :POSITION]
        xyz = xyz if self.config.rotary == "normalised" else self.unnormalise(xyz)
        return self.prediction_head(context, self.traj_encoder(x), xyz, times)

    def predict(self, inputs: NetworkInput, noise: Noise | None = None) -> Tensor:
        """Keyposes (B, L, hands, 8) for B observations: xyz in metres, quaternion xyzw, probability of open.

        Args:
            inputs: B observations.
            noise: All randomness; drawn for L = 1 if not given.
        """
        with torch.no_grad():
            return self.sample(self.encode(inputs), noise)

    @torch.no_grad()
    def sample(self, context: SceneContext, noise: Noise | None = None) -> Tensor:
        """As :meth:`predict`, for encoded scenes. Of noise for m B samples, m consecutive ones belong to one scene."""
        device = context.image.device
        noise = Noise.draw(self.config, len(context.image), device=device) if noise is None else noise
        x, predicted = noise.start, noise.start
        for index, time in enumerate(self.scheduler.times):
            predicted = self.denoise(context, x, time)
            fresh = noise.steps[index] if len(noise.steps) > 0 else None
            x = self.scheduler.step(index, x, predicted[..., :-1], fresh)
        position, rotation = self.unnormalise(x[..., :POSITION]), quaternion_from_sixd(x[..., POSITION:])
        return torch.cat((position, rotation, predicted[..., -1:].sigmoid()), -1)

    def loss(
        self,
        context: SceneContext,
        target: Tensor,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Training loss.

        Args:
            context: B encoded scenes.
            target: True keyposes (B, L, hands, 8): xyz in metres, quaternion xyzw, open 0 or 1.
            draws: Noises and times per scene; more draws cost less than more scenes.
            generator: Source of both, on the network's device.

        Returns:
            ``position`` and ``rotation``: mean absolute errors of the prediction; ``open``: the cross-entropy;
                ``total``: 30,
            10 and 1 times these.
        """
        target = (target.unsqueeze(2) if target.ndim == 3 else target).repeat_interleave(draws, 0)
        clean = torch.cat((self.normalise(target[..., :3]), sixd_from_quaternion(target[..., 3:7])), -1)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        times = self.scheduler.draw_times(len(clean), generator, clean.device)
        predicted = self.denoise(context, self.scheduler.add_noise(clean, noise, times), times)
        wanted = self.scheduler.target(clean, noise)
        position = functional.l1_loss(predicted[..., :POSITION], wanted[..., :POSITION])
        rotation = functional.l1_loss(predicted[..., POSITION:-1], wanted[..., POSITION:])
        opening = functional.binary_cross_entropy_with_logits(predicted[..., -1], target[..., 7])
        total = POSITION_WEIGHT * position + ROTATION_WEIGHT * rotation + opening
        return {"total": total, "position": position, "rotation": rotation, "open": opening}

    def normalise(self, xyz_m: Tensor) -> Tensor:
        """Positions (..., 3) in metres to -1..1 within the workspace."""
        low, high = self.workspace_normalizer
        return (xyz_m - low) / (high - low) * 2.0 - 1.0

    def unnormalise(self, xyz: Tensor) -> Tensor:
        """The inverse of :meth:`normalise`."""
        low, high = self.workspace_normalizer
        return (xyz + 1.0) / 2.0 * (high - low) + low


def _checked_bounds(bounds_m: ArrayLike) -> Tensor:
    bounds = np.asarray(bounds_m, dtype=np.float32)
    if bounds.shape != (2, 3) or not (bounds[0] < bounds[1]).all():
        raise ValueError(f"bounds_m is {bounds.tolist()}; wanted (2, 3): lower and upper corner, in metres.")
    return torch.from_numpy(bounds.copy())
