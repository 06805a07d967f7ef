"""The training loop, whatever is trained: step, log, validate, save, resume."""

from __future__ import annotations

import io
import math
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from stvla_ros.config import ConfigError
from stvla_ros.files import said, setting, written
from stvla_ros.policy.checkpoint.torch_file import read_torch_file
from stvla_ros.train.curves import CurveLog

STATE = "state.pt"
KEPT = "checkpoints"
"""Folder of the results that a run keeps, named by their count."""
ANEW = "Delete it to begin anew."


@dataclass(frozen=True)
class TrainingProgress:
    """What a progress bar shows.

    Attributes:
        done: Steps, or scenes for the small planners.
        loss: Mean since the last report.
        per_s: Samples, scenes or tokens per second.
        validation: Figures, where the run has just validated; empty otherwise.
    """

    done: int
    loss: float
    per_s: float
    validation: Mapping[str, float]


class TrainingRun(ABC):
    """One run in one folder. It validates now and then, and every validation leaves a checkpoint to resume from.

    A subclass builds its networks and optimisers, then calls :meth:`_resume`.

    Args:
        folder: Where results go; a run that it holds already is resumed.
        identity: All that decides the run: a folder never mixes two.
        steps: Optimiser steps.
        validate_every: ``done`` between validations; the last step is followed by one too.
        stride: ``done`` per step.
        writes: False in all but one of several processes: only that one validates and writes.

    Attributes:
        keep: Keep the result of every validation, below :data:`KEPT`.
    """

    log_every: ClassVar[int]
    """Steps between rows in the curves."""

    result: ClassVar[str] = ""
    """File or folder with the newest weights; empty if the run names its checkpoints itself."""

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        steps: int,
        validate_every: int,
        stride: int = 1,
        writes: bool = True,
    ) -> None:
        self.folder, self.steps, self.step = folder, steps, 0
        self._identity, self._validate_every, self._stride, self._writes = identity, validate_every, stride, writes
        self.curves: CurveLog | None = None
        self.keep = False

    @property
    def done(self) -> int:
        """Steps, or what else the run counts."""
        return self.step * self._stride

    def run(self, on_progress: Callable[[TrainingProgress], None] = lambda _: None) -> None:
        """Train to the end. An interrupted run loses what came after its last validation.

        Raises:
            ConfigError: The loss is not finite, or a file cannot be written.
        """
        since, read, losses = time.monotonic(), 0, []
        while self.step < self.steps:
            loss, count = self._advance()
            total = next(iter(loss.values()))
            if not math.isfinite(total):
                raise ConfigError(f"training: the loss is {total} at step {self.step}: lower the learning rate.")
            self.step += 1
            losses.append(loss)
            read += count
            due = self.done % self._validate_every < self._stride or self.step == self.steps
            if due or self.step % self.log_every == 0:
                mean = {name: sum(loss[name] for loss in losses) / len(losses) for name in losses[0]}
                per_s = read / (time.monotonic() - since)
                self._log("train", self._train_figures(mean, per_s))
                validation = self._validate_and_save() if due else {}
                on_progress(TrainingProgress(self.done, next(iter(mean.values())), per_s, validation))
                since, read, losses = time.monotonic(), 0, []

    @abstractmethod
    def _advance(self) -> tuple[Mapping[str, float], int]:
        """One optimiser step: its losses, of which the first is minimised, and how much it has read."""

    @abstractmethod
    def _train_figures(self, losses: Mapping[str, float], per_s: float) -> Mapping[str, float]:
        """The curves' row for training, from mean losses and speed."""

    @abstractmethod
    def _validate(self) -> Mapping[str, Mapping[str, float]]:
        """Figures by split; those of the last split are shown."""

    @abstractmethod
    def _curve_log(self) -> CurveLog:
        """A log of this run's figures, up to what is done."""

    @abstractmethod
    def _draw(self, path: Path, curves: CurveLog) -> None:
        """Draw the curves."""

    def _log(self, split: str, figures: Mapping[str, float]) -> None:
        if self.curves:
            self.curves.add(self.done, split, figures)

    def _validate_and_save(self) -> Mapping[str, float]:
        figures: Mapping[str, float] = {}
        for split, figures in (self._validate() if self._writes else {}).items():
            self._log(split, figures)
        self._save(figures)
        if self.keep and self._writes:
            self._keep()
        if self.curves:
            self._draw(self.folder / "curves.png", self.curves)
        return figures

    def _state(self) -> dict[str, Any]:
        """What ``state.pt`` holds besides the step. A run with other checkpoints overrides _save and _load."""
        raise NotImplementedError

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Undo :meth:`_state`."""
        raise NotImplementedError

    def _save(self, figures: Mapping[str, float]) -> None:
        """Leave a checkpoint; ``figures`` are those of the validation."""
        if self._writes:
            write_state(self.folder / STATE, {**self._identity, "step": self.step, **self._state()})

    def _keep(self) -> None:
        """Copy the newest weights; a copy that is there already is replaced."""
        source = self.folder / self.result
        target = self.folder / KEPT / f"{self.done:08d}{source.suffix}"
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
            return
        with written(target) as part:
            shutil.copyfile(source, part)

    def _resume(self) -> None:
        """Go on from the folder's checkpoint, if there is one.

        Raises:
            ConfigError: It is of another run, or damaged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._load()
        self.curves = self._curve_log() if self._writes else None

    def _load(self) -> None:
        path = self.folder / STATE
        if not path.exists():
            return
        state = read_state(path)
        self._check_identity({name: state.get(name) for name in self._identity}, STATE)
        with restoring(path):
            self._restore(state)
            self.step = state["step"]

    def _check_identity(self, found: Mapping[str, Any], checkpoint: str) -> None:
        names = sorted({*found, *self._identity})
        differing = [name for name in names if found.get(name) != self._identity.get(name)]
        if differing:
            raise ConfigError(
                f"{self.folder}: holds a run with other settings ({', '.join(differing)}): choose another --output, or "
                f"delete {checkpoint} to begin anew."
            )


def read_state(path: Path) -> Mapping[str, Any]:
    """Read what :func:`write_state` wrote, to the CPU.

    Raises:
        ConfigError: The file is damaged, or something else.
    """
    with setting("", ANEW):
        return read_torch_file(path)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write plain values and tensors, completely or not at all.

    Raises:
        ConfigError: The disk is full, or writing is not permitted.
    """
    content = io.BytesIO()  # PyTorch's own writer does not report a full disk
    torch.save(dict(state), content)
    with written(path) as part:
        part.write_bytes(content.getbuffer())


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Context in which a state is loaded into networks and optimisers.

    Raises:
        ConfigError: The state is incomplete, or belongs to another network.
    """
    try:
        yield
    except ConfigError:
        raise
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged, or of another network ({said(error)}). {ANEW}") from error
