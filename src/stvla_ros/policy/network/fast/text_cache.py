"""Instruction features, computed once per instruction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor

CAPACITY = 64
"""Batches of instructions that are remembered; one takes about 25 kB."""


class TextCache:
    """Remembers the latest results of a text encoder, by the token ids they came from.

    Nobody may write to what is returned.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], capacity: int = CAPACITY) -> None:
        self.encode, self.capacity = encode, capacity
        self._known: OrderedDict[tuple[tuple[int, ...], bytes], Tensor] = OrderedDict()

    def __call__(self, ids: Tensor) -> Tensor:
        """Features (B, n, channels) of ids (B, n); reading ids from a GPU waits for it."""
        key = (tuple(ids.shape), ids.cpu().numpy().tobytes())
        if key not in self._known:
            self._known[key] = self.encode(ids)
        self._known.move_to_end(key)
        while len(self._known) > self.capacity:
            self._known.popitem(last=False)
        return self._known[key]

    def clear(self) -> None:
        self._known.clear()

    def __len__(self) -> int:
        return len(self._known)
