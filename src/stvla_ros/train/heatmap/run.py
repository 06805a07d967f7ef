"""Training of the query-heatmap network: settings, losses, run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stvla_ros.planning.heatmap.network import CELLS, HeatmapNetwork, HeatmapNetworkConfig, TextQuery, local_mean
from stvla_ros.planning.heatmap.weights_file import Grounder, save
from stvla_ros.planning.heatmap.words import vocabulary
from stvla_ros.train.heatmap.batch import SceneBatch, TextBatch, make_batch, make_text_batch
from stvla_ros.train.heatmap.questions import EVERYTHING, TAUGHT
from stvla_ros.train.heatmap.validation import validate
from stvla_ros.train.optimization import AveragedWeights, optimizer_step, parameter_groups
from stvla_ros.train.scenes.run import CELL_WEIGHTS, SceneRun
from stvla_ros.train.scenes.shards import Scenes

SPREAD_CELLS = 0.8
"""Sigma of the target heatmap around the true point."""


@dataclass(frozen=True)
class HeatmapExperiment:
    """Settings of a run.

    Attributes:
        scenes: Scenes in all, repeated ones counted again; the learning rate falls to 0 over them.
        batch: Scenes per step.
        lr: Highest learning rate of AdamW.
        weight_decay: Of weight matrices.
        warmup: Steps in which the learning rate rises.
        clip_norm: Largest norm of the gradient.
        validate_every: Scenes between validations, each of which leaves a checkpoint.
        bf16: Compute the trunk in bfloat16.
        drill: Texts without an image per step.
        all_colours: Made-up tasks name all colours and items, for weights to deploy; the split ``unseen`` then
            measures nothing.
    """

    scenes: int = 60_000
    batch: int = 16
    lr: float = 3e-3
    weight_decay: float = 1e-3
    warmup: int = 60
    clip_norm: float = 2.0
    validate_every: int = 2400
    bf16: bool = True
    drill: int = 384
    all_colours: bool = False

    @property
    def steps(self) -> int:
        return -(-self.scenes // self.batch)


class HeatmapRun(SceneRun):
    """One run of a :class:`HeatmapExperiment`; it saves averaged weights to ``last.safetensors``."""

    result = "last.safetensors"

    def __init__(
        self,
        experiment: HeatmapExperiment,
        load_train: Callable[[], Scenes],
        val: Mapping[str, Scenes],
        folder: Path,
        seed: int = 0,
    ) -> None:
        super().__init__(experiment, load_train, val, folder, seed)
        self.experiment = experiment
        self.words = vocabulary()
        torch.manual_seed(seed)
        self.network = HeatmapNetwork(HeatmapNetworkConfig(len(self.words) + 1)).to(memory_format=torch.channels_last)
        groups = parameter_groups(self.network.parameters(), experiment.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=experiment.lr, betas=(0.9, 0.98))
        self.average = AveragedWeights(self.network.state_dict())
        self._resume()

    def rate(self) -> float:
        """Learning rate of the current step: linear warm-up, then a cosine to 0."""
        warm = min(1.0, (self.step + 1) / self.experiment.warmup)
        return self.experiment.lr * warm * (1 + math.cos(math.pi * min(self.step / self.experiment.steps, 1.0))) / 2

    def grounder(self) -> Grounder:
        """A grounder with the averaged weights."""
        network = HeatmapNetwork(self.network.config)
        network.load_state_dict(self.average.weights)
        return Grounder(network.eval().to(memory_format=torch.channels_last), self.words, {})

    def _advance(self) -> tuple[dict[str, float], int]:
        rng = self._rng()
        chosen = rng.choice(len(self._train), self.experiment.batch)
        taught = EVERYTHING if self.experiment.all_colours else TAUGHT
        batch = make_batch(self._train, chosen, self.words, rng, taught)
        loss = losses(self.network.train(), batch, self.experiment.bf16)["total"]
        texts = make_text_batch(self.experiment.drill, self.words, rng, taught)
        loss = loss + meaning_loss(self.network.words(texts.words, texts.step), texts)
        optimizer_step(loss, self.network, [self.optimizer], self.rate(), self.experiment.clip_norm)
        self.average.update(self.network, min(0.995, 1 - 1 / (1 + (self.step + 1) / 4)))
        return {"loss": loss.item()}, self.experiment.batch

    def _validate(self) -> dict[str, dict[str, float]]:
        return {name: validate(self.grounder(), scenes) for name, scenes in self._val.items()}

    def _save(self, figures: Mapping[str, float]) -> None:
        trained = {"experiment": asdict(self.experiment), "scenes_seen": self.done, "figures": figures}
        save(self.folder / "last.safetensors", self.average.weights, self.words, trained)
        super()._save(figures)

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.weights,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = AveragedWeights(state["average"])


def meaning_loss(asked: TextQuery, wanted: SceneBatch | TextBatch) -> Tensor:
    """Cross entropy of the words' meaning."""
    cross = functional.cross_entropy
    return (
        cross(asked.action, wanted.action)
        + cross(asked.steps, wanted.steps)
        + cross(asked.kind.flatten(0, 1), wanted.kind.flatten())
        + cross(asked.colour.flatten(0, 1), wanted.colour.flatten())
    )


def losses(network: HeatmapNetwork, batch: SceneBatch, bf16: bool) -> dict[str, Tensor]:
    """``total`` and its parts."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = network.features(batch.rgb)
    features = features.float()
    asked = network.words(batch.words, batch.step)
    heat = network.heat(features, asked, batch.image)
    place, offset = _heat_losses(heat, batch)
    cross = functional.cross_entropy
    meaning = meaning_loss(asked, batch)
    dense = cross(network.cell_kind(features), batch.labels, torch.tensor(CELL_WEIGHTS))
    dense = dense + cross(network.cell_colour(features), batch.colours, ignore_index=-1)
    return {
        "total": place + 0.02 * offset + 0.5 * meaning + 0.5 * dense,
        "heat": place,
        "meaning": meaning,
        "dense": dense,
    }


def _heat_losses(heat: Tensor, batch: SceneBatch) -> tuple[Tensor, Tensor]:
    """Cross entropy against a small Gaussian at the true point (or "absent"), and error of the local mean in cells."""
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
