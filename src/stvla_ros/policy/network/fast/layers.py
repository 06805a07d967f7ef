"""Attention and feed-forward layers, repacked from the plain ones for inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvla_ros.policy.network.attention import Attention, AttentionStack, FeedForward
from stvla_ros.policy.network.fast.heads import HeadLayout, apply_rotary, attend, stacked


class Affine(NamedTuple):
    """Scale and shift (G, S or 1, N or 1, width)."""

    scale: Tensor
    shift: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        return torch.addcmul(self.shift, tokens, self.scale)


def affine(norms: Sequence[nn.LayerNorm], dtype: torch.dtype) -> Affine:
    """Scale and shift of G layer norms."""
    scale, shift = (torch.stack([getattr(n, name).detach() for n in norms]) for name in ("weight", "bias"))
    return Affine(scale[:, None, None].to(dtype), shift[:, None, None].to(dtype))


def normed(tokens: Tensor, then: Affine) -> Tensor:
    """Layer norm; ``then`` is its scale and shift, or these merged with a modulation into one affine map."""
    return then(functional.layer_norm(tokens, tokens.shape[-1:]))


class FastFeedForward:
    """G parallel feed-forward layers, without their adaptive modulation, which the caller applies."""

    def __init__(self, layers: Sequence[FeedForward], dtype: torch.dtype) -> None:
        self.first = stacked([_parts(layer.ffn[0]) for layer in layers], dtype)
        self.second = stacked([_parts(layer.ffn[3]) for layer in layers], dtype)
        self.norm = affine([layer.norm for layer in layers], dtype)

    def __call__(self, tokens: Tensor) -> Tensor:
        """(G, S, N, width) to (G, S, N, width)."""
        return normed(self.second(self.first(tokens).relu_()).add_(tokens), self.norm)


class FastAttention:
    """G parallel attention layers with padded heads, up to the residual."""

    def __init__(self, layers: Sequence[Attention], layout: HeadLayout, dtype: torch.dtype, rotary: bool) -> None:
        """Repack weights.

        Args:
            layers: G plain layers.
            layout: Layout of the padded heads.
            dtype: Type of the copies.
            rotary: Whether queries and keys are rotated; otherwise partners are not needed.
        """
        self.layout = layout
        turned = layout.filled if rotary else layout.own
        packed = [_packed(layer, layout, turned) for layer in layers]
        self.all = stacked([_joined(parts) for parts in packed], dtype)
        self.query = stacked([parts[0] for parts in packed], dtype)
        self.memory = stacked([_joined(parts[1:]) for parts in packed], dtype)
        self.out = stacked([_out(layer, layout) for layer in layers], dtype)
        self.own = layout.own.to(dtype) if rotary and layout.cut else None

    def keys_values(self, memory: Tensor, phases: Tensor | None) -> tuple[Tensor, Tensor]:
        """Keys and values (G, S, heads, M, P/heads) of a memory (G, S, M, width), contiguous because read often."""
        keys, values = self.memory(memory).chunk(2, -1)
        split = self.layout.split
        return split(self._keys(keys, phases)).contiguous(), split(values).contiguous()

    def cross(self, queries: Tensor, keys: Tensor, values: Tensor, phases: Tensor | None = None) -> Tensor:
        """Attention of queries (G, S, N, width) to a memory, given as keys and values of :meth:`keys_values`."""
        query = self.query(queries)
        return self.out(attend(self.layout, query if phases is None else apply_rotary(query, phases), keys, values))

    def within(self, queries: Tensor, memory: Tensor, phases: Tensor) -> Tensor:
        """Attention of the first N of M tokens to all M: queries (G, S, N, width), memory (G, S, M, width).

        If both are the same tensor, queries, keys and values come from one matrix product.

        Args:
            queries: Tokens that attend.
            memory: Tokens that are attended to.
            phases: Rotary positions of the memory (S, M, 1, P/2).
        """
        if queries is memory:
            both, value = self.all(queries).tensor_split((2 * self.layout.padded,), -1)
            query, key = apply_rotary(both, phases).chunk(2, -1)
            key = key if self.own is None else key.mul_(self.own)
        else:
            query = apply_rotary(self.query(queries), phases[:, : queries.shape[2]])
            key, value = self.memory(memory).chunk(2, -1)
            key = self._keys(key, phases)
        return self.out(attend(self.layout, query, self.layout.split(key), self.layout.split(value)))

    def beside(self, queries: Tensor, keys: Tensor, values: Tensor, phases: Tensor) -> Tensor:
        """Attention of tokens (G, S, n, width) to themselves and to a scene, given as keys and values of S scenes.

        Args:
            queries: Tokens that attend.
            keys: (G, S, heads, M, P/heads), of :meth:`keys_values`.
            values: As the keys.
            phases: Rotary positions of the tokens (S, n, 1, P/2).
        """
        both, value = self.all(queries).tensor_split((2 * self.layout.padded,), -1)
        query, key = apply_rotary(both, phases).chunk(2, -1)
        key = key if self.own is None else key.mul_(self.own)
        split = self.layout.split
        keys, values = torch.cat((keys, split(key)), -2), torch.cat((values, split(value)), -2)
        return self.out(attend(self.layout, query, keys, values))

    def _keys(self, keys: Tensor, phases: Tensor | None) -> Tensor:
        """Rotated keys, zero at the places of partners, so that partners add nothing to the scores."""
        if phases is None:
            return keys
        keys = apply_rotary(keys, phases)
        return keys if self.own is None else keys.mul_(self.own)


class CrossLayers:
    """Layers that let tokens attend to a fixed memory, without a condition."""

    def __init__(self, stack: AttentionStack, layout: HeadLayout, rotary: bool) -> None:
        single = torch.float32
        attentions = [layer.attention for layer in stack.attn_layers]
        self.attentions = [FastAttention([attention], layout, single, rotary) for attention in attentions]
        self.norms = [affine([layer.norm_q], single) for layer in stack.attn_layers]
        self.feed_forwards = [FastFeedForward([layer], single) for layer in stack.ffw_layers]

    def __call__(
        self, tokens: Tensor, memory: Tensor, at: Tensor | None = None, memory_at: Tensor | None = None
    ) -> Tensor:
        """Tokens (B, N, width) after attention to a memory (B, M, width), both with rotary positions or neither."""
        tokens, memory = tokens[None], memory[None]
        for attention, norm, feed_forward in zip(self.attentions, self.norms, self.feed_forwards):
            keys, values = attention.keys_values(memory, memory_at)
            tokens = feed_forward(normed(tokens + attention.cross(tokens, keys, values, at), norm))
        return tokens[0]


def _parts(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    return layer.weight.detach(), layer.bias.detach()


def _packed(layer: Attention, layout: HeadLayout, turned: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of queries, keys and values, with padded rows."""
    weights, biases = layer.in_proj_weight.detach().chunk(3), layer.in_proj_bias.detach().chunk(3)
    places = (turned, turned, layout.own)
    return [(layout.rows(w, p), layout.rows(b, p)) for w, b, p in zip(weights, biases, places)]


def _joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts])


def _out(layer: Attention, layout: HeadLayout) -> tuple[Tensor, Tensor]:
    weight, bias = _parts(layer.out_proj)
    return layout.rows(weight.T, layout.own).T, bias
