"""What the runs of both small planners have in common: step, validate, write, go on."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stvla_ros.config import ConfigError
from stvla_ros.train.scenes.curves import Moment, PilotCurves
from stvla_ros.train.scenes.shards import Scenes
from stvla_ros.train.state import read_state, restoring, write_state

LOG_EVERY = 10
"""Steps."""


class PilotExperiment(Protocol):
    """What both recipes have; their own files say what it means."""

    @property
    def scenes(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def clip_norm(self) -> float: ...
    @property
    def validate_every(self) -> int: ...
    @property
    def steps(self) -> int: ...


class PilotRun(ABC):
    """One run in one folder: weights, ``state.pt``, ``curves.csv`` and ``.png``. A subclass makes its parts, then calls :meth:`_begin`.

    Args:
        experiment: What to do.
        train: Gives the training scenes that there are by now; asked again at every validation.
        val: Scenes to judge by, by name; the figures of the last are told, all are written down.
        folder: Where results go; an existing run is taken up again.
        seed: Of weights, batches and wordings.
        writes: Validate and write; off in all but one of several processes.
    """

    def __init__(
        self,
        experiment: PilotExperiment,
        train: Callable[[], Scenes],
        val: Mapping[str, Scenes],
        folder: Path,
        seed: int,
        writes: bool = True,
    ) -> None:
        self._recipe, self._more, self._val, self._train = experiment, train, val, train()
        self.folder, self.seed, self.step, self._writes = folder, seed, 0, writes

    def run(self) -> Iterator[Moment]:
        """Train to the end; interrupted, it loses what came after the last validation."""
        recipe, since, seen, total = self._recipe, time.monotonic(), 0, 0.0
        while self.step < recipe.steps:
            total += self._advance()
            self.step += 1
            seen += recipe.batch
            due = self.scenes_seen % recipe.validate_every < recipe.batch or self.step == recipe.steps
            if self.step % LOG_EVERY == 0 or due:
                speed, loss = seen / (time.monotonic() - since), total * recipe.batch / seen
                self._note("train", {"loss": loss, "scenes_per_s": speed})
                yield Moment(self.scenes_seen, loss, speed, self._conclude() if due else None)
                since, seen, total = time.monotonic(), 0, 0.0

    @property
    def scenes_seen(self) -> int:
        """So far, repeated ones counted again."""
        return self.step * self._recipe.batch

    @abstractmethod
    def _advance(self) -> float:
        """One step of the optimizers; its loss."""

    @abstractmethod
    def _leave(self, val: Mapping[str, Scenes]) -> dict[str, dict[str, float]]:
        """Leave the present weights as planners read them; their figures on each split, in order."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """What :meth:`_restore` needs to go on, besides the step."""

    @abstractmethod
    def _restore(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`_state`."""

    def _descend(
        self,
        loss: Tensor,
        network: nn.Module,
        optimizers: Sequence[Optimizer],
        lr: float,
        between: Callable[[], None] = lambda: None,
    ) -> float:
        """One step; ``between`` is called with the gradients, before they are clipped.

        Raises:
            ConfigError: The loss is not finite.
        """
        if not torch.isfinite(loss):
            raise ConfigError(f"training: the loss is {loss.item()} at step {self.step}: lower the learning rate.")
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = lr
        loss.backward()
        between()
        nn.utils.clip_grad_norm_(network.parameters(), self._recipe.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
        return loss.item()

    def _rng(self, *further: int) -> np.random.Generator:
        """Decides the present step, also after a resume."""
        return np.random.default_rng([self.seed, self.step, *further])

    def _begin(self) -> None:
        """Take up what the folder has.

        Raises:
            ConfigError: It is a run of another experiment.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "state.pt"
        if path.exists():
            state = read_state(path)
            if state.get("experiment") != repr(self._recipe) or state.get("seed") != self.seed:
                raise ConfigError(
                    f"{self.folder}: holds a run with other settings: choose another --output, or delete it."
                )
            with restoring(path):
                self.step = state["step"]
                self._restore(state)
        self.curves = PilotCurves(self.folder, self.scenes_seen) if self._writes else None

    def _note(self, split: str, figures: Mapping[str, float]) -> None:
        if self.curves:
            self.curves.add(self.scenes_seen, split, figures)

    def _conclude(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        if self.curves:
            for name, figures in self._leave(self._val).items():
                self._note(name, figures)
            state = {"experiment": repr(self._recipe), "seed": self.seed, "step": self.step, **self._state()}
            write_state(self.folder / "state.pt", state)
            self.curves.draw(self.folder / "curves.png")
        self._train = self._more()
        return figures
