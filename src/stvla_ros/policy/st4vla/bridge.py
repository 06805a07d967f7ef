"""From hidden states of a VLM to a fixed number of condition tokens: a querying transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stvla_ros.policy.st4vla.config import ActionExpertConfig


class _ScaledGradient(torch.autograd.Function):
    """Not ``s * x + (1 - s) * x.detach()``, whose forward value rounds."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.scale, None


def scaled_gradient(x: Tensor, scale: float) -> Tensor:
    """``x`` itself, bit for bit, whose gradient is multiplied by ``scale``."""
    return x.detach() if scale == 0.0 else _ScaledGradient.apply(x, scale)


class BridgeBlock(nn.Module):
    """Queries attend to tokens, then a feed-forward layer; norms first, on the queries only."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, queries: Tensor, tokens: Tensor, padding: Tensor) -> Tensor:
        """(B, Q, W) of queries (B, Q, W), tokens (B, L, W) and ``padding`` (B, L), True where there is no token."""
        found, _ = self.cross_attn(self.norm1(queries), tokens, tokens, key_padding_mask=padding, need_weights=False)
        queries = queries + found
        return queries + self.mlp(self.norm2(queries))


class QueryingTransformer(nn.Module):
    """Learned queries that read chosen hidden states of a VLM, one block per state.

    Parameters have the names of the published ``layer_qformer``. Unlike there, padding is masked, and the gradient into
    the VLM is scaled.
    """

    def __init__(self, config: ActionExpertConfig) -> None:
        super().__init__()
        self.gradient_scale = config.gradient_scale
        self.vlm_width = config.vlm_width
        self.proj = nn.Linear(config.vlm_width, config.bridge_width)
        self.query_tokens = nn.Parameter(torch.randn(config.queries, config.bridge_width))
        self.layers = nn.ModuleList(BridgeBlock(config.bridge_width, config.bridge_heads) for _ in range(config.layers))

    def forward(self, hidden: Sequence[Tensor], seen: Tensor, eye: Tensor | None = None) -> Tensor:
        """Condition tokens (B, queries, bridge_width).

        Args:
            hidden: The VLM's states (B, L, vlm_width), one per block.
            seen: (B, L) bool, False for padding, whose states are ignored, whatever they hold.
            eye: Further tokens (B, P, vlm_width), read by every block after the VLM's, with their whole gradient.

        Raises:
            ValueError: A shape does not fit, or an observation has no token.
        """
        self._check(hidden, seen, eye)
        queries = self.query_tokens.expand(len(seen), -1, -1)
        padding = ~seen
        if eye is not None:
            padding = torch.cat((padding, padding.new_zeros(eye.shape[:2])), 1)
        for block, state in zip(self.layers, hidden, strict=True):
            tokens = scaled_gradient(state, self.gradient_scale).masked_fill(~seen[..., None], 0.0)
            tokens = tokens if eye is None else torch.cat((tokens, eye), 1)
            queries = block(queries, self.proj(tokens), padding)
        return queries

    def _check(self, hidden: Sequence[Tensor], seen: Tensor, eye: Tensor | None) -> None:
        shapes = {tuple(state.shape) for state in hidden}
        wanted = (*seen.shape, self.vlm_width)
        if len(hidden) != len(self.layers) or shapes != {wanted} or seen.dtype != torch.bool:
            raise ValueError(
                f"wanted {len(self.layers)} hidden states {wanted} and a bool mask, got {len(hidden)} of "
                f"{sorted(shapes)} and {seen.dtype}."
            )
        if eye is not None and (len(eye) != len(seen) or eye.shape[-1] != self.vlm_width):
            raise ValueError(f"wanted eye tokens ({len(seen)}, P, {self.vlm_width}), got {tuple(eye.shape)}.")
        if not bool(seen.any(1).all()):
            raise ValueError("an observation has no token: all of it is padding.")
