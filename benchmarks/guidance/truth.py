"""Which objects matter, from the simulator's shapes and the tool's true path, without any code of the stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scipy.spatial import cKDTree

from stvla_ros.types import F64


@dataclass(frozen=True)
class TrueRelevance:
    """Truth of one frame.

    Attributes:
        relevant: Objects that must stay.
        distance_m: Distance of each object's surface from the way.
        by_end_rule: Those of ``relevant`` that only the end rule adds.
    """

    relevant: frozenset[str]
    distance_m: dict[str, float]
    by_end_rule: frozenset[str]


def true_relevance(
    surfaces_m: Mapping[str, F64], way_m: F64, radius_m: float, end_radius_m: float, end_domain_m: float, holding: bool
) -> TrueRelevance:
    """Sort the objects by the distance of their whole surface from the way.

    Args:
        surfaces_m: (N, 3) points all over each object that counts.
        way_m: (M, 3) dense points of the tool's way.
        radius_m: Nearer ones matter.
        end_radius_m: Where no object that matters is this near to an end of the way, the nearest one matters too.
        end_domain_m: But none farther from that end than this.
        holding: The robot holds an object at the start, so that the start needs none.
    """
    distance = {name: _gap(points, way_m) for name, points in surfaces_m.items()}
    tube = {name for name, d in distance.items() if d <= radius_m}
    added: set[str] = set()
    for end in (way_m[-1:],) if holding else (way_m[:1], way_m[-1:]):
        to_end = {name: _gap(points, end) for name, points in surfaces_m.items()}
        if not any(to_end[name] <= end_radius_m for name in tube | added) and to_end:
            nearest = min(to_end, key=to_end.__getitem__)
            added |= {nearest} if to_end[nearest] <= end_domain_m else set()
    return TrueRelevance(frozenset(tube | added), distance, frozenset(added))


def _gap(points_m: F64, way_m: F64) -> float:
    return float(cKDTree(way_m).query(points_m)[0].min())
