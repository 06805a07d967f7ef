"""One run on several processes that ``torchrun`` has started: each takes a part of every batch."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import distributed
from torch.nn import Parameter


class Processes:
    """The processes of a run; alone without ``torchrun``.

    Attributes:
        rank: Which process this is; the first one writes.
        count: How many there are.
    """

    def __init__(self) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
            distributed.init_process_group("gloo")
        together = distributed.is_initialized()
        self.rank = distributed.get_rank() if together else 0
        self.count = distributed.get_world_size() if together else 1

    def average_gradients(self, parameters: Sequence[Parameter]) -> None:
        """Every process goes on with the mean, in the same order of parameters; one that has none counts as zero."""
        if self.count == 1:
            return
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        distributed.all_reduce(flat)
        for p, mean in zip(parameters, flat.div_(self.count).split([p.numel() for p in parameters]), strict=True):
            p.grad = mean.view_as(p)
