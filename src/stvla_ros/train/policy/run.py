"""Training of the keypose policies: batch, loss, step, validation."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stvla_ros.policy.batch import as_input
from stvla_ros.policy.checkpoint.policy_file import PolicyFile
from stvla_ros.policy.network.network import KeyposeNetwork, NetworkInput, Noise
from stvla_ros.policy.network.text import PADDING
from stvla_ros.policy.text_input import TextInput
from stvla_ros.train.curves import CurveLog, Panel, draw
from stvla_ros.train.optimization import AveragedWeights, optimizer_step, parameter_groups
from stvla_ros.train.policy.augment import augment
from stvla_ros.train.policy.experiments import Experiment
from stvla_ros.train.policy.samples import Samples
from stvla_ros.train.run import TrainingRun

FIELDS = ("step", "split", "total", "position", "rotation", "open", "within_1cm", "median_mm", "samples_per_s", "lr")
MAX_VALIDATION_SAMPLES = 256
"""Validation uses at most this many samples."""


class Batches:
    """Draws batches: of instructions of one length, or of all tasks equally often.

    Args:
        samples: To draw from.
        text: Tokenises an instruction.
        device: Where to put batches.
        even_tasks: Mix tasks, and pad instructions.
    """

    def __init__(
        self, samples: Samples, text: TextInput, device: torch.device | str = "cpu", even_tasks: bool = False
    ) -> None:
        self._samples, self._device = samples, device
        tokens = {words: text(words)[0] for words in dict.fromkeys(samples.instructions)}
        self._tokens = [tokens[words] for words in samples.instructions]
        self.lengths = [len(token) for token in self._tokens]
        """Tokens of every sample's instruction."""
        self._groups = grouped(self.lengths)
        self._shares = np.array([len(group) for group in self._groups]) / len(samples)
        self._tasks = [np.array(rows) for rows in grouped(samples.tasks)] if even_tasks else []

    def draw(self, size: int, generator: torch.Generator) -> tuple[NetworkInput, Tensor]:
        """A random batch, drawn with replacement."""
        seed = int(torch.randint(2**62, (), generator=generator))
        rng = np.random.default_rng(seed)
        if self._tasks:
            return self.take(np.array([rng.choice(self._tasks[task]) for task in rng.choice(len(self._tasks), size)]))
        group = self._groups[rng.choice(len(self._groups), p=self._shares)]
        return self.take(rng.choice(group, size))

    def evenly(self, size: int, max_samples: int) -> Iterator[tuple[NetworkInput, Tensor]]:
        """Evenly spaced samples in batches of at most ``size``; the same ones every time."""
        for group in self._groups:
            count = max(1, math.ceil(max_samples * len(group) / len(self._samples)))
            chosen = np.array(group)[np.linspace(0, len(group) - 1, min(count, len(group))).astype(int)]
            yield from (self.take(part) for part in np.array_split(chosen, math.ceil(len(chosen) / size)))

    def take(self, indices: np.ndarray) -> tuple[NetworkInput, Tensor]:
        """Samples as network input and (B, 1, 1, 8) target; shorter instructions are padded."""
        s = self._samples
        text = nn.utils.rnn.pad_sequence([self._tokens[i] for i in indices], True, PADDING)
        arrays = (torch.from_numpy(a[indices]) for a in (s.rgb, s.xyz_m, s.history, s.path_m, s.target))
        rgb, xyz, history, path, target = arrays
        inputs = as_input(rgb[:, None], xyz[:, None], text, history[:, :, None], path, self._device)
        return inputs, target[:, None, None].to(self._device)


def grouped(values: Iterable[Hashable]) -> list[list[int]]:
    """Indices of equal values, in the order in which the values first occur."""
    groups: dict[Hashable, list[int]] = {}
    for i, value in enumerate(values):
        groups.setdefault(value, []).append(i)
    return list(groups.values())


