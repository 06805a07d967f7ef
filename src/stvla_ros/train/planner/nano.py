"""Training of the nano Qwen3-VL, all of it in this file: batch, loss, step, validate, save, go on.

Pointing first, with supervised attention; then all kinds of questions. Learned together from the start, paths never
ground: 4 of the 16 numbers of a path name things, and the easy rest hides that (docs/planners.md).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stvla_ros.config import ConfigError
from stvla_ros.planning.nano.architecture import MERGE, network, save
from stvla_ros.planning.nano.tokens import NUMBERS, PAD, tokenizer
from stvla_ros.train.planner.nano_attention import looking_loss, use
from stvla_ros.train.planner.nano_batch import Batch, Batches
from stvla_ros.train.planner.nano_loss import Showing, number_loss
from stvla_ros.train.planner.nano_validation import validate
from stvla_ros.train.planner.packing import Packed, Packer
from stvla_ros.train.planner.pilot_curves import Moment, PilotCurves
from stvla_ros.train.planner.shards import Scenes
from stvla_ros.train.planner.shared import Shared

LOG_EVERY = 10


@dataclass(frozen=True)
class NanoExperiment:
    """What decides a run.

    Attributes:
        scenes: To be seen in all.
        pointing: So many of them with pointing questions only, first.
        batch: Scenes per step.
        lr: Highest learning rate; falls along a cosine within each of the two parts.
        weight_decay: Of weight matrices.
        warmup: Steps of rising learning rate, in each part.
        clip_norm: Largest norm of the gradient.
        looking: Weight of the attention's loss.
        showing: Weight of the loss of what image tokens show.
        placing: Weight of the loss of where the thing is that they show.
        validate_every: Scenes between validations, each of which leaves a checkpoint.
        bf16: Forward pass in bfloat16.
    """

    scenes: int = 160_000
    pointing: int = 70_000
    batch: int = 16
    lr: float = 3e-3
    weight_decay: float = 0.02
    warmup: int = 80
    clip_norm: float = 1.0
    looking: float = 0.5
    showing: float = 0.5
    placing: float = 1.0
    validate_every: int = 2400
    bf16: bool = True

    @property
    def steps(self) -> int:
        return -(-self.scenes // self.batch)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        turn = self.pointing // self.batch
        begin, end = (0, min(turn, self.steps)) if step < turn else (turn, self.steps)
        done = (step - begin) / max(end - begin, 1)
        warm = min(1.0, (step - begin + 1) / self.warmup)
        return self.lr * warm * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)


class NanoRun:
    """One run in one folder: a checkpoint in ``model/``, ``state.pt``, ``curves.csv`` and ``.png``.

    Started by ``torchrun``, the processes share every batch; the first one validates and writes.

    Args:
        experiment: What to do.
        train: Gives the training scenes that there are by now; asked again at every validation.
        val: Scenes to judge by, by name.
        folder: Where results go; an existing run is taken up again.
        seed: Of weights, batches and wordings.

    Raises:
        ConfigError: The folder holds a run of another experiment.
    """

    def __init__(
        self,
        experiment: NanoExperiment,
        train: Callable[[], Scenes],
        val: Mapping[str, Scenes],
        folder: Path,
        seed: int = 0,
    ) -> None:
        self.experiment, self.folder, self.seed, self.step = experiment, folder, seed, 0
        self._more, self._val, self._train = train, val, train()
        self.tokenizer = tokenizer()
        self._batches = Batches(Packer(self.tokenizer), int(self.tokenizer.convert_tokens_to_ids(PAD)))
        self.network = network(self.tokenizer, seed)
        use(self.network)
        self.showing = Showing()
        self.optimizers = _optimizers(self.network, self.showing, experiment)
        self._shared = Shared([*self.network.parameters(), *self.showing.parameters()])
        self.is_first = self._shared.rank == 0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        self.curves = PilotCurves(folder, self.step * experiment.batch) if self.is_first else None

    @property
    def checkpoint(self) -> Path:
        """For the setting ``model`` of the planner ``qwen3_vl``."""
        return self.folder / "model"

    def run(self) -> Iterator[Moment]:
        """Train to the end; interrupted, it loses what came after the last validation."""
        e, since, seen, total = self.experiment, time.monotonic(), 0, 0.0
        while self.step < e.steps:
            total += self._advance()
            seen += e.batch
            due = self.step * e.batch % e.validate_every < e.batch or self.step == e.steps
            if self.step % LOG_EVERY == 0 or due:
                speed, loss = seen / (time.monotonic() - since), total * e.batch / seen
                if self.curves:
                    self.curves.add(self.step * e.batch, "train", {"loss": loss, "scenes_per_s": speed})
                figures = self._conclude(self.curves) if due and self.curves else None
                self._train = self._more() if due else self._train
                yield Moment(self.step * e.batch, loss, speed, figures)
                since, seen, total = time.monotonic(), 0, 0.0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """``total`` and its parts."""
        p, model = batch.packed, self.network.model
        with torch.autocast("cpu", torch.bfloat16, enabled=self.experiment.bf16):
            seen = model.visual(p.pixels, grid_thw=p.grid)
            tokens = seen.pooler_output
            image = p.ids == self.network.config.image_token_id
            embedded = model.language_model.embed_tokens(p.ids)
            embedded = embedded.masked_scatter(image[..., None], tokens.to(embedded.dtype))
            hidden = model.language_model(
                inputs_embeds=embedded, position_ids=p.positions, attention_mask=p.mask, visual_pos_masks=image,
                deepstack_visual_embeds=seen.deepstack_features, use_cache=False,
            ).last_hidden_state  # fmt: skip
            logits = self.network.lm_head(hidden[p.row, p.before])
            shown = _first_images(tokens, p)
            showing = self.showing.loss(shown, batch.kind, batch.colour)
            placing = self.showing.pointing_loss(shown, batch.uv, self.network.lm_head.weight[:NUMBERS])
        parts = {"numbers": number_loss(logits, p), "looking": looking_loss(self.network, p, batch.thing)}
        parts |= {"showing": showing, "placing": placing}
        e = self.experiment
        weights = {"numbers": 1.0, "looking": e.looking, "showing": e.showing, "placing": e.placing}
        return {"total": torch.stack([weights[name] * part for name, part in parts.items()]).sum(), **parts}

    def _advance(self) -> float:
        rng = np.random.default_rng([self.seed, self.step, self._shared.rank])
        pointing_only = self.step * self.experiment.batch < self.experiment.pointing
        batch = self._batches.draw(self._train, self.experiment.batch // self._shared.count, pointing_only, rng)
        for group in (g for o in self.optimizers for g in o.param_groups):
            group["lr"] = self.experiment.rate(self.step)
        self.network.train()
        loss = self.losses(batch)["total"]
        if not torch.isfinite(loss):
            raise ConfigError(f"training: the loss is {loss.item()} at step {self.step}: lower the learning rate.")
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._shared.average_gradients()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.experiment.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return loss.item()

    def _conclude(self, curves: PilotCurves) -> dict[str, float]:
        save(self.network, self.tokenizer, self.checkpoint)
        figures: dict[str, float] = {}
        paths = self.step * self.experiment.batch > self.experiment.pointing
        for name, scenes in self._val.items():
            figures = validate(self.checkpoint, scenes, paths)
            curves.add(self.step * self.experiment.batch, name, figures)
        state = {
            "experiment": repr(self.experiment),
            "seed": self.seed,
            "step": self.step,
            "network": self.network.state_dict(),
            "showing": self.showing.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        part = self.folder / "state.part"
        torch.save(state, part)
        part.replace(self.folder / "state.pt")
        curves.draw(self.folder / "curves.png")
        return figures

    def _resume(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["experiment"] != repr(self.experiment) or state["seed"] != self.seed:
            raise ConfigError(f"{self.folder}: holds a run with other settings: choose another --output, or delete it.")
        self.network.load_state_dict(state["network"])
        self.showing.load_state_dict(state["showing"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step = state["step"]


def _optimizers(network: nn.Module, showing: nn.Module, experiment: NanoExperiment) -> tuple[Optimizer, Optimizer]:
    """Muon for the matrices of both towers, which needs two thirds of the scenes that AdamW does; AdamW for the rest."""
    named = [*network.named_parameters(), *showing.named_parameters()]
    inner = [p for name, p in named if p.dim() == 2 and re.search(r"blocks|layers|merger", name)]
    outer = [p for _, p in named if all(p is not other for other in inner)]
    groups = [
        {"params": [p for p in outer if p.dim() > 1], "weight_decay": experiment.weight_decay},
        {"params": [p for p in outer if p.dim() <= 1], "weight_decay": 0.0},
    ]
    muon = torch.optim.Muon(inner, weight_decay=experiment.weight_decay, adjust_lr_fn="match_rms_adamw")
    return muon, torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _first_images(tokens: Tensor, packed: Packed) -> Tensor:
    """Tokens of each row's first image, without those of depth images."""
    rows = packed.image_row.tolist()
    parts = tokens.split((packed.grid.prod(-1) // MERGE**2).tolist())
    return torch.cat([part for i, part in enumerate(parts) if i == rows.index(rows[i])])
