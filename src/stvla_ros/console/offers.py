"""Goals to choose from: sentences about the objects that the camera sees, in words that every planner reads."""

from __future__ import annotations

from collections.abc import Sequence

from stvla_ros.geometry.cameras import depth_cloud
from stvla_ros.geometry.depths import without_specks
from stvla_ros.tabletop.objects import recognise_objects
from stvla_ros.tabletop.regions import RegionConfig, find_regions
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.types import RgbdFrame, RobotState

MOST = 12


def objects_seen(frame: RgbdFrame, robot: RobotState) -> list[str]:
    """Names of the blocks, plates and buttons on the table, e.g. "red block"; those that occur twice are left out."""
    depth = without_specks(frame.depth_m)
    points = depth_cloud(frame.camera, depth)
    regions = find_regions(frame.rgb, depth, points, robot_mask(points, robot), RegionConfig())
    names = [found.name for found in recognise_objects(regions, frame.rgb) if found.kind != "other"]
    return sorted(name for name in names if names.count(name) == 1)


def goals(names: Sequence[str]) -> tuple[str, ...]:
    """Sentences about objects of these names, at most :data:`MOST`."""
    blocks = [name for name in names if name.endswith(" block")]
    put = [f"Put the {block} in the plate." for block in blocks if "plate" in names]
    push = [f"Push the {name}." for name in names if name.endswith(" button")]
    stack = [f"Stack the {top} on the {base}." for top in blocks for base in blocks if top != base]
    return tuple([*put, *push, *stack][:MOST])
