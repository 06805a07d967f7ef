"""Samples per second in training: forward, backward and optimiser, of the plain network and of the reference code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.policy.cases import Case, random_inputs, random_network, random_poses
from benchmarks.policy.clock import Clock, Rows, interleaved
from benchmarks.policy.reference import reference
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.network.values import NetworkInput

SEED = 3


def measure(case: Case, clones: Mapping[str, Path], runs: int, batch: int, clock: Clock) -> dict[str, Any]:
    """Samples per second; peak memory on a GPU is not measured."""
    network = random_network(case.config, SEED, clock.device)
    inputs = random_inputs(case, batch, SEED, clock.device)
    target = random_poses(torch.Generator().manual_seed(SEED), batch, 1, case.config.hands).to(clock.device)
    sides: dict[str, Rows] = {}
    if case.reference in clones:
        other = reference(case.reference, clones[case.reference], network)
        sides["reference"] = {"train": trainer(other.model, lambda: other.loss(inputs, target))}
    sides["plain"] = {"train": trainer(network, lambda: plain_loss(network, inputs, target))}
    ms = interleaved(sides, clock, runs)
    return {"batch": batch, "samples_per_s": {side: round(1e3 * batch / rows["train"], 3) for side, rows in ms.items()}}


def plain_loss(network: KeyposeNetwork, inputs: NetworkInput, target: Tensor) -> Tensor:
    return network.loss(network.encode(inputs), target)["total"]


def trainer(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """One step of AdamW on the trained parameters."""
    model.train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return step
