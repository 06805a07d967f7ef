"""The 3D path and its tube for RViz."""

from __future__ import annotations

from geometry_msgs.msg import Point, Pose, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from stvla_ros.ros.convert import BASE_FRAME, header
from stvla_ros.types import DepthSource, Trace3d

LINE_M = 0.006


def path_markers(trace: Trace3d, tube_radius_m: float, stamp_ns: int, base_frame: str = BASE_FRAME) -> MarkerArray:
    """A line from start (red) to goal (blue) and the balls whose union is the tube."""
    used = trace.source != DepthSource.INVALID
    points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in trace.xyz_m[used]]
    share = [i / max(1, len(points) - 1) for i in range(len(points))]
    line = _marker(Marker.LINE_STRIP, 0, LINE_M, stamp_ns, base_frame)
    line.colors = [ColorRGBA(r=1.0 - s, g=0.1, b=s, a=1.0) for s in share]
    tube = _marker(Marker.SPHERE_LIST, 1, 2 * tube_radius_m, stamp_ns, base_frame)
    tube.color = ColorRGBA(r=0.2, g=0.8, b=0.4, a=0.15)
    line.points = tube.points = points
    return MarkerArray(markers=[line, tube])


def _marker(kind: int, number: int, size_m: float, stamp_ns: int, base_frame: str) -> Marker:
    return Marker(
        header=header(stamp_ns, base_frame),
        ns="stvla",
        id=number,
        type=kind,
        action=Marker.ADD,
        pose=Pose(),
        scale=Vector3(x=size_m, y=size_m, z=size_m),
        color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
    )
