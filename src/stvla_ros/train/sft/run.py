"""The loop of a fine-tuning, all of it in this file: batch, loss, step, validate, keep, go on. Any number of processes."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from torch.nn.functional import cross_entropy

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human import Sample
from stvla_ros.files import read_json
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint
from stvla_ros.train.sft.batches import Packs
from stvla_ros.train.sft.curves import SftCurves
from stvla_ros.train.sft.encode import IGNORED
from stvla_ros.train.sft.experiments import SftExperiment
from stvla_ros.train.sft.packing import Batch
from stvla_ros.train.sft.validation import LiveChat, answer_figures
from stvla_ros.train.state import read_state, restoring, write_state
from stvla_ros.weights import check_finite, read_tensors

LOG_EVERY = 5
ADAPTER = "adapter"


@dataclass(frozen=True)
class Moment:
    """What a progress bar shows."""

    step: int
    loss: float
    tokens_per_s: float
    validation: Mapping[str, float] | None = None


def learning_rate(experiment: SftExperiment, step: int, steps: int) -> float:
    """Rate at a step: linear warm-up, then along a cosine to 0."""
    warm = math.ceil(experiment.warmup * steps)
    if step < warm:
        return experiment.lr * (step + 1) / warm
    return experiment.lr * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1))) / 2


def token_loss(model: Any, batch: Batch) -> Tensor:
    """Sum of the cross entropies of all answered tokens; only where one comes next are scores made."""
    wanted = batch.labels[:, 1:]
    places = (wanted != IGNORED).any(dim=0).nonzero()[:, 0]
    images = {} if batch.pixels is None else {"pixel_values": batch.pixels, "image_grid_thw": batch.grids}
    out = model(input_ids=batch.ids, position_ids=batch.positions, use_cache=False, logits_to_keep=places, **images)
    scores = out.logits.float().flatten(0, 1)
    return cross_entropy(scores, wanted[:, places].flatten(), ignore_index=IGNORED, reduction="sum")


class SftRun:
    """One fine-tuning in one folder: ``adapter/``, ``best/``, ``checkpoint-N/``, ``curves.csv``, ``curves.png``.

    Args:
        accelerator: Processes and precision.
        experiment: What to do.
        checkpoint: The base model, whose ``model`` the adapter has been put into.
        model: The adapted model.
        train: Forward passes of this process.
        val: Those of validation, the same for every process.
        asked: Validation samples whose answers are looked at.
        folder: Where results go.
        steps: Optimiser steps in all.
        identity: Names data and model; a folder never mixes two.
        seed: Of dropout.
        workers: Processes that make batches beforehand; 0: none.

    Raises:
        ConfigError: The folder holds another run.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        experiment: SftExperiment,
        checkpoint: Checkpoint,
        model: Any,
        train: Packs,
        val: Packs,
        asked: Sequence[Sample],
        folder: Path,
        steps: int,
        identity: Mapping[str, Any],
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        self._accelerator, self.experiment, self.folder, self.steps = accelerator, experiment, folder, steps
        self._train, self._val, self._asked, self._seed, self._workers = train, val, asked, seed, workers
        self._identity = json.loads(json.dumps({**asdict(experiment), **identity, "steps": steps, "seed": seed}))
        self.step, self.best, self._norm = 0, math.inf, 0.0
        self._chat = LiveChat(checkpoint)
        self._model, self._optimizer = accelerator.prepare(model, _optimizer(model, experiment))
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        self.curves = SftCurves(folder, self.step) if accelerator.is_main_process else None

    @property
    def samples(self) -> str:
        """How much there is to learn from, for people."""
        longer = (
            f", {n} longer than {self.experiment.max_tokens} tokens left out" if (n := self._train.left_out) else ""
        )
        return f"{self._identity['samples']} samples{longer}"

    @property
    def adapted(self) -> Any:
        """The adapted model, without what several processes wrap around it."""
        return self._accelerator.unwrap_model(self._model)

    def run(self, tell: Callable[[Moment], None] = lambda _: None) -> None:
        """Train to the end. Interrupted, it loses what came after the last checkpoint; start it again to go on."""
        e = self.experiment
        since, seen, losses = time.monotonic(), 0, []
        for batches in self._batches():
            loss, tokens = self._advance(batches)
            losses.append(loss)
            seen += tokens
            due = self.step % e.validate_every == 0 or self.step == self.steps
            if due or self.step % LOG_EVERY == 0:
                mean, speed = sum(losses) / len(losses), seen / (time.monotonic() - since)
                rate = learning_rate(e, self.step - 1, self.steps)
                self._note("train", {"loss": mean, "lr": rate, "gradient_norm": self._norm, "tokens_per_s": speed})
                tell(Moment(self.step, mean, speed, self._conclude() if due else None))
                since, seen, losses = time.monotonic(), 0, []

    def _batches(self) -> Iterator[list[Batch]]:
        """The forward passes of every step that is left; data that end before the steps begin again."""
        count = self.experiment.accumulate
        order = [i % len(self._train) for i in range(self.step * count, self.steps * count)]
        loader = torch.utils.data.DataLoader(
            self._train, batch_size=None, sampler=order, num_workers=self._workers, pin_memory=torch.cuda.is_available()
        )
        step: list[Batch] = []
        for batch in loader:
            step.append(batch.to(self._accelerator.device))
            if len(step) == count:
                yield step
                step = []

    def _advance(self, batches: list[Batch]) -> tuple[float, int]:
        """One optimiser step; mean loss per answered token and the number of tokens read, over all processes."""
        a = self._accelerator
        torch.manual_seed((self._seed * 1_000_003 + self.step) * 1009 + a.process_index)  # dropout
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self.experiment, self.step, self.steps)
        answered = self._total(sum(b.learned for b in batches))
        self._model.train()
        loss = torch.zeros((), device=a.device)
        for batch in batches:
            with a.accumulate(self._model):
                part = token_loss(self._model, batch) / answered
                # accelerate divides by the passes of a step, and processes average their gradients: both undone here
                a.backward(part * len(batches) * a.num_processes)
                if a.sync_gradients:
                    norm = a.clip_grad_norm_(self._model.parameters(), self.experiment.clip_norm)
                    self._norm = float(norm or 0.0)  # DeepSpeed may not know it yet
                self._optimizer.step()
                self._optimizer.zero_grad()
                loss += part.detach()
        mean = float(self._total(loss))
        if not math.isfinite(mean):
            raise ConfigError(f"sft: the loss is {mean} at step {self.step}: lower the learning rate.")
        self.step += 1
        return mean, int(self._total(sum(b.ids.numel() for b in batches)))

    def _total(self, value: float | Tensor) -> Tensor:
        """Sum over all processes."""
        mine = torch.as_tensor(value, dtype=torch.float32, device=self._accelerator.device)
        return self._accelerator.reduce(mine, "sum")

    def _conclude(self) -> dict[str, float]:
        """Validate, keep a checkpoint, draw; the other processes wait."""
        figures = self._figures() if self._accelerator.is_main_process else {}
        self._note("val", figures)
        self._accelerator.wait_for_everyone()
        self._keep(figures.get("loss", math.inf))
        if self.curves:
            self.curves.draw()
        return figures

    @torch.no_grad()
    def _figures(self) -> dict[str, float]:
        """Loss on all validation samples, and what is answered to some of them."""
        model = self.adapted.eval()
        total, answered = 0.0, 0
        for i in range(len(self._val)):
            batch = self._val[i].to(self._accelerator.device)
            with self._accelerator.autocast():
                total += float(token_loss(model, batch))
            answered += batch.learned
        return {"loss": total / max(answered, 1)} | answer_figures(self._chat, self._asked)

    def _note(self, split: str, figures: Mapping[str, float]) -> None:
        if self.curves:
            self.curves.add(self.step, split, figures)

    def _keep(self, loss: float) -> None:
        """Write ``checkpoint-N`` and ``adapter``, and ``best`` where it is the best; old checkpoints go."""
        a, folder = self._accelerator, self.folder / f"checkpoint-{self.step:07d}"
        part = folder.with_suffix(".part")
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

    def _resume(self) -> None:
        kept = _checkpoints(self.folder)
        if not kept:
            return
        file = kept[-1] / "state.json"
        state = read_json(file)
        if not isinstance(state, dict) or not isinstance(state.get("identity"), dict):
            raise ConfigError(
                f"{file}: not the state of a run: delete {kept[-1]} to go on from the checkpoint before it."
            )
        if state["identity"] != self._identity:
            differing = sorted(
                k for k in {*state["identity"], *self._identity} if state["identity"].get(k) != self._identity.get(k)
            )
            raise ConfigError(
                f"{self.folder}: holds a run with other settings ({', '.join(differing)}): choose another --output or delete it."
            )
        with restoring(kept[-1]):
            if self._accelerator.distributed_type == DistributedType.DEEPSPEED:
                self._model.load_checkpoint(str(kept[-1] / "deepspeed"), load_module_strict=False)
            else:
                load_adapter(self.adapted, kept[-1] / ADAPTER)
                self._optimizer.load_state_dict(read_state(kept[-1] / "optimizer.pt"))
            self.step, self.best = state["step"], state["best"]


def load_adapter(model: Any, folder: Path) -> None:
    """Put saved LoRA weights into an adapted model.

    Raises:
        ConfigError: They are of another model.
    """
    weights, _ = read_tensors(folder / "adapter_model.safetensors")
    check_finite(weights, str(folder))
    if weights.keys() != get_peft_model_state_dict(model).keys():
        raise ConfigError(f"{folder}: the adapter's weights are not those of this model: choose another --output.")
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
