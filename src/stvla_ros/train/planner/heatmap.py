"""Training of the query-heatmap network, all of it in this file: batch, loss, step, validate, save, go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stvla_ros.config import ConfigError
from stvla_ros.planning.heatmap.network import CELLS, Asked, HeatmapNetwork, NetworkConfig, local_mean
from stvla_ros.planning.heatmap.weights_file import Grounder, numbers, padded, save
from stvla_ros.planning.heatmap.words import ACTIONS, vocabulary
from stvla_ros.train.planner.pilot_curves import PilotCurves
from stvla_ros.train.planner.questions import Question, drill, questions, slots
from stvla_ros.train.planner.shards import Scenes
from stvla_ros.train.planner.validation import validate

LOG_EVERY = 10
SPREAD_CELLS = 0.8
"""Sigma of the wanted heatmap around the true point."""


@dataclass(frozen=True)
class HeatmapExperiment:
    """What decides a run.

    Attributes:
        scenes: To be seen in all; the learning rate falls to nothing over them.
        batch: Scenes per step.
        lr: Highest learning rate of AdamW.
        weight_decay: Of weight matrices.
        warmup: Steps of rising learning rate.
        clip_norm: Largest norm of the gradient.
        validate_every: Scenes between validations, each of which leaves a checkpoint.
        bf16: The trunk computes in bfloat16.
        drill: Texts without an image per step, to learn the words from.
    """

    scenes: int = 60_000
    batch: int = 16
    lr: float = 3e-3
    weight_decay: float = 1e-3
    warmup: int = 60
    clip_norm: float = 2.0
    validate_every: int = 2400
    bf16: bool = True
    drill: int = 192

    @property
    def steps(self) -> int:
        return -(-self.scenes // self.batch)


@dataclass(frozen=True, eq=False)
class Batch:
    """B scenes and T questions about them."""

    rgb: Tensor  # (B, 3, 256, 256), 0..1
    labels: Tensor  # (B, 64, 64) kind + 2 of each cell: 0 the robot, 1 surroundings
    colours: Tensor  # (B, 64, 64), -1: none
    words: Tensor  # (T, L)
    step: Tensor  # (T,)
    image: Tensor  # (T,)
    uv: Tensor  # (T, 2, 2), NaN: not there
    counts: Tensor  # (T, 2)
    action: Tensor  # (T,)
    steps: Tensor  # (T,)
    kind: Tensor  # (T, 2)
    colour: Tensor  # (T, 2)


@dataclass(frozen=True, eq=False)
class Drill:
    """T texts without images."""

    words: Tensor  # (T, L)
    step: Tensor  # (T,)
    action: Tensor  # (T,)
    steps: Tensor  # (T,)
    kind: Tensor  # (T, 2)
    colour: Tensor  # (T, 2)


def make_batch(scenes: Scenes, chosen: np.ndarray, words: tuple[str, ...], rng: np.random.Generator) -> Batch:
    """Scenes with new wordings, half of them mirrored, brightness and colour balance changed a little."""
    asked: list[tuple[int, Question]] = []
    images, labels, colours = [], [], []
    for place, index in enumerate(chosen):
        mirrored = rng.random() < 0.5
        rgb, kinds, colour = scenes.rgb(index), *cells_of(scenes, index)
        images.append(lit(rgb[:, ::-1] if mirrored else rgb, rng))
        labels.append(kinds[:, ::-1] if mirrored else kinds)
        colours.append(colour[:, ::-1] if mirrored else colour)
        for question in questions(scenes, index, rng):
            if mirrored:
                question.uv[:, 0] = 1000 - question.uv[:, 0]
            asked.append((place, question))
    return _batch(np.stack(images), np.stack(labels), np.stack(colours), asked, words)


def lit(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values 0..1 of an image in a little more or less light, of another tint, with noise."""
    gain = rng.normal(1.0, 0.08) * rng.normal(1.0, 0.03, 3)
    noise = rng.standard_normal(rgb.shape, np.float32) * np.float32(rng.uniform(0, 4))
    return np.clip(rgb * gain.astype(np.float32) + noise, 0, 255) / np.float32(255)


def cells_of(scenes: Scenes, index: int) -> tuple[np.ndarray, np.ndarray]:
    """(64, 64) what each cell shows: kind + 2, and colour or -1."""
    label = scenes.arrays["labels"][index].astype(int)
    kind = np.concatenate([[0, 1], scenes.arrays["kind"][index] + 2])
    colour = np.concatenate([[-1, -1], scenes.arrays["colour"][index]])
    return kind[label + 1], colour[label + 1]


