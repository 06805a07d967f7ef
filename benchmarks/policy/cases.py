"""What is measured: networks with random weights, one observation, and the noise for one keypose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from stvla_ros.policy.network.config import DIFFUSER_ACTOR, FLOWMATCH_ACTOR, NetworkConfig
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.network.values import NetworkInput, Noise
from stvla_ros.policy.observation import PATH_POINTS
from stvla_ros.train.policy import experiments

BOUNDS_M = ((-0.11, -0.56, 0.71), (0.65, 0.52, 1.51))
"""Roughly the workspace of RLBench's tasks."""

DIFFUSER, FLOWMATCH = "3d_diffuser_actor", "3d_flowmatch_actor"
"""Repositories of reference code, both of github.com/nickgkan."""

NANO = replace(experiments.NANO, vocabulary=50)
"""What a policy for our simulator is trained as."""


@dataclass(frozen=True)
class Case:
    """One configuration."""

    config: NetworkConfig
    words: int
    """Tokens of the instruction: 53 is what 3D Diffuser Actor pads to, 12 is usual otherwise."""
    reference: str | None = None
    """Repository whose code is the same network."""


CASES = {
    "3dda": Case(DIFFUSER_ACTOR, 53, DIFFUSER),
    "3dfa-ddpm-100": Case(replace(FLOWMATCH_ACTOR, denoiser="ddpm", steps=100), 12, FLOWMATCH),
    "3dfa-flow-5": Case(FLOWMATCH_ACTOR, 12, FLOWMATCH),
    "nano": Case(NANO, 12),
    "nano-unshared": Case(replace(NANO, shared_scene=False, path_channels=False), 12),
}


def random_network(config: NetworkConfig, seed: int, device: torch.device) -> KeyposeNetwork:
    """A network in evaluation mode whose results depend on all weights: no modulation is 0, no norm is 1."""
    torch.manual_seed(seed)
    network = KeyposeNetwork(config, BOUNDS_M)
    for name, parameter in network.named_parameters():
        if "adaln" in name or ("norm" in name and "workspace" not in name):
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    for name, buffer in network.named_buffers():
        if "running_mean" in name:
            buffer.normal_(std=0.1)
        elif "running_var" in name:
            buffer.uniform_(0.5, 1.5)
    return network.eval().to(device)


def random_inputs(case: Case, batch: int, seed: int, device: torch.device) -> NetworkInput:
    """Random observations; their cost is the same as any other's."""
    config, generator = case.config, torch.Generator().manual_seed(seed)
    low, high = torch.tensor(BOUNDS_M)
    image = (batch, config.cameras, 3, config.image_px, config.image_px)
    xyz = torch.rand(image, generator=generator).movedim(2, -1) * (high - low) + low
    text = torch.randint(0, config.vocabulary or 49000, (batch, case.words), generator=generator)
    if config.text == "features":
        text = torch.randn(batch, case.words, 512, generator=generator)
    history = random_poses(generator, batch, config.history, config.hands)
    path = torch.rand(batch, PATH_POINTS, 3, generator=generator) * (high - low) + low
    parts = torch.rand(image, generator=generator), xyz.movedim(-1, 2).contiguous(), text, history, path
    return NetworkInput(*(part.to(device) for part in parts))


def random_poses(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """(..., 8): xyz in metres within the workspace, quaternion xyzw, open or not."""
    low, high = torch.tensor(BOUNDS_M)
    xyz = torch.rand(*shape, 3, generator=generator) * (high - low) + low
    quaternion = torch.nn.functional.normalize(torch.randn(*shape, 4, generator=generator), dim=-1)
    return torch.cat((xyz, quaternion, torch.randint(0, 2, (*shape, 1), generator=generator)), -1)


def seeded_noise(config: NetworkConfig, seed: int, device: torch.device) -> Noise:
    """Noise from PyTorch's own generator, in the order of the published code: after the same seed it draws the same."""
    torch.manual_seed(seed)
    return Noise.draw(config, 1, device=device)
