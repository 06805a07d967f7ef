"""What every optimiser step needs: parameter groups, the step itself, averaged weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters in two groups: weight matrices decay, norms and biases do not."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def optimizer_step(
    loss: Tensor,
    network: nn.Module,
    optimizers: Sequence[Optimizer],
    lr: float,
    clip_norm: float,
    average_gradients: Callable[[], None] = lambda: None,
) -> None:
    """Back-propagate and step.

    Args:
        loss: Scalar.
        network: The gradients of its parameters are clipped.
        optimizers: Each makes a step.
        lr: Learning rate of all of them; times ``lr_scale`` in a parameter group that has one.
        clip_norm: Largest norm of the gradient.
        average_gradients: Called before clipping; over the processes of a run.
    """
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
    loss.backward()
    average_gradients()
    nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    for optimizer in optimizers:
        optimizer.step()


class AveragedWeights:
    """Exponential moving average of a network's weights.

    Attributes:
        weights: As in the network's state dict.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = {name: value.detach().clone() for name, value in weights.items()}

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float) -> None:
        """Take in the network's present weights; ``decay`` is the share of the average that stays."""
        for name, value in network.state_dict().items():
            mine = self.weights[name]
            if mine.is_floating_point():
                mine.lerp_(value.detach(), 1.0 - decay)
            else:
                mine.copy_(value)
