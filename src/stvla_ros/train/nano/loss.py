"""Losses of the nano model: soft numbers, what image tokens show and where that object is, and supervised attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, Qwen3VLForConditionalGeneration

from stvla_ros.planning.heatmap.words import KINDS, PALETTE
from stvla_ros.planning.nano.architecture import WIDTH
from stvla_ros.planning.nano.tokens import NUMBERS
from stvla_ros.train.nano.packing import COORDINATE, OFFSET, PLAIN, Packed
from stvla_ros.train.scenes.run import CELL_WEIGHTS

SPREAD = {COORDINATE: 6.0, OFFSET: 8.0}
"""Sigma of the target distribution over neighbouring numbers, in thousandths and millimetres."""

REACH = 18
PLAIN_WEIGHT = 0.3
"""Weight of brackets and words: they are many and easy."""

SUBCELLS = 4
"""Each image token predicts what it shows in so many by so many parts."""


class DenseHead(nn.Module):
    """Predicts from an image token what each of its parts shows, and where the object is; used in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds, self.colours = len(KINDS) + 2, len(PALETTE)
        self.out = nn.Linear(WIDTH, SUBCELLS * SUBCELLS * (self.kinds + self.colours))
        self.point = nn.Linear(WIDTH, 2 * WIDTH)

    def loss(self, tokens: Tensor, kind: Tensor, colour: Tensor) -> Tensor:
        """Cross entropy.

        Args:
            tokens: (N, width) image tokens.
            kind: (N, 16) classes.
            colour: (N, 16), -1: none.
        """
        logits = self.out(tokens).float().unflatten(-1, (SUBCELLS * SUBCELLS, -1))
        by_kind, by_colour = logits.split([self.kinds, self.colours], -1)
        weight = torch.tensor(CELL_WEIGHTS)
        cross = functional.cross_entropy
        return cross(by_kind.flatten(0, 1), kind.flatten(), weight) + cross(
            by_colour.flatten(0, 1), colour.flatten(), ignore_index=-1
        )

    def pointing_loss(self, tokens: Tensor, uv: Tensor, numbers: Tensor) -> Tensor:
        """Soft cross entropy of coordinates in the numbers' own embeddings: the language model need only copy them.

        Args:
            tokens: (N, width) image tokens.
            uv: (N, 2) 0..1000; NaN: no object, or its point is outside the image.
            numbers: (V, width) embeddings of the numbers.
        """
        here = torch.isfinite(uv).all(-1)
        logits = self.point(tokens[here]).unflatten(-1, (2, -1)) @ numbers.T
        return _soft(logits.float().log_softmax(-1), uv[here].round().long(), SPREAD[COORDINATE]).mean()


def number_loss(logits: Tensor, batch: Packed) -> Tensor:
    """Cross entropy of answer tokens; a number's neighbours are nearly right."""
    log = logits.float().log_softmax(-1)
    total, weight = log.new_zeros(()), log.new_zeros(())
    for kind in (PLAIN, COORDINATE, OFFSET):
        here = batch.kind == kind
        if kind == PLAIN:
            lost = -PLAIN_WEIGHT * log[here].gather(-1, batch.target[here, None])
            weight = weight + PLAIN_WEIGHT * here.sum()
        else:
            lost = _soft(log[here, :NUMBERS], batch.target[here], SPREAD[kind])
            weight = weight + here.sum()
        total = total + lost.sum()
    return total / weight


def _soft(log: Tensor, target: Tensor, spread: float) -> Tensor:
    """(...) cross entropy of (..., V) log probabilities with a Gaussian over the numbers around the (...) targets."""
    away = torch.arange(-REACH, REACH + 1)
    near = target[..., None] + away
    wanted = torch.exp(-(away.float() ** 2) / (2 * spread**2)) * ((near >= 0) & (near < log.shape[-1]))
    return -(wanted * log.gather(-1, near.clamp(0, log.shape[-1] - 1))).sum(-1) / wanted.sum(-1)


NAME = "stvla_products"

SUPERVISED_LAYERS = (1, 2)
"""Head 0 of these layers attends to the object where a step begins, and where it ends, before a number is written."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,  # True: attend
    scaling: float = 1.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention on (B, heads, L, width) as transformers calls it: batched products are faster on a CPU."""
    score = (query * scaling) @ key.transpose(2, 3)
    if attention_mask is not None:
        score = score.masked_fill(~attention_mask, -1e4)
    if getattr(module, "layer_idx", None) in SUPERVISED_LAYERS:
        module.supervised_scores = score[:, 0]
    share = score.float().softmax(-1).to(value.dtype)
    return (share @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)


def use_attention(network: Qwen3VLForConditionalGeneration) -> None:
    """Train with :func:`attend`; checkpoints do not record it."""
    for part in (network.model.visual, network.model.language_model):
        part.config._attn_implementation = NAME


def attention_loss(network: Qwen3VLForConditionalGeneration, batch: Packed, object_index: Tensor) -> Tensor:
    """Cross entropy between the attention of head 0 on the image and the place of the object.

    Args:
        network: After its forward pass.
        batch: Input of that pass.
        object_index: (N, 16) object that each part of the first images' tokens shows, from 0.
    """
    shares = _shares(batch, object_index)
    losses = []
    for end, layer in enumerate(SUPERVISED_LAYERS):
        scores = network.model.language_model.layers[layer].self_attn.supervised_scores
        wanted_index = batch.ends[:, end]
        wanted = (shares[batch.row] == wanted_index[:, None, None]).sum(-1) * (wanted_index >= 0)[:, None]
        seen = wanted.any(-1)
        row, wanted = batch.row[seen], wanted[seen].float()
        place = batch.first_image[row, :1] + torch.arange(wanted.shape[1])
        inside = place < batch.first_image[row, 1:]
        score = scores[row[:, None], batch.before[seen][:, None], place.clamp(max=scores.shape[-1] - 1)].float()
        log = score.masked_fill(~inside, -1e4).log_softmax(-1)
        losses.append(-(wanted / wanted.sum(-1, keepdim=True) * log).sum(-1).mean())
    return torch.stack(losses).mean()


def _shares(batch: Packed, object_index: Tensor) -> Tensor:
    """(B, most tokens, 16) of (N, 16), filled with -2."""
    parts = object_index.split(batch.cells.prod(-1).tolist())
    return nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=-2)
