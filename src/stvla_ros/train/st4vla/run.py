"""Second stage of ST4VLA: actions under a spatial prompt, and conversations beside them, in one update per step."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from stvla_ros.policy.st4vla.actions import ActionStatistics, filled_in
from stvla_ros.policy.st4vla.checkpoint import St4VlaCheckpoint, St4VlaSpec, save
from stvla_ros.policy.st4vla.heads import Randomness
from stvla_ros.policy.st4vla.inputs import VlmBatch, VlmProcessor
from stvla_ros.policy.st4vla.model import St4Vla
from stvla_ros.train.curves import CurveLog, Panel, draw
from stvla_ros.train.optimization import optimizer_step, parameter_groups
from stvla_ros.train.policy.run import grouped
from stvla_ros.train.run import TrainingRun
from stvla_ros.train.sft.batches import TokenBatch
from stvla_ros.train.sft.run import token_loss
from stvla_ros.train.st4vla.experiments import St4VlaExperiment
from stvla_ros.train.st4vla.samples import ChunkSamples
from stvla_ros.train.st4vla.start import Grounding
from stvla_ros.types import F64

FIELDS = (
    "step", "split", "total", "action", "grounding", "within_1cm", "median_mm", "open_right", "samples_per_s", "rate",
)  # fmt: skip
MAX_VALIDATION_SAMPLES = 128
MAX_VALIDATION_PASSES = 16
"""Validation uses at most so many observations, and forward passes of conversations."""


@dataclass(frozen=True, eq=False)
class ChunkBatch:
    """B action samples.

    Attributes:
        seen: Images and words.
        actions: (B, T, D) float32 normalised.
        counted: (B, T) bool, False for steps that do not count.
        raw: (B, T, D) the actions in their own units.
    """

    seen: VlmBatch
    actions: Tensor
    counted: Tensor
    raw: F64


class ChunkBatches:
    """Draws batches; every task equally often.

    Args:
        samples: To draw from.
        spec: Statistics and prompt.
        processor: Makes the VLM's input.
        device: Where to put batches.
    """

    def __init__(
        self, samples: ChunkSamples, spec: St4VlaSpec, processor: VlmProcessor, device: torch.device | str = "cpu"
    ) -> None:
        self._samples, self._processor, self._device = samples, processor, device
        self._actions = torch.from_numpy(spec.statistics.normalised(samples.actions)).float()
        self._texts = [filled_in(spec.prompt, words) for words in samples.instructions]
        self._tasks = [np.array(rows) for rows in grouped(samples.tasks)]

    def draw(self, size: int, rng: np.random.Generator) -> ChunkBatch:
        """A random batch, drawn with replacement."""
        return self.take(np.array([rng.choice(self._tasks[task]) for task in rng.choice(len(self._tasks), size)]))

    def evenly(self, size: int, max_samples: int) -> Iterator[ChunkBatch]:
        """Evenly spaced samples in batches of at most ``size``; the same ones every time."""
        count = min(max_samples, len(self._samples))
        chosen = np.linspace(0, len(self._samples) - 1, count).astype(int)
        yield from (self.take(part) for part in np.array_split(chosen, math.ceil(count / size)))

    def take(self, indices: np.ndarray) -> ChunkBatch:
        """Samples by index."""
        s = self._samples
        seen = self._processor([[s.images[i]] for i in indices], [self._texts[i] for i in indices])
        actions, counted = self._actions[indices], torch.from_numpy(s.counted[indices])
        return ChunkBatch(seen.to(self._device), actions.to(self._device), counted.to(self._device), s.actions[indices])


def losses(
    model: St4Vla,
    batch: ChunkBatch,
    randomness: Randomness,
    asked: TokenBatch | None,
    weight: float,
    precision: AbstractContextManager[Any] | None = None,
) -> dict[str, Tensor]:
    """The summed loss and its parts.

    Args:
        model: The whole model.
        batch: Action samples.
        randomness: Of the action head's ``draw``.
        asked: Conversations; None: actions alone.
        weight: Of the loss on conversations, which is the mean over answered tokens.
        precision: Of the VLM's forward pass; the action head computes in float32.

    Returns:
        ``total`` = ``action`` + weight * ``grounding``.
    """
    with precision or nullcontext():
        condition = model.condition(batch.seen)
        grounding = None if asked is None else token_loss(model.vlm, asked) / max(asked.learned, 1)
    action = model.expert.action_model.loss(condition.float(), batch.actions, randomness, batch.counted)
    if grounding is None:
        return {"total": action, "action": action.detach()}
    return {"total": action + weight * grounding, "action": action.detach(), "grounding": grounding.detach()}


def make_optimizer(model: St4Vla, experiment: St4VlaExperiment) -> torch.optim.AdamW:
    """AdamW with a rate for each module; norms and biases do not decay."""
    e = experiment
    rates = ((model.vlm, e.lr_vlm), (model.expert.layer_qformer, e.lr_bridge), (model.expert.action_model, e.lr_head))
    groups = [
        {**group, "lr_scale": rate}
        for module, rate in rates
        for group in parameter_groups(module.parameters(), e.weight_decay)
    ]
    return torch.optim.AdamW(groups, lr=e.lr_head, betas=e.betas)


class St4VlaRun(TrainingRun):
    """One run of an :class:`St4VlaExperiment`; it writes the checkpoints ``last`` and ``best``, ``state.pt``, curves.

    Args:
        experiment: Settings.
        start: The initial model, and what is saved with its weights.
        train: Training samples.
        val: Validation samples.
        grounding: Conversations; None: actions alone.
        folder: Where results go.
        device: Where to compute.
        seed: Of batches and noise.

    Raises:
        ConfigError: The folder holds a run with another experiment or other data, or its state is damaged.
    """

    log_every = 10
    result = "last"

    def __init__(
        self,
        experiment: St4VlaExperiment,
        start: St4VlaCheckpoint,
        train: ChunkSamples,
        val: ChunkSamples,
        grounding: Grounding | None,
        folder: Path,
        device: torch.device,
        seed: int = 0,
    ) -> None:
        identity = {
            "experiment": repr(experiment),
            "seed": seed,
            "data": f"{train.fingerprint()} {val.fingerprint()}",
            "grounding": grounding.samples if grounding else "",
            "initial": _checksum(start.model),
        }
        super().__init__(folder, identity, experiment.steps, experiment.validate_every)
        self.experiment, self.start, self.device, self.seed, self.best = experiment, start, device, seed, math.inf
        self._grounding = grounding
        self._train, self._val = (ChunkBatches(s, start.spec, start.processor, device) for s in (train, val))
        self.model = start.model.to(device)
        if experiment.checkpointing:
            vlm = cast(Any, self.model.vlm)
            vlm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.optimizer = make_optimizer(self.model, experiment)
        self._resume()

    def _advance(self) -> tuple[dict[str, float], int]:
        e = self.experiment
        seeds = np.random.SeedSequence((self.seed, self.step)).generate_state(3, np.uint64)
        of_batch, of_noise, of_dropout = (int(seed) for seed in seeds)
        torch.manual_seed(of_dropout)
        batch = self._train.draw(e.batch, np.random.default_rng(of_batch))
        head = self.model.expert.action_model
        randomness = head.draw(batch.actions, torch.Generator(self.device).manual_seed(of_noise))
        asked = None
        if self._grounding:
            passes = self._grounding.train
            asked = passes[self.step % len(passes)].to(self.device)
        self.model.train()
        found = losses(self.model, batch, randomness, asked, e.grounding, self._precision())
        optimizer_step(found["total"], self.model, [self.optimizer], e.rate(self.step), e.clip_norm)
        return {name: value.item() for name, value in found.items()}, e.batch

    def _precision(self) -> AbstractContextManager[Any]:
        if self.experiment.bf16 and self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()

    def _train_figures(self, losses: Mapping[str, float], per_s: float) -> Mapping[str, float]:
        return {**losses, "samples_per_s": per_s, "rate": self.experiment.rate(self.step - 1)}

    @torch.no_grad()
    def _validate(self) -> Mapping[str, Mapping[str, float]]:
        self.model.eval()
        statistics, size = self.start.spec.statistics, self.experiment.batch
        figures = validate(self.model, self._val, statistics, size, self.device, self._precision)
        if self._grounding:
            passes = self._grounding.val
            batches = [passes[i].to(self.device) for i in range(min(len(passes), MAX_VALIDATION_PASSES))]
            with self._precision():
                total = sum(float(token_loss(self.model.vlm, batch)) for batch in batches)
            figures["grounding"] = total / max(sum(batch.learned for batch in batches), 1)
        return {"val": figures}

    def _save(self, figures: Mapping[str, float]) -> None:
        trained = {**self.start.spec.trained, "step": self.step}
        spec = replace(self.start.spec, trained=trained)
        save(self.folder / "last", spec, self.model, self.start.processor)
        if figures["median_mm"] < self.best:
            self.best = figures["median_mm"]
            save(self.folder / "best", spec, self.model, self.start.processor)
        super()._save(figures)

    def _state(self) -> dict[str, Any]:
        return {"best": self.best, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]

    def _curve_log(self) -> CurveLog:
        return CurveLog(self.folder, FIELDS, self.step)

    def _draw(self, path: Path, curves: CurveLog) -> None:
        panels = [
            Panel("action loss", {split: (split, "action") for split in ("train", "val")}),
            Panel("median position error [mm]", {"": ("val", "median_mm")}),
        ]
        if self._grounding:
            panels.append(Panel("loss per answered token", {s: (s, "grounding") for s in ("train", "val")}))
        draw(path, curves, panels)


def validate(
    model: St4Vla,
    batches: ChunkBatches,
    statistics: ActionStatistics,
    size: int,
    device: torch.device,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, float]:
    """The action loss, and errors of the first keypose of sampled chunks; the same noise every time.

    Args:
        model: In evaluation mode.
        batches: Of validation.
        statistics: Of the actions.
        size: Observations per forward pass.
        device: Where to compute.
        precision: Of the VLM's forward pass; the action head computes in float32, as in training.

    Returns:
        ``action`` (loss), ``within_1cm`` (share of positions), ``median_mm``, ``open_right`` (share of gripper states).
    """
    generator, head = torch.Generator(device).manual_seed(0), model.expert.action_model
    lost, errors, right, weights = [], [], [], []
    for batch in batches.evenly(size, MAX_VALIDATION_SAMPLES):
        with precision():
            condition = model.condition(batch.seen).float()
        lost.append(float(head.loss(condition, batch.actions, head.draw(batch.actions, generator), batch.counted)))
        noise = torch.randn(batch.actions.shape, generator=generator, device=device)
        sampled = statistics.raw(head.sample(condition, noise)[:, 0].double().cpu().numpy())
        wanted = batch.raw[:, 0]
        errors.append(np.linalg.norm(sampled[:, :3] - wanted[:, :3], axis=1))
        right.append((sampled[:, -1] > 0.5) == (wanted[:, -1] > 0.5))
        weights.append(len(wanted))
    error = np.concatenate(errors)
    return {
        "action": float(np.average(lost, weights=weights)),
        "within_1cm": float((error < 0.01).mean()),
        "median_mm": float(1e3 * np.median(error)),
        "open_right": float(np.concatenate(right).mean()),
    }


def _checksum(model: torch.nn.Module) -> str:
    """Of all weights; a resumed run recognises what it began with."""
    found = 0
    for weight in model.state_dict().values():
        found = zlib.crc32(weight.detach().cpu().float().contiguous().numpy().tobytes(), found)
    return f"{found:08x}"
