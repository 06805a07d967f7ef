"""Attention of the nano model in training: batched products, faster on a CPU than the library's, and it can be watched."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Qwen3VLForConditionalGeneration

from stvla_ros.train.nano.packing import Packed

NAME = "stvla_products"

LOOKING_LAYERS = (1, 2)
"""Head 0 of these layers must look where a step begins, and where it ends, as one of its numbers is about to be written."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float = 1.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Plain attention of (B, heads, L, width) as the library's models call it; mask True where it may look."""
    score = (query * scaling) @ key.transpose(2, 3)
    if attention_mask is not None:
        score = score.masked_fill(~attention_mask, -1e4)
    if getattr(module, "layer_idx", None) in LOOKING_LAYERS:
        module.looks = score[:, 0]
    share = score.float().softmax(-1).to(value.dtype)
    return (share @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)


def use(network: Qwen3VLForConditionalGeneration) -> None:
    """Train with :func:`attend`; a checkpoint does not remember it."""
    for part in (network.model.visual, network.model.language_model):
        part.config._attn_implementation = NAME


def looking_loss(network: Qwen3VLForConditionalGeneration, batch: Packed, things: Tensor) -> Tensor:
    """Cross entropy between where head 0 has looked on the image, and where the thing is.

    Args:
        network: After its forward pass.
        batch: What it has seen.
        things: (N, 16) the thing that each part of the first images' tokens shows, from 0.
    """
    shares = _shares(batch, things)
    losses = []
    for end, layer in enumerate(LOOKING_LAYERS):
        looks = network.model.language_model.layers[layer].self_attn.looks
        thing = batch.ends[:, end]
        wanted = (shares[batch.row] == thing[:, None, None]).sum(-1) * (thing >= 0)[:, None]
        seen = wanted.any(-1)
        row, wanted = batch.row[seen], wanted[seen].float()
        place = batch.first_image[row, :1] + torch.arange(wanted.shape[1])
        inside = place < batch.first_image[row, 1:]
        score = looks[row[:, None], batch.before[seen][:, None], place.clamp(max=looks.shape[-1] - 1)].float()
        log = score.masked_fill(~inside, -1e4).log_softmax(-1)
        losses.append(-(wanted / wanted.sum(-1, keepdim=True) * log).sum(-1).mean())
    return torch.stack(losses).mean()


def _shares(batch: Packed, things: Tensor) -> Tensor:
    """(B, most tokens, 16) of (N, 16), filled with -2."""
    parts = things.split(batch.cells.prod(-1).tolist())
    return nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=-2)
