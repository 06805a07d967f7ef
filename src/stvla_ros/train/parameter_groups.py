"""Groups of parameters for optimizers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.nn import Parameter


def decaying(parameters: Iterable[Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """What is trained, in two groups: weight matrices decay, norms and biases do not."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
