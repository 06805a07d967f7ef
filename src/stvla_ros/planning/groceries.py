"""Groceries: what they are called, what they look like to a camera, and the words that put one in the cupboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stvla_ros.planning.wordings import Wordings


@dataclass(frozen=True)
class Store:
    """Put a grocery item on the bottom shelf of the cupboard.

    Attributes:
        item: One of :data:`ITEMS`.
    """

    item: str

    @property
    def sentence(self) -> str:
        return f"pick up the {self.item} and put it in the cupboard"


@dataclass(frozen=True)
class Look:
    """What tells a kind of item from the others, seen from above and from the side.

    Attributes:
        top: Red, green, blue of its top, 0..1.
        side: The same of most of its sides.
        size_m: Its top's shorter edge, its longer one, and its height. A round one has its diameter twice.
    """

    top: tuple[float, float, float]
    side: tuple[float, float, float]
    size_m: tuple[float, float, float]


ITEMS: dict[str, Look] = {
    "crackers": Look((0.72, 0.07, 0.06), (0.72, 0.07, 0.06), (0.040, 0.080, 0.115)),
    "chocolate jello": Look((0.30, 0.16, 0.08), (0.30, 0.16, 0.08), (0.032, 0.068, 0.054)),
    "strawberry jello": Look((0.95, 0.46, 0.62), (0.95, 0.46, 0.62), (0.028, 0.062, 0.050)),
    "soup": Look((0.66, 0.67, 0.69), (0.80, 0.06, 0.08), (0.050, 0.050, 0.075)),
    "tuna": Look((0.06, 0.32, 0.80), (0.06, 0.32, 0.80), (0.058, 0.058, 0.028)),
    "spam": Look((0.05, 0.08, 0.34), (0.05, 0.08, 0.34), (0.042, 0.066, 0.052)),
    "coffee": Look((0.10, 0.10, 0.10), (0.13, 0.30, 0.16), (0.056, 0.056, 0.080)),
    "mustard": Look((0.75, 0.10, 0.06), (0.95, 0.72, 0.04), (0.036, 0.052, 0.108)),
    "sugar": Look((0.93, 0.92, 0.88), (0.93, 0.92, 0.88), (0.032, 0.062, 0.100)),
}
"""In RLBench's order of variations. A planner that grounds by looks has them from here, as it has colours by name."""

_ITEM = rf"(?:the |my |our )?(?P<item>{'|'.join(ITEMS)})"
_CUPBOARD = r"(?:in|into|inside) (?:the |our |my )?(?:cupboard|cabinet)"
_SHELF = r"(?:to|on|onto) the bottom shelf(?: of the (?:cupboard|cabinet))?"
_PUT = r"(?:put|place|store|stow|set|move|bring)"


def _store(said: Mapping[str, str]) -> Store:
    return Store(said["item"])


STORE_WORDINGS: Wordings[Store] = Wordings(
    frozenset({"cupboard", "cabinet", "shelf", "groceries", *(word for name in ITEMS for word in name.split())}),
    (
        rf"{_PUT} (?:away )?{_ITEM} (?:away )?(?:{_CUPBOARD}|{_SHELF})",
        rf"(?:pick up|pick|take|grasp|grab|get) {_ITEM}(?: up)?(?: ,)? and(?: then)? {_PUT} it (?:away )?(?:{_CUPBOARD}|{_SHELF})",
    ),
    _store,
    "say it as in 'put the soup in the cupboard' or 'move the soup to the bottom shelf'",
)
