"""Training of the nano Qwen3-VL, all of it in this file: batch, loss, step, validate, save, go on.

Pointing first, with supervised attention; then all kinds of questions. Learned together from the start, paths never
ground: 4 of the 16 numbers of a path name things, and the easy rest hides that (docs/planners.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stvla_ros.config import ConfigError
from stvla_ros.planning.nano.architecture import MERGE, network, save
from stvla_ros.planning.nano.tokens import PAD, tokenizer
from stvla_ros.train.planner.nano_batch import Batch, Batches
from stvla_ros.train.planner.nano_loss import Showing, looking_loss, number_loss, watched
from stvla_ros.train.planner.nano_validation import validate
from stvla_ros.train.planner.packing import Packed, Packer
from stvla_ros.train.planner.pilot_curves import Moment, PilotCurves
from stvla_ros.train.planner.shards import Scenes

LOG_EVERY = 10


@dataclass(frozen=True)
class NanoExperiment:
    """What decides a run.

    Attributes:
        scenes: To be seen in all.
        pointing: So many of them with pointing questions only, first.
        batch: Scenes per step.
        lr: Highest learning rate of AdamW; falls along a cosine within each of the two parts.
        weight_decay: Of weight matrices.
        warmup: Steps of rising learning rate, in each part.
        clip_norm: Largest norm of the gradient.
        looking: Weight of the attention's loss.
        showing: Weight of the loss of what image tokens show.
        validate_every: Scenes between validations, each of which leaves a checkpoint.
        bf16: Forward pass in bfloat16.
    """

    scenes: int = 160_000
    pointing: int = 70_000
    batch: int = 16
    lr: float = 1.5e-3
    weight_decay: float = 0.02
    warmup: int = 80
    clip_norm: float = 1.0
    looking: float = 0.5
    showing: float = 0.5
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
        self.showing = Showing()
        parameters = [*self.network.parameters(), *self.showing.parameters()]
        decays, rest = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
        groups = [{"params": decays, "weight_decay": experiment.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=experiment.lr, betas=(0.9, 0.98))
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        self.curves = PilotCurves(folder, self.step * experiment.batch)

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
                self.curves.add(self.step * e.batch, "train", {"loss": loss, "scenes_per_s": speed})
                figures = self._conclude() if due else None
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
            with watched(model.language_model.layers) as attended:
                hidden = model.language_model(
                    inputs_embeds=embedded, position_ids=p.positions, attention_mask=p.mask, visual_pos_masks=image,
                    deepstack_visual_embeds=seen.deepstack_features, use_cache=False,
                ).last_hidden_state  # fmt: skip
            logits = self.network.lm_head(hidden[p.row, p.before])
            looking = looking_loss(attended, p)
            showing = self.showing.loss(_first_images(tokens, p), batch.kind, batch.colour)
        numbers = number_loss(logits, p)
        total = numbers + self.experiment.looking * looking + self.experiment.showing * showing
        return {"total": total, "numbers": numbers, "looking": looking, "showing": showing}

    def _advance(self) -> float:
        rng = np.random.default_rng([self.seed, self.step])
        pointing_only = self.step * self.experiment.batch < self.experiment.pointing
        batch = self._batches.draw(self._train, self.experiment.batch, pointing_only, rng)
        for group in self.optimizer.param_groups:
            group["lr"] = self.experiment.rate(self.step)
        self.network.train()
        loss = self.losses(batch)["total"]
        if not torch.isfinite(loss):
            raise ConfigError(f"training: the loss is {loss.item()} at step {self.step}: lower the learning rate.")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.experiment.clip_norm)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def _conclude(self) -> dict[str, float]:
        save(self.network, self.tokenizer, self.checkpoint)
        figures: dict[str, float] = {}
        paths = self.step * self.experiment.batch > self.experiment.pointing
        for name, scenes in self._val.items():
            figures = validate(self.checkpoint, scenes, paths)
            self.curves.add(self.step * self.experiment.batch, name, figures)
        state = {
            "experiment": repr(self.experiment),
            "seed": self.seed,
            "step": self.step,
            "network": self.network.state_dict(),
            "showing": self.showing.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        part = self.folder / "state.part"
        torch.save(state, part)
        part.replace(self.folder / "state.pt")
        self.curves.draw(self.folder / "curves.png")
        self._train = self._more()
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
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def _first_images(tokens: Tensor, packed: Packed) -> Tensor:
    """Tokens of each row's first image, without those of depth images."""
    rows = packed.image_row.tolist()
    parts = tokens.split((packed.grid.prod(-1) // MERGE**2).tolist())
    return torch.cat([part for i, part in enumerate(parts) if i == rows.index(rows[i])])
