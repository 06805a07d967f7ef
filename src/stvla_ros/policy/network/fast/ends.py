"""The two ends of a denoising step: from a noisy keypose to a token, and from tokens to a prediction."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stvla_ros.policy.network.fast.heads import HeadLayout, Projection, attend, stacked
from stvla_ros.policy.network.fast.layers import FastAttention, FastFeedForward, affine, normed
from stvla_ros.policy.network.fast.scene import FastScene
from stvla_ros.policy.network.head import PredictionHead


class Places(NamedTuple):
    """What distinguishes the n = L * hands tokens of a keypose sequence before they see anything."""

    place: Tensor
    """Encoded place in the sequence (n, width)."""
    offset: Tensor
    """What the entry adds to tokens and queries (n, width + P)."""


class Entry:
    """Embeds noisy keyposes and lets them see the instruction.

    Embedding and query projection are linear with nothing in between, so they are one matrix: it gives tokens and
    queries at once.
    """

    def __init__(self, head: PredictionHead, embed: nn.Linear, layout: HeadLayout, dtype: torch.dtype) -> None:
        stack = head.traj_lang_attention
        self.layout, self.dtype, self.width = layout, dtype, embed.out_features
        self.encode_place = copy.deepcopy(head.traj_time_emb)
        self.hands = None if head.hand_embed is None else head.hand_embed.weight.detach().clone()
        self.attention = FastAttention([stack.attn_layers[0].attention], layout, dtype, rotary=False)
        self.norm = affine([stack.attn_layers[0].norm_q], dtype)
        self.feed_forward = FastFeedForward(list(stack.ffw_layers), dtype) if len(stack.ffw_layers) > 0 else None
        query = FastAttention([stack.attn_layers[0].attention], layout, torch.float32, rotary=False).query
        self.query_weight, self.query_bias = query.weight[0], query.bias[0]
        self.bias, weight = embed.bias.detach().clone(), embed.weight.detach().T
        self.weight = torch.cat((weight, weight @ self.query_weight), -1).to(dtype)

    def places(self, length: int, hands: int) -> Places:
        """For ``length`` keyposes of ``hands`` grippers; the same for all steps."""
        numbers = torch.arange(length, device=self.weight.device)
        place = self.encode_place(numbers).repeat(hands, 1)  # the plain network's order, whatever it means
        tokens = self.bias.expand(len(place), -1)
        if self.hands is not None:
            tokens = tokens + self.hands.repeat(length, 1)
        queries = (tokens + place) @ self.query_weight + self.query_bias
        return Places(place.to(self.dtype), torch.cat((tokens, queries), -1).to(self.dtype))

    def __call__(self, x: Tensor, places: Places, scene: FastScene) -> Tensor:
        """Tokens (1, S, n, width) of noisy keyposes (1, S, n, 9)."""
        tokens, queries = (x @ self.weight + places.offset).tensor_split((self.width,), -1)
        seen = self.attention.out(attend(self.layout, queries, scene.text_keys, scene.text_values))
        tokens = normed(tokens + seen, self.norm)
        return (tokens if self.feed_forward is None else self.feed_forward(tokens)) + places.place


class Exit:
    """Predictions from the two branches.

    The branches' projections are linear and go straight into the predictors' first layers, so they are merged with
    them; the three predictors are then one network of block matrices.
    """

    def __init__(self, head: PredictionHead, dtype: torch.dtype) -> None:
        predictors = (head.position_predictor, head.openess_predictor, head.rotation_predictor)
        projections = (head.position_proj, head.position_proj, head.rotation_proj)
        merged = [_merged(predictor[0], projection) for predictor, projection in zip(predictors, projections)]
        position, opening, rotation = (weight for weight, _ in merged)
        hidden = torch.block_diag(torch.cat((position, opening)), rotation)
        self.hidden = stacked([(hidden, torch.cat([bias for _, bias in merged]))], dtype)
        self.last = _last([predictor[2] for predictor in predictors], dtype)

    def __call__(self, branches: Tensor) -> Tensor:
        """Position, rotation and opening (S, n, 10), float32, of tokens (2, S, n, width): position's, rotation's."""
        joined = branches.permute(1, 2, 0, 3).flatten(2)[None]
        return self.last(self.hidden(joined).relu_())[0].float()


def _merged(second: nn.Linear, first: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of one linear layer behind another, multiplied in double precision."""
    weight = second.weight.detach().double()
    bias = weight @ first.bias.detach().double() + second.bias.detach().double()
    return (weight @ first.weight.detach().double()).float(), bias.float()


def _last(layers: list[nn.Linear], dtype: torch.dtype) -> Projection:
    """The predictors' last layers, in the order of the output: position, rotation, opening."""
    position, opening, rotation = layers
    order = torch.tensor([*range(3), *range(4, 10), 3], device=position.weight.device)
    weight = torch.block_diag(*(layer.weight.detach() for layer in (position, opening, rotation)))
    bias = torch.cat([layer.bias.detach() for layer in (position, opening, rotation)])
    return stacked([(weight[order], bias[order])], dtype)