def learning_rate(experiment: Experiment, step: int) -> float:
    """Learning rate at a step: linear warm-up, then constant, or a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / experiment.warmup) if experiment.warmup else 1.0
    if not experiment.cosine:
        return experiment.lr * warm
    done = min(max(step - experiment.warmup, 0) / max(experiment.steps - experiment.warmup, 1), 1.0)
    return experiment.lr * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def ema_decay(step: int) -> float:
    """Decay of the averaged weights after a step; it grows to 0.9999 as in 3D FlowMatch Actor."""
    return min(1.0 - (1.0 + step) ** (-2 / 3), 0.9999)


def make_optimizer(network: KeyposeNetwork, experiment: Experiment) -> torch.optim.AdamW:
    """AdamW on the trained parameters; norms and biases do not decay."""
    groups = parameter_groups(network.parameters(), experiment.weight_decay)
    return torch.optim.AdamW(groups, lr=experiment.lr, betas=experiment.betas)


class PolicyRun(TrainingRun):
    """One run of an :class:`Experiment`; it writes ``last`` and ``best.safetensors``, ``state.pt``, and curves.

    Args:
        experiment: Settings.
        start: The initial network, and what is saved with its weights.
        text: Tokenises an instruction.
        train: Training samples.
        val: Validation samples.
        folder: Where results go.
        device: Where to compute.
        seed: Of batches, noise and augmentation.

    Raises:
        ConfigError: The folder holds a run with another experiment or other data, or its state is damaged.
    """

    log_every = 20
    result = "last.safetensors"

    def __init__(
        self,
        experiment: Experiment,
        start: PolicyFile,
        text: TextInput,
        train: Samples,
        val: Samples,
        folder: Path,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        data = f"{train.fingerprint()} {val.fingerprint()}"
        identity = {"experiment": repr(experiment), "seed": seed, "data": data}
        super().__init__(folder, identity, experiment.steps, experiment.validate_every)
        self.experiment, self.start, self.device, self.seed, self.best = experiment, start, device, seed, -1.0
        self._train, self._val = Batches(train, text, device, experiment.even_tasks), Batches(val, text, device)
        self.network = start.build().to(device).train()
        self.optimizer = make_optimizer(self.network, experiment)
        self.average = AveragedWeights(self.network.state_dict()) if experiment.ema else None
        self._resume()

    def _advance(self) -> tuple[dict[str, float], int]:
        e = self.experiment
        seeds = np.random.SeedSequence((self.seed, self.step)).generate_state(3, np.uint64)
        of_batch, of_noise, of_dropout = (
            int(seed) for seed in seeds
        )  # with equal seeds, noise and augmentation would correlate
        generator, noise = torch.Generator().manual_seed(of_batch), torch.Generator(self.device).manual_seed(of_noise)
        torch.manual_seed(of_dropout)
        inputs, target = self._train.draw(e.batch, generator)
        inputs, target = augment(inputs, target, e.augment, generator)
        with self._precision():
            losses = self.network.loss(self.network.encode(inputs), target, draws=e.draws, generator=noise)
        optimizer_step(losses["total"], self.network, [self.optimizer], learning_rate(e, self.step), e.clip_norm)
        if self.average:
            self.average.update(self.network, ema_decay(self.step + 1))
        return {name: value.item() for name, value in losses.items()}, e.batch

    def _precision(self) -> AbstractContextManager[Any]:
        if self.experiment.bf16 and self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    def _train_figures(self, losses: Mapping[str, float], per_s: float) -> Mapping[str, float]:
        return {**losses, "samples_per_s": per_s, "lr": learning_rate(self.experiment, self.step - 1)}

    def _validate(self) -> Mapping[str, Mapping[str, float]]:
        network = self._result().build().to(self.device)
        return {"val": validate(network, self._val, self.experiment.batch, self.device)}

    def _result(self) -> PolicyFile:
        weights = self.average.weights if self.average else self.network.state_dict()
        trained = dict(self.start.trained) | {"experiment": self.experiment.name, "step": self.step}
        return replace(self.start, weights=weights, trained=trained)

    def _save(self, figures: Mapping[str, float]) -> None:
        result = self._result()
        result.save(self.folder / "last.safetensors")
        if figures["within_1cm"] > self.best:
            self.best = figures["within_1cm"]
            result.save(self.folder / "best.safetensors")
        super()._save(figures)

    def _state(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.weights if self.average else None,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        if self.average:
            weights = {name: value.to(self.device) for name, value in state["average"].items()}
            self.average = AveragedWeights(weights)

    def _curve_log(self) -> CurveLog:
        return CurveLog(self.folder, FIELDS, self.step)

    def _draw(self, path: Path, curves: CurveLog) -> None:
        panels = (
            Panel("loss", {split: (split, "total") for split in ("train", "val")}),
            Panel("validation loss by part", {name: ("val", name) for name in ("position", "rotation", "open")}),
            Panel("median position error [mm]", {"": ("val", "median_mm")}),
        )
        draw(path, curves, panels)


@torch.no_grad()
def validate(network: KeyposeNetwork, batches: Batches, size: int, device: torch.device) -> dict[str, float]:
    """Losses, and position errors of sampled keyposes against the demonstrations; the same noise every time.

    Returns:
        ``total``, ``position``, ``rotation``, ``open`` (losses), ``within_1cm`` (share of positions), ``median_mm``.
    """
    generator = torch.Generator(device).manual_seed(0)
    losses, errors, weights = [], [], []
    for inputs, target in batches.evenly(size, MAX_VALIDATION_SAMPLES):
        context = network.encode(inputs)
        losses.append(network.loss(context, target, generator=generator))
        noise = Noise.draw(network.config, len(target), generator, device=device)
        sampled = network.sample(context, noise)
        errors.append((sampled[..., :3] - target[..., :3]).norm(dim=-1).flatten().cpu())
        weights.append(len(target))
    error = torch.cat(errors)
    mean = {n: float(sum(w * x[n] for w, x in zip(weights, losses, strict=True)) / sum(weights)) for n in losses[0]}
    return mean | {"within_1cm": float((error < 0.01).float().mean()), "median_mm": float(1e3 * error.median())}