def _batch(
    rgb: np.ndarray, labels: np.ndarray, colours: np.ndarray, asked: list[tuple[int, Question]], words: tuple[str, ...]
) -> Batch:
    only = [question for _, question in asked]
    meant = [slots(q.goal, q.step) for q in only]
    return Batch(
        torch.from_numpy(rgb).permute(0, 3, 1, 2),
        torch.from_numpy(labels.copy()),
        torch.from_numpy(colours.copy()).long(),
        padded([numbers(words, q.text) for q in only]),
        torch.tensor([q.step for q in only]),
        torch.tensor([place for place, _ in asked]),
        torch.tensor(np.stack([q.uv for q in only]), dtype=torch.float32),
        torch.tensor(np.stack([q.counts for q in only])),
        torch.tensor([ACTIONS.index(q.goal.action) for q in only]),
        torch.tensor([q.goal.steps - 1 for q in only]),
        torch.tensor([kind for kind, _ in meant]),
        torch.tensor([colour for _, colour in meant]),
    )


def make_drill(count: int, words: tuple[str, ...], rng: np.random.Generator) -> Drill:
    """Texts of tasks, a few of pointing."""
    texts = drill(count, rng)
    meant = [slots(goal, step) for _, goal, step in texts]
    return Drill(
        padded([numbers(words, text) for text, _, _ in texts]),
        torch.tensor([step for _, _, step in texts]),
        torch.tensor([ACTIONS.index(goal.action) for _, goal, _ in texts]),
        torch.tensor([goal.steps - 1 for _, goal, _ in texts]),
        torch.tensor([kind for kind, _ in meant]),
        torch.tensor([colour for _, colour in meant]),
    )


def meaning_loss(asked: Asked, wanted: Batch | Drill) -> Tensor:
    """Cross entropy of what the words mean."""
    cross = functional.cross_entropy
    return (
        cross(asked.action, wanted.action)
        + cross(asked.steps, wanted.steps)
        + cross(asked.kind.flatten(0, 1), wanted.kind.flatten())
        + cross(asked.colour.flatten(0, 1), wanted.colour.flatten())
    )


def losses(network: HeatmapNetwork, batch: Batch, bf16: bool) -> dict[str, Tensor]:
    """``total`` and its parts."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = network.features(batch.rgb)
    features = features.float()
    asked = network.words(batch.words, batch.step)
    heat = network.heat(features, asked, batch.image)
    place, offset = _heat_losses(heat, batch)
    cross = functional.cross_entropy
    meaning = meaning_loss(asked, batch)
    dense = cross(network.cell_kind(features), batch.labels, _rare())
    dense = dense + cross(network.cell_colour(features), batch.colours, ignore_index=-1)
    return {"total": place + 0.02 * offset + 0.5 * meaning + 0.5 * dense, "heat": place, "meaning": meaning, "dense": dense}


def _rare() -> Tensor:
    """Things cover few cells, so those count more."""
    return torch.tensor([0.3, 0.1, 1.0, 0.5, 1.0, 0.7])


def _heat_losses(heat: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross entropy against a small Gaussian at the true point or "not there", and distance in cells of the local mean."""
    there = torch.isfinite(batch.uv).all(-1)
    cells = torch.nan_to_num(batch.uv) * (CELLS / 1000) - 0.5
    line = torch.arange(CELLS, dtype=torch.float32)
    near = torch.exp(-((line - cells[..., None]) ** 2) / (2 * SPREAD_CELLS**2))  # (T, 2, xy, 64)
    wanted = (near[..., 1, :, None] * near[..., 0, None, :]).flatten(-2)
    wanted = wanted / wanted.sum(-1, keepdim=True).clamp_min(1e-6) * there[..., None]
    wanted = torch.cat([wanted, (~there).float()[..., None]], -1)
    counts = batch.counts.float()
    log = heat.log_softmax(-1)
    place = (-(wanted * log).sum(-1) * counts).sum() / counts.sum().clamp_min(1)
    cell = cells.round().long().clamp(0, CELLS - 1)
    mean, _ = local_mean(log.exp()[..., :-1], cell[..., 1] * CELLS + cell[..., 0])
    miss = (mean - torch.nan_to_num(batch.uv)).abs().sum(-1) * (CELLS / 1000) * counts * there
    return place, miss.sum() / (counts * there).sum().clamp_min(1)


@dataclass(frozen=True)
class Moment:
    """What a progress bar shows."""

    scenes: int
    loss: float
    scenes_per_s: float
    validation: Mapping[str, float] | None = None


