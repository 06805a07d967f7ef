"""One denoising step, reduced to what changes from step to step: from a noisy keypose to a prediction."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvla_ros.policy.network.attention import AdaLN, AttentionLayer, AttentionStack, FeedForward
from stvla_ros.policy.network.fast.heads import HeadLayout, Projection, attend, rotary_phases, stacked
from stvla_ros.policy.network.fast.layers import Affine, FastAttention, FastFeedForward, affine, normed
from stvla_ros.policy.network.fast.scene import FastScene, SceneTokens
from stvla_ros.policy.network.head import PredictionHead

Steps = Iterator[Affine]


class Modulations:
    """The adaptive modulations of a head in order of use, each with the layer norm in front of it, if any.

    They depend on the time and the history, which are known before the first step, so one matrix product gives all of
    them. A layer norm's own scale and shift (w, b), followed by a modulation ``x (1 + s) + t``, is one affine map with
    scale ``w (1 + s)`` and shift ``b (1 + s) + t``, so a modulation behind a norm costs nothing in a step.
    """

    def __init__(self, pairs: Sequence[tuple[AdaLN | None, nn.LayerNorm | None]], groups: Sequence[int]) -> None:
        """Stack weights.

        Args:
            pairs: Modulations and the norms in front of them.
            groups: How many of them are used together, in the same order.
        """
        linears = [adaln.modulation[1] for adaln, _ in pairs if adaln is not None]
        width = linears[0].in_features
        self.weight = torch.cat([linear.weight.detach() for linear in linears])
        self.bias = torch.cat([linear.bias.detach() for linear in linears])
        one, zero = torch.ones_like(self.bias[:width]), torch.zeros_like(self.bias[:width])
        self.norm_scale = torch.stack([one if norm is None else norm.weight.detach() for _, norm in pairs])
        self.norm_shift = torch.stack([zero if norm is None else norm.bias.detach() for _, norm in pairs])
        self.groups = list(groups)

    def tables(self, condition: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Scale and shift (steps, modulations, B, 1, width) for conditions (steps, B, width)."""
        found = functional.linear(functional.silu(condition), self.weight, self.bias)
        found = found.unflatten(-1, (len(self.norm_scale), 2, -1)).permute(3, 0, 2, 1, 4)
        scale, shift = found[0] + 1, found[1]
        shift = self.norm_shift[:, None] * scale + shift
        scale = self.norm_scale[:, None] * scale
        return scale.unsqueeze(-2).to(dtype), shift.unsqueeze(-2).to(dtype)

    def at(self, scale: Tensor, shift: Tensor) -> Iterator[Affine]:
        """The modulations (modulations, S, 1, width) of one step, one group after the other."""
        return map(Affine, scale.split(self.groups), shift.split(self.groups))


