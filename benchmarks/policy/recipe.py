"""What a core learns from in a second: optimiser steps of nano's recipe beside those of the recipe before.

One step is everything that training does: batch, augmentation, encoder, noise draws, gradients, AdamW, moving average.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.policy.clock import Clock, Rows, interleaved
from stvla_ros.policy.observation import PATH_POINTS
from stvla_ros.policy.text_input import for_policy
from stvla_ros.train.policy.experiments import Augmentation, Experiment, experiment
from stvla_ros.train.policy.path_noise import PathNoise
from stvla_ros.train.policy.run import PolicyRun
from stvla_ros.train.policy.samples import Samples
from stvla_ros.train.policy.start import untrained

SAMPLES = 64
WORDS = ("Put the red block in the blue plate.", "Push the green button.", "Stack the lime block on the teal block.")


def before(now: Experiment) -> Experiment:
    """The recipe before scenes were shared: 4 draws per scene, batches of one sentence length, no path in channels."""
    network = replace(now.network, shared_scene=False, path_channels=False)
    augment = Augmentation(shift_m=0.03, turn_rad=0.1, jitter_m=0.01, unknown_words=0.1)
    return replace(now, network=network, draws=4, augment=augment, path_noise=PathNoise(), even_tasks=False)


def measure(name: str, runs: int, clock: Clock) -> dict[str, Any]:
    """Milliseconds per step, samples per second, and noise draws per second of both recipes, taking turns."""
    now = experiment(name)
    sides = {"before": before(now), "now": now}
    with tempfile.TemporaryDirectory() as folder:
        rows: dict[str, Rows] = {side: step_of(e, Path(folder) / side, clock) for side, e in sides.items()}
        ms = interleaved(rows, clock, runs)
    return {side: figures(e, ms[side]["step"]) for side, e in sides.items()} | {"ratio": _ratio(sides, ms)}


def figures(e: Experiment, step_ms: float) -> Mapping[str, float]:
    """Of one recipe."""
    per_s = 1e3 * e.batch / step_ms
    return {"step_ms": step_ms, "samples_per_s": round(per_s, 1), "draws_per_s": round(per_s * e.draws, 1)}


def step_of(e: Experiment, folder: Path, clock: Clock) -> Rows:
    """One optimiser step of an experiment on made-up samples; their cost is the same as any other's."""
    samples = made_up(e.network.image_px)
    file = untrained(e, samples)
    run = PolicyRun(e, file, for_policy(file), samples, samples, folder, clock.device)
    return {"step": run._advance}


def made_up(size_px: int) -> Samples:
    """Samples of three tasks with sentences of different lengths."""
    random = np.random.default_rng(0)
    poses = random.random((4, SAMPLES, 8), np.float32)
    return Samples(
        rgb=random.integers(0, 256, (SAMPLES, 3, size_px, size_px), np.uint8),
        xyz_m=random.random((SAMPLES, 3, size_px, size_px), np.float32),
        history=poses[:3].swapaxes(0, 1),
        target=poses[3],
        instructions=tuple(WORDS[i % len(WORDS)] for i in range(SAMPLES)),
        tasks=tuple(str(i % len(WORDS)) for i in range(SAMPLES)),
        path_m=random.random((SAMPLES, PATH_POINTS, 3), np.float32),
    )


def _ratio(sides: Mapping[str, Experiment], ms: Mapping[str, Mapping[str, float]]) -> float:
    draws = {side: figures(e, ms[side]["step"])["draws_per_s"] for side, e in sides.items()}
    return round(draws["now"] / draws["before"], 2)
