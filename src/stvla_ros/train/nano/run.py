"""Training of the nano Qwen3-VL: settings, losses, optimizers, run.

First only pointing, with supervised attention, then all questions. When all are learned together from the start, the
model never grounds paths: only 4 of a path's 16 numbers depend on objects, and the easy rest hides it
(docs/planners.md).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from stvla_ros.config import ConfigError
from stvla_ros.planning.nano.architecture import MERGE, network, save
from stvla_ros.planning.nano.tokens import NUMBERS, PAD, tokenizer
from stvla_ros.train.nano.batch import PackedBatch, PackedBatches
from stvla_ros.train.nano.loss import DenseHead, attention_loss, number_loss, use_attention
from stvla_ros.train.nano.packing import Packed, Packer
from stvla_ros.train.nano.validation import validate
from stvla_ros.train.optimization import optimizer_step, parameter_groups
from stvla_ros.train.scenes.run import SceneRun
from stvla_ros.train.scenes.shards import Scenes


@dataclass(frozen=True)
class NanoExperiment:
    """Settings of a run.

    Attributes:
        scenes: Scenes in all, repeated ones counted again.
        pointing: The first so many have pointing questions only.
        batch: Scenes per step.
        lr: Highest learning rate; it falls along a cosine within each of the two parts.
        weight_decay: Of weight matrices.
        warmup: Steps in which the learning rate rises, in each part.
        clip_norm: Largest norm of the gradient.
        looking: Weight of the loss on attention.
        showing: Weight of the loss on what image tokens show.
        placing: Weight of the loss on the position of the object that they show.
        validate_every: Scenes between validations, each of which leaves a checkpoint.
        bf16: Forward pass in bfloat16.
    """

    scenes: int = 60_000
    pointing: int = 24_000
    batch: int = 24
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


class NanoRun(SceneRun):
    """One run of a :class:`NanoExperiment`; it saves the model to ``model/``.

    Under ``torchrun`` the processes share every batch; the first one validates and writes.
    """

    result = "model"

    def __init__(
        self,
        experiment: NanoExperiment,
        load_train: Callable[[], Scenes],
        val: Mapping[str, Scenes],
        folder: Path,
        seed: int = 0,
    ) -> None:
        self._processes = Processes()
        if experiment.batch % self._processes.count:
            raise ConfigError(
                f"{self._processes.count} processes cannot share a batch of {experiment.batch} scenes evenly: "
                "start fewer."
            )
        super().__init__(experiment, load_train, val, folder, seed, writes=self._processes.rank == 0)
        self.experiment = experiment
        self.tokenizer = tokenizer()
        self._batches = PackedBatches(Packer(self.tokenizer), int(self.tokenizer.convert_tokens_to_ids(PAD)))
        self.network = network(self.tokenizer, seed)
        use_attention(self.network)
        self.showing = DenseHead()
        self.optimizers = _optimizers(self.network, self.showing, experiment)
        self._resume()

    @property
    def checkpoint(self) -> Path:
        """Value for the setting ``model`` of the planner ``qwen3_vl``."""
        return self.folder / "model"

    def losses(self, batch: PackedBatch) -> dict[str, Tensor]:
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
        parts = {"numbers": number_loss(logits, p), "looking": attention_loss(self.network, p, batch.object_index)}
        parts |= {"showing": showing, "placing": placing}
        e = self.experiment
        weights = {"numbers": 1.0, "looking": e.looking, "showing": e.showing, "placing": e.placing}
        return {"total": torch.stack([weights[name] * part for name, part in parts.items()]).sum(), **parts}

    def _advance(self) -> tuple[dict[str, float], int]:
        e = self.experiment
        size, pointing_only = e.batch // self._processes.count, self.done < e.pointing
        batch = self._batches.draw(self._train, size, pointing_only, self._rng(self._processes.rank))
        self.network.train()
        loss = self.losses(batch)["total"]
        everything = [*self.network.parameters(), *self.showing.parameters()]
        average = partial(self._processes.average_gradients, everything)
        optimizer_step(loss, self.network, self.optimizers, e.rate(self.step), e.clip_norm, average)
        return {"loss": loss.item()}, e.batch

    def _validate(self) -> dict[str, dict[str, float]]:
        save(self.network, self.tokenizer, self.checkpoint)
        paths = self.done > self.experiment.pointing
        return {name: validate(self.checkpoint, scenes, paths) for name, scenes in self._val.items()}

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "showing": self.showing.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.showing.load_state_dict(state["showing"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)


class Processes:
    """The processes of a run; one without ``torchrun``.

    Attributes:
        rank: Number of this process; process 0 writes.
        count: How many there are.
    """

    def __init__(self) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
            distributed.init_process_group("gloo")
        together = distributed.is_initialized()
        self.rank = distributed.get_rank() if together else 0
        self.count = distributed.get_world_size() if together else 1

    def average_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Replace gradients by their mean over all processes; a missing gradient counts as zero."""
        if self.count == 1:
            return
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        distributed.all_reduce(flat)
        for p, mean in zip(parameters, flat.div_(self.count).split([p.numel() for p in parameters]), strict=True):
            p.grad = mean.view_as(p)


def _optimizers(network: nn.Module, showing: nn.Module, experiment: NanoExperiment) -> tuple[Optimizer, Optimizer]:
    """Muon for the matrices of both towers, where it needs two thirds of AdamW's scenes; AdamW for the rest."""
    named = [*network.named_parameters(), *showing.named_parameters()]
    inner = [p for name, p in named if p.dim() == 2 and re.search(r"blocks|layers|merger", name)]
    outer = [p for _, p in named if all(p is not other for other in inner)]
    muon = torch.optim.Muon(inner, weight_decay=experiment.weight_decay, adjust_lr_fn="match_rms_adamw")
    return muon, torch.optim.AdamW(parameter_groups(outer, experiment.weight_decay), betas=(0.9, 0.98))


def _first_images(tokens: Tensor, packed: Packed) -> Tensor:
    """Tokens of each row's first image; depth images come later."""
    rows = packed.image_row.tolist()
    parts = tokens.split((packed.grid.prod(-1) // MERGE**2).tolist())
    return torch.cat([part for i, part in enumerate(parts) if i == rows.index(rows[i])])
