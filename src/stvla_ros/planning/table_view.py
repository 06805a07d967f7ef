"""One request and the objects in its frame, found by colour and shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import depth_cloud
from stvla_ros.geometry.depths import without_specks
from stvla_ros.tabletop.interaction import is_clear, is_holding
from stvla_ros.tabletop.objects import TableObject, recognise_objects
from stvla_ros.tabletop.regions import RegionConfig, Regions, find_regions
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.types import F32, F64, U8, PlanRequest


@dataclass(frozen=True, eq=False)
class TableView:
    """What a request shows. Objects are looked for when they are asked for.

    Attributes:
        request: The request.
        find: Recognises objects in regions of the image.
        said: What :meth:`sentence` says in place of a list of blocks, plates and buttons.
    """

    request: PlanRequest
    find: Callable[[Regions, U8], list[TableObject]] = recognise_objects
    said: str = ""

    @cached_property
    def regions(self) -> Regions:
        frame = self.request.frame
        depth = without_specks(frame.depth_m)
        points = depth_cloud(frame.camera, depth)
        return find_regions(frame.rgb, depth, points, robot_mask(points, self.request.robot), RegionConfig())

    @cached_property
    def objects(self) -> tuple[TableObject, ...]:
        return tuple(self.find(self.regions, self.request.frame.rgb))

    @property
    def standing_m(self) -> F32:
        """(N, 3) every fourth point above the table, without the robot."""
        return self.regions.points_m[:, self.regions.labels > 0].T[::4]

    @property
    def tool_m(self) -> F64:
        return self.request.robot.T_base_tcp[:3, 3]

    @property
    def holding(self) -> bool:
        return is_holding(self.request.robot, self.request.history)

    def clear_of(self, place_m: F64, clear_m: float) -> bool:
        """See :func:`stvla_ros.tabletop.interaction.is_clear`."""
        return is_clear(self.request.robot, self.request.history, place_m, clear_m)

    def sentence(self) -> str:
        """What the planner sees."""
        if self.said:
            return self.said
        names = sorted(found.name for found in self.objects if found.kind != "other")
        if not names:
            return "I see no block, plate or button."
        return f"I see {', '.join(f'{_article(name)} {name}' for name in names)}."

    def one(self, kind: str, colour: str | None = None) -> TableObject:
        """The only object of a kind and colour. Raises GOAL_NOT_GROUNDED for none or several."""
        wanted = f"{colour} {kind}" if colour else kind
        found = [found for found in self.objects if found.kind == kind]
        if colour is not None:
            found = _best_coloured(found, colour)
        if len(found) == 1:
            return found[0]
        what = f"no {wanted}" if not found else f"{len(found)} objects that could be the {wanted}"
        raise refused(f"I see {what}. {self.sentence()}")

    def unoccluded(self, found: TableObject) -> TableObject:
        """The object, if enough of its top is visible to locate its centre. Raises GOAL_NOT_GROUNDED."""
        if found.kind == "block" and min(found.size_m) < 0.7 * max(found.size_m):
            raise refused(f"The {found.name} is partly hidden. {self.sentence()}")
        return found


def refused(sentence: str) -> StageError:
    """The error of a planner that does not see what is asked for."""
    return StageError(OutcomeCode.GOAL_NOT_GROUNDED, sentence)


def _best_coloured(objects: list[TableObject], colour: str) -> list[TableObject]:
    """Objects of a colour, else those that may have it; only the best one if it is clearly better."""
    exact = [t for t in objects if t.colour == colour]
    found = exact or [t for t in objects if t.may_be(colour)]
    found.sort(key=lambda t: (t.covered, t.costs[colour]))
    if len(found) > 1 and (found[0].covered, found[0].costs[colour] + 0.03) < (
        found[1].covered,
        found[1].costs[colour],
    ):
        return found[:1]
    return found


def _article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"
