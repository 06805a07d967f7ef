"""Training of the query-heatmap network: step, validate, save, go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stvla_ros.config import ConfigError
from stvla_ros.data.splits import SEEN
from stvla_ros.planning.heatmap.network import HeatmapNetwork, NetworkConfig
from stvla_ros.planning.heatmap.weights_file import Grounder, save
from stvla_ros.planning.heatmap.words import PALETTE, vocabulary
from stvla_ros.train.planner.heatmap_batch import make_batch, make_drill
from stvla_ros.train.planner.heatmap_loss import losses, meaning_loss
from stvla_ros.train.planner.pilot_curves import Moment, PilotCurves
from stvla_ros.train.planner.shards import Scenes
from stvla_ros.train.planner.validation import validate

LOG_EVERY = 10


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
        all_colours: Made-up tasks name all colours: for weights that are to be used; the split ``unseen`` then measures
            nothing any more.
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
        colours = PALETTE if self.experiment.all_colours else SEEN
        batch = make_batch(self._train, chosen, self.words, rng, colours)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        loss = losses(self.network.train(), batch, self.experiment.bf16)["total"]
        texts = make_drill(self.experiment.drill, self.words, rng, colours)
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
        trained: dict[str, Any] = {
            "experiment": asdict(self.experiment),
            "scenes_seen": self.step * self.experiment.batch,
        }
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
