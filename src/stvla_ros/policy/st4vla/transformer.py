"""The action transformer: noisy actions and condition tokens in one sequence (DiT, arXiv 2212.09748).

Parameters have the names of the published ``action_model.net``; its ``history_embedder``, which is never used, does not
exist.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvla_ros.policy.st4vla.config import ActionExpertConfig

TIME_CHANNELS = 256


def time_features(times: Tensor) -> Tensor:
    """(B, 256) cosines, then sines, of times (B,) at frequencies 10000 ** (-k / 128)."""
    half = TIME_CHANNELS // 2
    frequencies = torch.exp(torch.arange(half, device=times.device) * (-math.log(10000.0) / half))
    angles = times.to(torch.promote_types(times.dtype, torch.float32))[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), -1)


class _Embedded(nn.Module):
    """A linear layer under the published name."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class _Time(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_CHANNELS, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, times: Tensor) -> Tensor:
        return self.mlp(time_features(times).to(self.mlp[0].weight.dtype))


class _Condition(nn.Module):
    """Condition tokens, or the learned null tokens that stand for no condition."""

    def __init__(self, queries: int, channels: int, width: int) -> None:
        super().__init__()
        self.uncondition = nn.Parameter(torch.randn(queries, channels) * 0.02)
        self.linear = nn.Linear(channels, width)

    def forward(self, condition: Tensor, dropped: Tensor | None) -> Tensor:
        if dropped is not None:
            condition = torch.where(dropped[:, None, None], self.uncondition, condition)
        return self.linear(condition)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))


class _Block(nn.Module):
    """Norms first, and without parameters; nothing is modulated."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = _Attention(width, heads)
        self.mlp = _FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(_normed(x))
        return x + self.mlp(_normed(x))


def _normed(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6)


class ActionTransformer(nn.Module):
    """Predicts noise or velocity of an action chunk. Zero before training."""

    def __init__(self, config: ActionExpertConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.x_embedder = _Embedded(config.action_dim, width)
        self.t_embedder = _Time(width)
        self.z_embedder = _Condition(config.queries, config.bridge_width, width)
        self.positional_embedding = nn.Parameter(torch.randn(config.queries + config.chunk, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width, config.heads) for _ in range(config.depth))
        self.final_layer = _Embedded(width, config.action_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for linear in (self.x_embedder.linear, self.z_embedder.linear, self.t_embedder.mlp[0], self.t_embedder.mlp[2]):
            nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(self.final_layer.linear.weight)

    def forward(self, noisy: Tensor, times: Tensor, condition: Tensor, dropped: Tensor | None = None) -> Tensor:
        """(B, T, D) prediction.

        Args:
            noisy: Noisy actions (B, T, D), T at most ``chunk``.
            times: (B,) diffusion steps, or a flow's times multiplied by 1000.
            condition: (B, queries, bridge_width) of the bridge.
            dropped: (B,) bool, True where the null tokens replace the condition; None: nowhere.

        Raises:
            ValueError: A shape does not fit.
        """
        c = self.config
        if noisy.ndim != 3 or noisy.shape[-1] != c.action_dim or not 1 <= noisy.shape[1] <= c.chunk:
            raise ValueError(f"wanted actions (B, 1 to {c.chunk}, {c.action_dim}), got {tuple(noisy.shape)}.")
        if condition.shape != (len(noisy), c.queries, c.bridge_width):
            wanted = (len(noisy), c.queries, c.bridge_width)
            raise ValueError(f"wanted condition tokens {wanted}, got {tuple(condition.shape)}.")
        told = self.z_embedder(condition, dropped) + self.t_embedder(times)[:, None]
        x = torch.cat((told, self.x_embedder(noisy)), 1)
        x = x + self.positional_embedding[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.final_layer(_normed(x[:, c.queries :]))
