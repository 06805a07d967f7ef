"""Attention with rotary positions, and post-norm layers and stacks of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvla_ros.policy.network.rotary import Rotary, rotate

CHANNEL_MULTIPLE = 16
"""In training, the channels of a head are padded with zeros to a multiple of this: 15 take 1.6 times as long as 16.

Not at inference, where the last bit decides which of two equally rare tokens is kept.
"""


class At(NamedTuple):
    """Tokens, where they are, and what modulates them."""

    values: Tensor
    """(B, N, width)."""
    at: Rotary
    """Their positions."""
    condition: Tensor
    """(B, width)."""


class AdaLN(nn.Module):
    """Scale and shift of tokens by a condition; the identity before training (DiT, arXiv 2212.09748)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        nn.init.zeros_(self.modulation[1].weight)
        nn.init.zeros_(self.modulation[1].bias)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """``tokens`` (B, N, width) under ``condition`` (B, width)."""
        scale, shift = self.modulation(condition).unsqueeze(1).chunk(2, -1)
        return tokens * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head attention; queries and keys are rotated before they are split into heads.

    Rotation comes first because a head may have an odd number of channels, so that a pair lies in two heads.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        queries: Tensor,
        memory: Tensor,
        at: Rotary | None,
        memory_at: Rotary | None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Attend from ``queries`` (m B, N, width) to ``memory`` (B, M, width).

        With m > 1, m consecutive rows of ``queries`` share one row of ``memory``, which is projected only once.
        ``seen`` (B, 1, 1, M) is False for tokens of the memory that are no tokens but padding; None: all are.
        """
        width = queries.shape[-1]
        if queries is memory:
            query, key, value = functional.linear(queries, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            query = functional.linear(queries, self.in_proj_weight[:width], self.in_proj_bias[:width])
            key, value = functional.linear(memory, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, -1)
        if at is not None and memory_at is not None:
            query, key = rotate(query, at), rotate(key, memory_at)
        query = query.reshape(len(memory), -1, width)
        return self._attended(query, key, value, seen).reshape(queries.shape)

    def beside(self, tokens: Tensor, scene: Tensor, at: Rotary, scene_at: Rotary) -> tuple[Tensor, Tensor]:
        """Attention among the tokens of B scenes, and from every group of tokens to its scene and itself.

        Args:
            tokens: (m B, n, width); m consecutive groups of n belong to one scene and do not see each other.
            scene: (B, M, width).
            at: Positions of the tokens.
            scene_at: Positions of the scene.

        Returns:
            (m B, n, width) and (B, M, width).
        """
        groups, own, scenes = tokens.shape[0] // scene.shape[0], tokens.shape[1], scene.shape[0]
        seen, parts = self._projected(scene, scene_at), self._projected(tokens, at)
        query, key, value = (part.reshape(scenes, groups * own, -1) for part in parts)
        key, value = torch.cat((seen[1], key), 1), torch.cat((seen[2], value), 1)
        mask = _visible(scene.shape[1], groups, own, scene.device)
        found = self._attended(query, key, value, mask)
        return found.reshape(tokens.shape), self._attended(*seen)

    def _projected(self, tokens: Tensor, at: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries, rotated keys and values (B, N, width)."""
        query, key, value = functional.linear(tokens, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        return rotate(query, at), rotate(key, at), value

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
        """What (B, N, width) queries find in (B, M, width) keys and values, where ``seen`` lets them look."""
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        attended = _attend(query, key, value, self.dropout if self.training else 0.0, seen)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def _attend(query: Tensor, key: Tensor, value: Tensor, dropout: float, seen: Tensor | None) -> Tensor:
    """Softmax attention of (B, heads, N, channels), scaled by the root of the channels."""
    channels = query.shape[-1]
    filling = (0, -channels % CHANNEL_MULTIPLE if query.requires_grad else 0)
    query, key, value = (functional.pad(part, filling) for part in (query, key, value))
    attended = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, dropout_p=dropout, scale=channels**-0.5
    )
    return attended[..., :channels]


def _visible(scene: int, groups: int, own: int, device: torch.device) -> Tensor:
    """(groups * own, scene + groups * own) bool: every token sees the whole scene, and its own group."""
    alone = torch.eye(groups, dtype=torch.bool, device=device)
    alone = alone.repeat_interleave(own, 0).repeat_interleave(own, 1)
    return torch.cat((torch.ones(groups * own, scene, dtype=torch.bool, device=device), alone), 1)


