"""All scales and shifts of all denoising steps, before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvla_ros.policy.network.attention import AdaLN
from stvla_ros.policy.network.fast.layers import Affine


class Modulations:
    """The adaptive modulations of a head in the order of their use, each with the layer norm in front of it, if any.

    What they depend on, the time and the history, is known before the first step: one matrix product gives all of
    them. A layer norm's own scale and shift (w, b), followed by a modulation ``x (1 + s) + t``, is one affine map with
    scale ``w (1 + s)`` and shift ``b (1 + s) + t``, so that the modulation behind a norm costs nothing in a step.
    """

    def __init__(self, pairs: Sequence[tuple[AdaLN | None, nn.LayerNorm | None]], groups: Sequence[int]) -> None:
        """Stack weights.

        Args:
            pairs: Modulations and the norms in front of them.
            groups: How many of them are used side by side, in the same order.
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
        """One after the other, those (modulations, S, 1, width) of one step, grouped."""
        return map(Affine, scale.split(self.groups), shift.split(self.groups))