class HeatmapRun:
    """One run in one folder: ``last.safetensors`` (averaged weights), ``state.pt``, ``curves.csv`` and ``.png``.

    Args:
        experiment: What to do.
        train: Gives the training scenes that there are by now; asked again at every validation.
        val: Scenes to judge by, by name; the first decides nothing, all are only written down.
        folder: Where results go; an existing run is taken up again.
        seed: Of weights, batches and wordings.

    Raises:
        ConfigError: The folder holds a run of another experiment.
    """

    def __init__(
        self,
        experiment: HeatmapExperiment,
        train: Callable[[], Scenes],
        val: Mapping[str, Scenes],
        folder: Path,
        seed: int = 0,
    ) -> None:
        self.experiment, self.folder, self.seed, self.step = experiment, folder, seed, 0
        self._more, self._val, self._train = train, val, train()
        self.words = vocabulary()
        torch.manual_seed(seed)
        self.network = HeatmapNetwork(NetworkConfig(len(self.words) + 1)).to(memory_format=torch.channels_last)
        decays = [p for p in self.network.parameters() if p.dim() > 1]
        rest = [p for p in self.network.parameters() if p.dim() <= 1]
        groups = [{"params": decays, "weight_decay": experiment.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=experiment.lr, betas=(0.9, 0.98))
        self.average = {n: w.detach().clone() for n, w in self.network.state_dict().items()}
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        self.curves = PilotCurves(folder, self.step * experiment.batch)

    def run(self) -> Iterator[Moment]:
        """Train to the end; interrupted, it loses what came after the last validation."""
        e, since, seen, total = self.experiment, time.monotonic(), 0, 0.0
        while self.step < e.steps:
            total += self._advance()
            seen += e.batch
            due = self.step * e.batch % e.validate_every < e.batch or self.step == e.steps
            if self.step % LOG_EVERY == 0 or due:
                speed, loss = seen / (time.monotonic() - since), total * e.batch / seen
                self.curves.add(self.step * e.batch, "train", {"loss": loss, "scenes_per_s": speed})
                figures = self._conclude() if due else None
                yield Moment(self.step * e.batch, loss, speed, figures)
                since, seen, total = time.monotonic(), 0, 0.0

    def rate(self) -> float:
        """Learning rate of the present step: linear warm-up, then a cosine to nothing."""
        warm = min(1.0, (self.step + 1) / self.experiment.warmup)
        return self.experiment.lr * warm * (1 + math.cos(math.pi * min(self.step / self.experiment.steps, 1.0))) / 2

    def _advance(self) -> float:
        rng = np.random.default_rng([self.seed, self.step])
        chosen = rng.choice(len(self._train), self.experiment.batch)
        batch = make_batch(self._train, chosen, self.words, rng)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        loss = losses(self.network.train(), batch, self.experiment.bf16)["total"]
        texts = make_drill(self.experiment.drill, self.words, rng)
        loss = loss + meaning_loss(self.network.words(texts.words, texts.step), texts)
        if not torch.isfinite(loss):
            raise ConfigError(f"training: the loss is {loss.item()} at step {self.step}: lower the learning rate.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.experiment.clip_norm)
        self.optimizer.step()
        self.step += 1
        decay = min(0.995, 1 - 1 / (1 + self.step / 4))
        for name, value in self.network.state_dict().items():
            mine = self.average[name]
            mine.lerp_(value.detach(), 1 - decay) if mine.is_floating_point() else mine.copy_(value)
        return loss.item()

    def grounder(self) -> Grounder:
        """The averaged weights in use."""
        network = HeatmapNetwork(self.network.config)
        network.load_state_dict(self.average)
        return Grounder(network.eval().to(memory_format=torch.channels_last), self.words, {})

    def _conclude(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        for name, scenes in self._val.items():
            figures = validate(self.grounder(), scenes)
            self.curves.add(self.step * self.experiment.batch, name, figures)
        self._save(figures)
        self.curves.draw(self.folder / "curves.png")
        self._train = self._more()
        return figures

    def _save(self, figures: Mapping[str, float]) -> None:
        trained: dict[str, Any] = {"experiment": asdict(self.experiment), "scenes_seen": self.step * self.experiment.batch}
        save(self.folder / "last.safetensors", self.average, self.words, trained | {"figures": dict(figures)})
        state = {
            "experiment": repr(self.experiment),
            "seed": self.seed,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
        }
        part = self.folder / "state.part"
        torch.save(state, part)
        part.replace(self.folder / "state.pt")

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["experiment"] != repr(self.experiment) or state["seed"] != self.seed:
            raise ConfigError(f"{self.folder}: holds a run with other settings: choose another --output, or delete it.")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.average = state["step"], state["average"]
