"""Milliseconds from an observation to a keypose: plain path, fast path, reference code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.policy.cases import Case, random_inputs, random_network, seeded_noise
from benchmarks.policy.clock import Clock, Rows, interleaved
from benchmarks.policy.reference import reference
from stvla_ros.policy.network.fast.network import FastKeyposeNetwork
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.network.schedulers import POSITION
from stvla_ros.policy.network.values import NetworkInput, Noise

ROWS = ("encode", "encode, new text", "step", "loop", "prediction")
SEED = 3


@torch.no_grad()
def measure(case: Case, clones: Mapping[str, Path], runs: int, clock: Clock) -> dict[str, Any]:
    """Times of all rows and sides, and how far their keyposes are from the plain one.

    ``loop`` is all steps, starting from an encoded scene; ``prediction`` is everything, with an instruction that the
    fast path has met before.
    """
    network = random_network(case.config, SEED, clock.device)
    inputs, noise = random_inputs(case, 1, SEED, clock.device), seeded_noise(case.config, SEED, clock.device)
    sides: dict[str, Rows] = {"plain": plain_rows(network, inputs, noise), "fast": fast_rows(network, inputs, noise)}
    if case.reference in clones:
        sides["reference"] = reference(case.reference, clones[case.reference], network).rows(inputs, SEED)
    poses = {side: _tensor(rows["prediction"]) for side, rows in sides.items()}
    differences = {side: difference(pose, poses["plain"]) for side, pose in poses.items() if side != "plain"}
    return {"ms": interleaved(sides, clock, runs), "difference": differences}


def plain_rows(network: KeyposeNetwork, inputs: NetworkInput, noise: Noise) -> Rows:
    """The readable network."""
    scene, time = network.encode(inputs), network.scheduler.times[0]
    return {
        "encode": lambda: network.encode(inputs),
        "encode, new text": lambda: network.encode(inputs),
        "step": lambda: network.denoise(scene, noise.start, time),
        "loop": lambda: network.sample(scene, noise),
        "prediction": lambda: network.predict(inputs, noise),
    }


def fast_rows(network: KeyposeNetwork, inputs: NetworkInput, noise: Noise) -> Rows:
    """The fast path; it has no single step, so that row bypasses the recorded graph."""
    fast = FastKeyposeNetwork(network)
    scene = fast.encode(inputs)
    places, x = fast.head.embedding.places(noise.start.shape[1], noise.start.shape[2]), noise.start.flatten(1, 2)
    return {
        "encode": lambda: fast.encode(inputs),
        "encode, new text": lambda: (fast.forget_text(), fast.encode(inputs)),
        "step": lambda: fast.head.step(scene, places, x, x[..., :POSITION], 0),
        "loop": lambda: fast.sample(scene, noise),
        "prediction": lambda: fast.predict(inputs, noise),
    }


def difference(pose: Tensor, other: Tensor) -> float:
    """Largest absolute difference of two keyposes (B, L, hands, 8), q and -q being one rotation."""
    sign = torch.where((pose[..., 3:7] * other[..., 3:7]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    aligned = torch.cat((pose[..., :3], pose[..., 3:7] * sign, pose[..., 7:]), -1)
    return float((aligned - other).abs().max())


def _tensor(work: Callable[[], object]) -> Tensor:
    found = work()
    assert isinstance(found, Tensor)
    return found