class DenoisingLayer:
    """Attention and feed-forward of G parallel branches; modulations come from an iterator, in order."""

    def __init__(
        self, pairs: Sequence[tuple[AttentionLayer, FeedForward]], layout: HeadLayout, dtype: torch.dtype
    ) -> None:
        self.attention = FastAttention([layer.attention for layer, _ in pairs], layout, dtype, rotary=True)
        self.feed_forward = FastFeedForward([layer for _, layer in pairs], dtype)
        self.modulate_memory = pairs[0][0].modulate_memory

    def within(self, tokens: Tensor, modulations: Steps, at: Tensor, count: int | None = None) -> Tensor:
        """Self-attention of (G, S, N, width); with ``count``, only the first ``count`` tokens are needed afterwards.

        They need the keys and values of all tokens, but only their own queries.
        """
        modulate, wanted = next(modulations), tokens[:, :, :count]
        if self.modulate_memory:
            memory = modulate(tokens)
            queries = memory if count is None else memory[:, :, :count]
        else:
            queries, memory = modulate(wanted), tokens
        return self._finish(wanted, self.attention.within(queries, memory, at), modulations)

    def cross(self, tokens: Tensor, modulations: Steps, keys: Tensor, values: Tensor, at: Tensor) -> Tensor:
        """Attention to a memory that was projected before the first step."""
        queries = next(modulations)(tokens)
        return self._finish(tokens, self.attention.cross(queries, keys, values, at), modulations)

    def beside(self, tokens: Tensor, modulations: Steps, keys: Tensor, values: Tensor, at: Tensor) -> Tensor:
        """Attention to themselves and to a scene that was projected before the first step."""
        queries = next(modulations)(tokens)
        return self._finish(tokens, self.attention.beside(queries, keys, values, at), modulations)

    def scene(self, tokens: Tensor, modulations: Steps, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A shared scene's tokens (G, B, M, width) after this layer, and the keys and values that it shows to others."""
        queries = next(modulations)(tokens)
        shown = self.attention.keys_values(queries, at)
        found = self._finish(tokens, self.attention.within(queries, queries, at), modulations)
        return found, *shown

    def _finish(self, tokens: Tensor, seen: Tensor, modulations: Steps) -> Tensor:
        return self.feed_forward(normed(seen.add_(tokens), next(modulations)))


class SequencePlaces(NamedTuple):
    """What distinguishes the n = L * hands tokens of a keypose sequence before any attention."""

    place: Tensor
    """Encoded place in the sequence (n, width)."""
    offset: Tensor
    """Added to embedded tokens and queries (n, width + P)."""


class KeyposeEmbedding:
    """Embeds noisy keyposes and lets them attend to the instruction.

    Embedding and query projection are linear with nothing in between, so one matrix gives tokens and queries.
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

    def places(self, length: int, hands: int) -> SequencePlaces:
        """For ``length`` keyposes of ``hands`` grippers; the same for all steps."""
        numbers = torch.arange(length, device=self.weight.device)
        place = self.encode_place(numbers).repeat(hands, 1)  # in the plain network's order
        tokens = self.bias.expand(len(place), -1)
        if self.hands is not None:
            tokens = tokens + self.hands.repeat(length, 1)
        queries = (tokens + place) @ self.query_weight + self.query_bias
        return SequencePlaces(place.to(self.dtype), torch.cat((tokens, queries), -1).to(self.dtype))

    def __call__(self, x: Tensor, places: SequencePlaces, scene: FastScene) -> Tensor:
        """Tokens (1, S, n, width) of noisy keyposes (1, S, n, 9)."""
        tokens, queries = (x @ self.weight + places.offset).tensor_split((self.width,), -1)
        seen = self.attention.out(attend(self.layout, queries, scene.text_keys, scene.text_values))
        tokens = normed(tokens + seen, self.norm)
        return (tokens if self.feed_forward is None else self.feed_forward(tokens)) + places.place


class OutputHeads:
    """Predictions from the two branches.

    The branches' projections are linear and feed the predictors' first layers directly, so they are merged into them.
    The three predictors are then one network of block matrices.
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
        """Position, rotation and opening (S, n, 10), float32, from tokens (2, S, n, width) of position and rotation."""
        joined = branches.permute(1, 2, 0, 3).flatten(2)[None]
        return self.last(self.hidden(joined).relu_())[0].float()


class FastHead:
    """The prediction head, split into :meth:`prepare`, which runs once per scene, and :meth:`step`."""

    def __init__(
        self, head: PredictionHead, traj_encoder: nn.Linear, layout: HeadLayout, times: Tensor, dtype: torch.dtype
    ) -> None:
        self.layout, self.dtype, self.shared_scene = layout, dtype, head.config.shared_scene
        self.frequencies = layout.frequencies(head.config.rotary_scale)
        self.embedding = KeyposeEmbedding(head, traj_encoder, layout, dtype)
        self.outputs = OutputHeads(head, dtype)
        branches = list(zip(_pairs(head.position_self_attn), _pairs(head.rotation_self_attn)))
        stages = ([(p,) for p in _pairs(head.cross_attn)], [(p,) for p in _pairs(head.self_attn)], branches)
        self.cross, self.shared, self.branches = (
            [DenoisingLayer(pairs, layout, dtype) for pairs in stage] for stage in stages
        )
        self.modulations = _modulations(list(chain(*stages)))
        self.gripper = copy.deepcopy(head.curr_gripper_emb).requires_grad_(False)
        with torch.no_grad():
            self.time = head.time_emb(times.to(head.curr_gripper_emb[0].weight.device)).clone()

    def prepare(self, tokens: SceneTokens) -> FastScene:
        """Everything that depends on the scene and the steps' times, but not on the noisy keypose."""
        history = self.gripper(tokens.history.flatten(1))
        condition = self.time[:, None] + history
        scale, shift = self.modulations.tables(condition, self.dtype)
        image = tokens.image[None].to(self.dtype)
        crossed = [layer.attention.keys_values(image, tokens.image_phases) for layer in self.cross]
        keys, values = (torch.cat(parts) for parts in zip(*crossed))
        words = self.embedding.attention.keys_values(tokens.text[None].to(self.dtype), None)
        sampled, at = tokens.sampled.to(self.dtype), tokens.sampled_phases
        beside = self._shown(sampled, at, history) if self.shared_scene else (keys[:0], values[:0])
        return FastScene(*words, keys, values, sampled, at, scale, shift, *beside)

    def _shown(self, sampled: Tensor, at: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a shared scene's tokens for all layers, see :attr:`FastScene.beside_keys`."""
        scale, shift = self.modulations.tables(history[None], self.dtype)
        modulations = self.modulations.at(scale[0], shift[0])
        for _ in range(2 * len(self.cross)):
            next(modulations)
        tokens, shown = sampled[None], []
        for layer in self.shared:
            tokens, *pair = layer.scene(tokens, modulations, at)
            shown.append(pair)
        tokens = tokens.expand(2, -1, -1, -1)
        for layer in self.branches:
            tokens, *pair = layer.scene(tokens, modulations, at)
            shown.append(pair)
        keys, values = (torch.cat(parts) for parts in zip(*shown))
        return keys, values

    def step(self, scene: FastScene, places: SequencePlaces, x: Tensor, xyz: Tensor, index: int) -> Tensor:
        """Prediction (S, n, 10): position (3), rotation (6), logit of an open gripper.

        Args:
            scene: Scenes, from :meth:`~.scene.FastScene.repeated` for S samples.
            places: Of the n keypose tokens, see :meth:`KeyposeEmbedding.places`.
            x: Noisy keyposes (S, n, 9).
            xyz: Their positions (S, n, 3), in the coordinates of the rotary encoding.
            index: Index of the step.
        """
        modulations = self.modulations.at(scene.scale[index], scene.shift[index])
        at = rotary_phases(xyz, self.frequencies)
        tokens = self.embedding(x.unsqueeze(0).to(self.dtype), places, scene)
        for layer, keys, values in zip(self.cross, scene.cross_keys, scene.cross_values):
            tokens = layer.cross(tokens, modulations, keys[None], values[None], at)
        if self.shared_scene:
            return self.outputs(self._beside(tokens, modulations, at, scene))
        tokens, at = torch.cat((tokens, scene.sampled[None]), 2), torch.cat((at, scene.sampled_phases), 1)
        for layer in self.shared:
            tokens = layer.within(tokens, modulations, at)
        tokens = tokens.expand(2, -1, -1, -1)
        for layer in self.branches[:-1]:
            tokens = layer.within(tokens, modulations, at)
        return self.outputs(self.branches[-1].within(tokens, modulations, at, x.shape[1]))

    def _beside(self, tokens: Tensor, modulations: Steps, at: Tensor, scene: FastScene) -> Tensor:
        """Tokens (2, S, n, width) of both branches, from keypose tokens (1, S, n, width) beside a shared scene."""
        sizes = [1] * len(self.shared) + [2] * len(self.branches)
        layers = zip((*self.shared, *self.branches), scene.beside_keys.split(sizes), scene.beside_values.split(sizes))
        for layer, keys, values in layers:
            tokens = layer.beside(tokens.expand(len(keys), -1, -1, -1), modulations, keys, values, at)
        return tokens


def _pairs(stack: AttentionStack) -> list[tuple[AttentionLayer, FeedForward]]:
    return list(zip(stack.attn_layers, stack.ffw_layers))


def _modulations(layers: Sequence[Sequence[tuple[AttentionLayer, FeedForward]]]) -> Modulations:
    """Modulations of all layers in order of use: first a layer's attentions, then its feed-forward layers."""
    pairs, groups = [], []
    for side_by_side in layers:
        pairs += [(attention.adaln, None) for attention, _ in side_by_side]
        pairs += [(feed_forward.adaln, attention.norm_q) for attention, feed_forward in side_by_side]
        groups += [len(side_by_side)] * 2
    return Modulations(pairs, groups)


def _merged(second: nn.Linear, first: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of two consecutive linear layers, multiplied in double precision."""
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
