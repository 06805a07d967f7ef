"""How a model that may not know our protocol is asked."""

from __future__ import annotations

from dataclasses import dataclass

from stvla_ros.planning.prompt import RANGES


@dataclass(frozen=True)
class Asking:
    """How questions are put.

    Attributes:
        convention: Coordinates that the model is asked for: ``norm1000``, ``norm1`` or ``pixel``.
    """

    convention: str = "norm1000"

    def points(self, words: str) -> str:
        """A request for one or more points."""
        return f"{words} Answer with one or more points only, as [(x, y), ...], {RANGES[self.convention]}."

    def path(self, words: str) -> str:
        """A request for a path."""
        return f"{words} Answer with the points of the path only, as [(x, y), ...], {RANGES[self.convention]}."

    def letter(self, words: str) -> str:
        """A question with lettered options."""
        return f"{words}\nAnswer with the letter of the option only, as (A)."
