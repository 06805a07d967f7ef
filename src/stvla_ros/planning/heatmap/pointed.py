"""Things whose shape is found by geometry, and of which the heatmap network says which one is meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stvla_ros.errors import StageError
from stvla_ros.geometry.cameras import project, px_to_uv
from stvla_ros.planning.fittings import DISH_TOP_M
from stvla_ros.planning.groceries import Store
from stvla_ros.planning.heatmap.words import Name
from stvla_ros.planning.pantry import RESTING_PX, Item, Pantry, Shelf, on_shelf, survey
from stvla_ros.planning.storing import release_place
from stvla_ros.planning.table_view import TableView, refused
from stvla_ros.tabletop.interaction import is_clear, released_at
from stvla_ros.tabletop.objects import TableObject
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.types import F64, Camera, PlanRequest

NEAR = 45.0
"""Largest image distance of a thing from where the network points [1/1000]: half of what is between two of them."""

INSIDE_M = 0.15
"""The hand let go of an item in the cupboard if it was this close to where items are released."""

ANY_SIZE_M = (0.045, 0.065, 0.080)
"""Of an item that was in the hand before it was seen."""


@dataclass(frozen=True, eq=False)
class PointedView(TableView):
    """A table on which the network tells objects of one kind apart.

    Attributes:
        choose: Which of the objects at (N, 2) places in the image, 0..1000, bears a name; raises GOAL_NOT_GROUNDED.
    """

    choose: Callable[[Name, F64], int] = lambda name, places_uv: 0

    def one(self, kind: str, colour: str | None = None) -> TableObject:
        """The object of a kind that bears the name. Raises GOAL_NOT_GROUNDED."""
        found = [thing for thing in self.objects if thing.kind == kind]
        if not found:
            raise refused(f"I see nothing with the shape of a {kind}: move the camera or the objects.")
        if not colour and len(found) == 1:
            return found[0]  # its shape says it all
        # the glass of a bulb is what is highest of a holder, but its dish has the colour
        points = np.array([[*t.centre_m[:2], DISH_TOP_M if kind == "holder" else t.centre_m[2]] for t in found])
        return found[self.choose(Name(kind, colour or ""), _uv(points, self.request.frame.camera))]

    def sentence(self) -> str:
        """Nothing: which thing has which colour is known of named ones only."""
        return ""


class PointedItems:
    """The item that the network points to. Its size is that which the image shows. Methods: see
    :class:`stvla_ros.planning.storing.Items`.

    Args:
        place: Where the item is in the image, (2,) 0..1000; raises GOAL_NOT_GROUNDED.
        clear_m: See :func:`stvla_ros.tabletop.interaction.is_clear`.
        size_m: The item's, as last seen in this task.
    """

    def __init__(
        self,
        place: Callable[[], F64],
        clear_m: float,
        size_m: tuple[float, float, float] = ANY_SIZE_M,
    ) -> None:
        self._place, self._clear_m, self.seen_m = place, clear_m, size_m
        self._error: StageError | None = None
        self._inside = True  # nothing says that the item is not what rests on the shelf

    def pantry(self, request: PlanRequest) -> Pantry:
        return survey(request.frame, lambda points: robot_mask(points, request.robot))

    def on_table(self, task: Store, request: PlanRequest, pantry: Pantry, shelf: Shelf) -> Item | None:
        if self._put_away(request, pantry, shelf):
            return None
        try:
            uv = self._place()
        except StageError as error:
            self._error = error
            return None
        at = nearest(uv, [item.top_m for item in pantry.found], request.frame.camera)
        if at is None:
            stored = [*pantry.cupboard_m[on_shelf(pantry.cupboard_m, shelf)][::4].astype(np.float64)]
            self._inside = nearest(uv, stored, request.frame.camera) is not None
            return None
        self.seen_m = pantry.found[at].size_m
        return pantry.found[at]

    def size_m(self, task: Store) -> tuple[float, float, float]:
        return self.seen_m

    def rests_inside(self, task: Store, pantry: Pantry, shelf: Shelf) -> bool:
        """Something rests on the shelf, and it is what the hand let go of there, or where the network sees the item."""
        return self._error is None and self._inside and _rests(pantry, shelf)

    def missing(self, task: Store, pantry: Pantry) -> StageError:
        return self._error or refused(f"I see the {task.item} neither on the table nor in the cupboard.")

    def _put_away(self, request: PlanRequest, pantry: Pantry, shelf: Shelf) -> bool:
        """The hand let go of the item in the cupboard. Until the hand is away, it hides what lies there."""
        place, released = release_place(shelf), released_at(request.history)
        if released is None or np.linalg.norm(released - place) > INSIDE_M:
            return False
        return not is_clear(request.robot, request.history, place, self._clear_m) or _rests(pantry, shelf)


def _rests(pantry: Pantry, shelf: Shelf) -> bool:
    return bool(on_shelf(pantry.cupboard_m, shelf).sum() >= RESTING_PX)


def nearest(uv: F64, points_m: list[F64], camera: Camera) -> int | None:
    """Index of the one of some (3,) points that is nearest to (2,) uv in the image; None if none is near."""
    if not points_m:
        return None
    gaps = np.hypot(*(_uv(np.array(points_m), camera) - uv).T)
    return int(np.argmin(gaps)) if gaps.min() < NEAR else None


def _uv(points_m: F64, camera: Camera) -> F64:
    """(N, 2) places of (N, 3) points in the image, 0..1000."""
    px, _ = project(camera, points_m)
    return px_to_uv(px, camera)
