"""One denoising step, cut down to what changes from step to step."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from stvla_ros.policy.network.attention import AttentionLayer, AttentionStack, FeedForward
from stvla_ros.policy.network.fast.ends import Entry, Exit, Places
from stvla_ros.policy.network.fast.heads import HeadLayout, turns
from stvla_ros.policy.network.fast.layers import Affine, FastAttention, FastFeedForward, normed
from stvla_ros.policy.network.fast.modulation import Modulations
from stvla_ros.policy.network.fast.scene import FastScene, SceneTokens
from stvla_ros.policy.network.head import PredictionHead

Steps = Iterator[Affine]


class DenoisingLayer:
    """Attention and feed-forward of G branches side by side; modulations are taken from an iterator, in order."""

    def __init__(
        self, pairs: Sequence[tuple[AttentionLayer, FeedForward]], layout: HeadLayout, dtype: torch.dtype
    ) -> None:
        self.attention = FastAttention([layer.attention for layer, _ in pairs], layout, dtype, rotary=True)
        self.feed_forward = FastFeedForward([layer for _, layer in pairs], dtype)
        self.modulate_memory = pairs[0][0].modulate_memory

    def within(self, tokens: Tensor, modulations: Steps, at: Tensor, count: int | None = None) -> Tensor:
        """Self-attention of (G, S, N, width); with ``count``, only the first so many tokens are wanted afterwards.

        What is wanted needs keys and values of all tokens, but no other queries.
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

    def _finish(self, tokens: Tensor, seen: Tensor, modulations: Steps) -> Tensor:
        return self.feed_forward(normed(seen.add_(tokens), next(modulations)))


class FastHead:
    """The plain prediction head, split into :meth:`prepare`, once per scene, and :meth:`step`."""

    def __init__(
        self, head: PredictionHead, traj_encoder: nn.Linear, layout: HeadLayout, times: Tensor, dtype: torch.dtype
    ) -> None:
        self.layout, self.dtype = layout, dtype
        self.frequencies = layout.frequencies(head.config.rotary_scale)
        self.entry = Entry(head, traj_encoder, layout, dtype)
        self.exit = Exit(head, dtype)
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
        """All that depends on the scene, the steps' times included, but not on the noisy keypose."""
        condition = self.time[:, None] + self.gripper(tokens.history.flatten(1))
        scale, shift = self.modulations.tables(condition, self.dtype)
        image = tokens.image[None].to(self.dtype)
        crossed = [layer.attention.keys_values(image, tokens.image_turns) for layer in self.cross]
        keys, values = (torch.cat(parts) for parts in zip(*crossed))
        words = self.entry.attention.keys_values(tokens.text[None].to(self.dtype), None)
        return FastScene(*words, keys, values, tokens.sampled.to(self.dtype), tokens.sampled_turns, scale, shift)

    def step(self, scene: FastScene, places: Places, x: Tensor, xyz: Tensor, index: int) -> Tensor:
        """Prediction (S, n, 10): position (3), rotation (6), logit of an open gripper.

        Args:
            scene: Scenes, from :meth:`~.scene.FastScene.repeated` for S samples.
            places: Of the n keypose tokens, see :meth:`~.ends.Entry.places`.
            x: Noisy keyposes (S, n, 9).
            xyz: Their positions (S, n, 3), in the coordinates of the rotary encoding.
            index: Of the step.
        """
        modulations = self.modulations.at(scene.scale[index], scene.shift[index])
        at = turns(xyz, self.frequencies)
        tokens = self.entry(x.unsqueeze(0).to(self.dtype), places, scene)
        for layer, keys, values in zip(self.cross, scene.cross_keys, scene.cross_values):
            tokens = layer.cross(tokens, modulations, keys[None], values[None], at)
        tokens, at = torch.cat((tokens, scene.sampled[None]), 2), torch.cat((at, scene.sampled_turns), 1)
        for layer in self.shared:
            tokens = layer.within(tokens, modulations, at)
        tokens = tokens.expand(2, -1, -1, -1)
        for layer in self.branches[:-1]:
            tokens = layer.within(tokens, modulations, at)
        return self.exit(self.branches[-1].within(tokens, modulations, at, x.shape[1]))


def _pairs(stack: AttentionStack) -> list[tuple[AttentionLayer, FeedForward]]:
    return list(zip(stack.attn_layers, stack.ffw_layers))


def _modulations(layers: Sequence[Sequence[tuple[AttentionLayer, FeedForward]]]) -> Modulations:
    """Of all layers in the order of their use: a layer's attentions first, then its feed-forward layers."""
    pairs, groups = [], []
    for side_by_side in layers:
        pairs += [(attention.adaln, None) for attention, _ in side_by_side]
        pairs += [(feed_forward.adaln, attention.norm_q) for attention, feed_forward in side_by_side]
        groups += [len(side_by_side)] * 2
    return Modulations(pairs, groups)
