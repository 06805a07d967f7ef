"""Fine-tuning: batch, loss, step, validation, checkpoints. Any number of processes."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from torch.nn.functional import cross_entropy

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.samples import Sample
from stvla_ros.files import read_json
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint
from stvla_ros.train.curves import CurveLog, LongCurveLog, Panel, draw
from stvla_ros.train.run import TrainingProgress, TrainingRun, read_state, restoring, write_state
from stvla_ros.train.sft.batches import PackedSamples, TokenBatch
from stvla_ros.train.sft.encode import IGNORED
from stvla_ros.train.sft.experiments import SftExperiment
from stvla_ros.train.sft.validation import LiveChat, answer_figures
from stvla_ros.weights import check_finite, read_tensors

MAX_PANELS = 4
"""Validation figures in the picture, in addition to the loss."""

ADAPTER = "adapter"


def learning_rate(experiment: SftExperiment, step: int, steps: int) -> float:
    """Learning rate at a step: linear warm-up, then a cosine to 0."""
    warm = math.ceil(experiment.warmup * steps)
    if step < warm:
        return experiment.lr * (step + 1) / warm
    return experiment.lr * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1))) / 2


def token_loss(model: Any, batch: TokenBatch) -> Tensor:
    """Sum of the cross entropies of all answered tokens; logits are computed only where one comes next."""
    wanted = batch.labels[:, 1:]
    places = (wanted != IGNORED).any(dim=0).nonzero()[:, 0]
    images = {} if batch.pixels is None else {"pixel_values": batch.pixels, "image_grid_thw": batch.grids}
    out = model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False, logits_to_keep=places, **images)
    scores = out.logits.float().flatten(0, 1)
    return cross_entropy(scores, wanted[:, places].flatten(), ignore_index=IGNORED, reduction="sum")


class SftRun(TrainingRun):
    """One fine-tuning in one folder; it writes ``adapter/``, ``best/``, ``checkpoint-N/``, and curves.

    Args:
        accelerator: Processes and precision.
        experiment: Settings.
        checkpoint: The base model, to whose ``model`` the adapter has been added.
        model: The model with the adapter.
        train: Forward passes of this process.
        val: Forward passes of validation, the same for every process.
        asked: Validation samples whose answers are generated and scored.
        folder: Where results go.
        steps: Optimiser steps in all.
        identity: Data and model; a folder never mixes two.
        seed: For dropout.
        workers: Processes that prepare batches; 0: none.

    Raises:
        ConfigError: The folder holds another run.
    """

    log_every = 5

    def __init__(
        self,
        accelerator: Accelerator,
        experiment: SftExperiment,
        checkpoint: Checkpoint,
        model: Any,
        train: PackedSamples,
        val: PackedSamples,
        asked: Sequence[Sample],
        folder: Path,
        steps: int,
        identity: Mapping[str, Any],
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        identity = json.loads(json.dumps({**asdict(experiment), **identity, "steps": steps, "seed": seed}))
        super().__init__(folder, identity, steps, experiment.validate_every, writes=accelerator.is_main_process)
        self._accelerator, self.experiment = accelerator, experiment
        self._train, self._val, self._asked, self._seed, self._workers = train, val, asked, seed, workers
        self.best, self._norm = math.inf, 0.0
        self._chat = LiveChat(checkpoint)
        self._model, self._optimizer = accelerator.prepare(model, _optimizer(model, experiment))
        self._resume()

    @property
    def samples(self) -> str:
        """The number of samples, in words."""
        longer = (
            f", {n} longer than {self.experiment.max_tokens} tokens left out" if (n := self._train.left_out) else ""
        )
        return f"{self._identity['samples']} samples{longer}"

    @property
    def adapted(self) -> Any:
        """The model with the adapter, without the wrappers of several processes."""
        return self._accelerator.unwrap_model(self._model)

    def run(self, on_progress: Callable[[TrainingProgress], None] = lambda _: None) -> None:
        """See :class:`stvla_ros.train.run.TrainingRun`."""
        with closing(self._batches()) as self._passes:
            super().run(on_progress)

    def _batches(self) -> Generator[list[TokenBatch], None, None]:
        """The forward passes of every remaining step; the data repeat if they end earlier."""
        count = self.experiment.accumulate
        order = [i % len(self._train) for i in range(self.step * count, self.steps * count)]
        loader = torch.utils.data.DataLoader(
            self._train, batch_size=None, sampler=order, num_workers=self._workers, pin_memory=torch.cuda.is_available()
        )
        step: list[TokenBatch] = []
        for batch in loader:
            step.append(batch.to(self._accelerator.device))
            if len(step) == count:
                yield step
                step = []

    def _advance(self) -> tuple[dict[str, float], int]:
        """One optimiser step; mean loss per answered token and the number of tokens read, over all processes."""
        a, batches = self._accelerator, next(self._passes)
        torch.manual_seed((self._seed * 1_000_003 + self.step) * 1009 + a.process_index)  # dropout
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.experiment, self.step, self.steps)
        answered = self._total(sum(b.learned for b in batches))
        self._model.train()
        loss = torch.zeros((), device=a.device)
        for batch in batches:
            with a.accumulate(self._model):
                part = token_loss(self._model, batch) / answered
                # undo accelerate's division by the passes of a step, and the averaging over processes
                a.backward(part * len(batches) * a.num_processes)
                if a.sync_gradients:
                    norm = a.clip_grad_norm_(self._model.parameters(), self.experiment.clip_norm)
                    self._norm = float(norm or 0.0)  # DeepSpeed may not know it yet
                self._optimizer.step()
                self._optimizer.zero_grad()
                loss += part.detach()
        tokens = int(self._total(sum(b.ids.numel() for b in batches)))
        return {"loss": float(self._total(loss))}, tokens

    def _total(self, value: float | Tensor) -> Tensor:
        """Sum over all processes."""
        mine = torch.as_tensor(value, dtype=torch.float32, device=self._accelerator.device)
        return self._accelerator.reduce(mine, "sum")

    def _train_figures(self, losses: Mapping[str, float], per_s: float) -> Mapping[str, float]:
        rate = learning_rate(self.experiment, self.step - 1, self.steps)
        return {**losses, "lr": rate, "gradient_norm": self._norm, "tokens_per_s": per_s}

    @torch.no_grad()
    def _validate(self) -> Mapping[str, Mapping[str, float]]:
        """Loss on all validation samples, and scores of answers to some of them; the other processes wait."""
        model = self.adapted.eval()
        total, answered = 0.0, 0
        for i in range(len(self._val)):
            batch = self._val[i].to(self._accelerator.device)
            with self._accelerator.autocast():
                total += float(token_loss(model, batch))
            answered += batch.learned
        return {"val": {"loss": total / max(answered, 1)} | answer_figures(self._chat, self._asked)}

    def _save(self, figures: Mapping[str, float]) -> None:
        """Write ``checkpoint-N``, ``adapter``, and ``best`` if the loss is the lowest; delete old checkpoints."""
        a, folder = self._accelerator, self.folder / f"checkpoint-{self.step:07d}"
        part, loss = folder.with_suffix(".part"), figures.get("loss", math.inf)
        a.wait_for_everyone()
        if a.distributed_type == DistributedType.DEEPSPEED:
            self._model.save_checkpoint(str(part / "deepspeed"), exclude_frozen_parameters=True)
        if a.is_main_process:
            better, self.best = loss < self.best, min(loss, self.best)
            self.adapted.save_pretrained(part / ADAPTER)
            state = {"identity": self._identity, "step": self.step, "best": self.best}
            (part / "state.json").write_text(json.dumps(state, indent=1) + "\n")
            if a.distributed_type != DistributedType.DEEPSPEED:
                write_state(part / "optimizer.pt", self._optimizer.state_dict())
            shutil.rmtree(folder, ignore_errors=True)
            part.replace(folder)
            for name in (ADAPTER, *(["best"] if better else [])):
                _copy(folder / ADAPTER, self.folder / name)
            for old in _checkpoints(self.folder)[: -self.experiment.keep]:
                shutil.rmtree(old)
        a.wait_for_everyone()

    def _load(self) -> None:
        kept = _checkpoints(self.folder)
        if not kept:
            return
        file = kept[-1] / "state.json"
        state = read_json(file)
        if not isinstance(state, dict) or not isinstance(state.get("identity"), dict):
            raise ConfigError(
                f"{file}: not the state of a run: delete {kept[-1]} to resume from the checkpoint before it."
            )
        self._check_identity(state["identity"], "its checkpoint-* folders")
        with restoring(kept[-1]):
            if self._accelerator.distributed_type == DistributedType.DEEPSPEED:
                self._model.load_checkpoint(str(kept[-1] / "deepspeed"), load_module_strict=False)
            else:
                load_adapter(self.adapted, kept[-1] / ADAPTER)
                self._optimizer.load_state_dict(read_state(kept[-1] / "optimizer.pt"))
            self.step, self.best = state["step"], state["best"]

    def _curve_log(self) -> CurveLog:
        return LongCurveLog(self.folder, self.step)

    def _draw(self, path: Path, curves: CurveLog) -> None:
        names = list(dict.fromkeys(row["figure"] for row in curves.rows if row["split"] == "val"))
        panels = [Panel("loss per answered token", {split: (split, "loss") for split in ("train", "val")})]
        panels += [Panel(name, {"": ("val", name)}, log=False) for name in names if name != "loss"][:MAX_PANELS]
        draw(path, curves, panels, size_in=(3.6 * len(panels), 3.4))


def load_adapter(model: Any, folder: Path) -> None:
    """Load saved LoRA weights into a model with an adapter.

    Raises:
        ConfigError: They belong to another model.
    """
    weights, _ = read_tensors(folder / "adapter_model.safetensors")
    check_finite(weights, str(folder))
    if weights.keys() != get_peft_model_state_dict(model).keys():
        raise ConfigError(f"{folder}: the adapter's weights do not fit this model: choose another --output.")
    set_peft_model_state_dict(model, weights)


def _optimizer(model: Any, experiment: SftExperiment) -> torch.optim.AdamW:
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=experiment.lr, betas=experiment.betas, weight_decay=experiment.weight_decay)


def _checkpoints(folder: Path) -> list[Path]:
    """Complete ones, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if (path / "state.json").is_file() and not path.suffix)


def _copy(source: Path, target: Path) -> None:
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