class AttentionLayer(nn.Module):
    """Attention, residual and layer norm. The residual is not modulated."""

    def __init__(self, width: int, heads: int, dropout: float, conditioned: bool, modulate_memory: bool) -> None:
        super().__init__()
        self.modulate_memory = modulate_memory
        self.adaln = AdaLN(width) if conditioned else None
        self.attention = Attention(width, heads, dropout)
        self.dropout = nn.Dropout(dropout)
        self.norm_q = nn.LayerNorm(width)

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor | None,
        at: Rotary | None = None,
        memory_at: Rotary | None = None,
        condition: Tensor | None = None,
        query_offset: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Tokens after attention to ``memory``, or to themselves where it is None; see :class:`AttentionStack`."""
        queries = tokens if query_offset is None else tokens + query_offset
        if self.adaln is not None:
            queries = self.adaln(queries, condition)
        if memory is None:
            memory, memory_at = (queries if self.modulate_memory else tokens), at
        return self.norm_q(tokens + self.dropout(self.attention(queries, memory, at, memory_at, seen)))

    def beside(self, tokens: At, scene: At) -> tuple[Tensor, Tensor]:
        """Both after attention to the scene, and of the tokens to their own group; see :meth:`Attention.beside`."""
        assert self.adaln is not None
        asked, shown = self.adaln(tokens.values, tokens.condition), self.adaln(scene.values, scene.condition)
        found = self.attention.beside(asked, shown, tokens.at, scene.at)
        mine, theirs = (self.dropout(part) for part in found)
        return self.norm_q(tokens.values + mine), self.norm_q(scene.values + theirs)


class FeedForward(nn.Module):
    """Two linear layers, residual and layer norm. The residual is the modulated input."""

    def __init__(self, width: int, hidden: int, dropout: float, conditioned: bool) -> None:
        super().__init__()
        layers = (nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
        self.ffn = nn.Sequential(*layers, nn.Dropout(dropout))
        self.norm = nn.LayerNorm(width)
        for layer in (self.ffn[0], self.ffn[3]):
            nn.init.xavier_uniform_(layer.weight)
        self.adaln = AdaLN(width) if conditioned else None

    def forward(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.adaln is not None:
            tokens = self.adaln(tokens, condition)
        return self.norm(tokens + self.ffn(tokens))


class AttentionStack(nn.Module):
    """Layers of attention, each followed by a feed-forward layer."""

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        *,
        hidden: int,
        dropout: float,
        conditioned: bool = False,
        modulate_memory: bool = False,
        feed_forward: bool = True,
    ) -> None:
        """Create the layers.

        Args:
            layers: Number of layers.
            width: Channels of tokens, conditions and memory.
            heads: Attention heads.
            hidden: Channels inside the feed-forward layers.
            dropout: Dropout of attention weights and of what is added to the residual.
            conditioned: Whether tokens are modulated by a condition.
            modulate_memory: In self-attention, whether keys and values are modulated too.
            feed_forward: Whether there are feed-forward layers.
        """
        super().__init__()
        kinds = (conditioned, modulate_memory)
        self.attn_layers = nn.ModuleList(AttentionLayer(width, heads, dropout, *kinds) for _ in range(layers))
        count = layers if feed_forward else 0
        self.ffw_layers = nn.ModuleList(FeedForward(width, hidden, dropout, conditioned) for _ in range(count))

    def forward(
        self,
        tokens: Tensor,
        memory: Tensor | None,
        at: Rotary | None = None,
        memory_at: Rotary | None = None,
        condition: Tensor | None = None,
        query_offset: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Tokens (m B, N, width) after all layers.

        Args:
            tokens: (m B, N, width).
            memory: What is attended to (B, M, width); None for self-attention.
            at: Rotary positions of the tokens.
            memory_at: Rotary positions of the memory; unused in self-attention.
            condition: (m B, width), for a stack created with ``conditioned``.
            query_offset: Added to the queries only, (1 or m B, N, width).
            seen: (B, 1, 1, M) False where the memory is padding.
        """
        for index, layer in enumerate(self.attn_layers):
            tokens = layer(tokens, memory, at, memory_at, condition, query_offset, seen)
            if len(self.ffw_layers) > 0:
                tokens = self.ffw_layers[index](tokens, condition)
        return tokens

    def beside(self, tokens: At, scene: At) -> tuple[At, At]:
        """Tokens (m B, n, width) and the scene (B, M, width) that they look at, after all layers.

        The scene does not see the tokens, so its part of the work is done once for all m groups.
        """
        for layer, feed_forward in zip(self.attn_layers, self.ffw_layers, strict=True):
            mine, theirs = layer.beside(tokens, scene)
            tokens = tokens._replace(values=feed_forward(mine, tokens.condition))
            scene = scene._replace(values=feed_forward(theirs, scene.condition))
        return tokens, scene
