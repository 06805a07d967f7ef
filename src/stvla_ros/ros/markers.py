"""RViz markers of the 3D path, its tube, the kept and removed instances, and the keypose that comes next."""

from __future__ import annotations

from geometry_msgs.msg import Point, Pose, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from stvla_ros.description.panda import MAX_WIDTH_M
from stvla_ros.geometry.paths import arc_length
from stvla_ros.motion.approval import Proposal, Status
from stvla_ros.ros.convert import header
from stvla_ros.types import DepthSource, Guidance, Instance, Trace3d

LINE_M, ARROW_M, CLOSED_M = 0.006, 0.1, 0.02
KEPT = ColorRGBA(r=0.1, g=0.8, b=0.2, a=0.35)
REMOVED = ColorRGBA(r=0.9, g=0.2, b=0.1, a=0.35)
ASKED = ColorRGBA(r=1.0, g=0.66, b=0.16, a=1.0)
COMES = ColorRGBA(r=0.35, g=0.63, b=1.0, a=1.0)
DONE = ColorRGBA(r=0.6, g=0.6, b=0.6, a=0.4)


def path_markers(
    trace: Trace3d, tube_radius_m: float, stamp_ns: int, base_frame: str, progress_m: float = 0.0
) -> MarkerArray:
    """The path as a line from start (red) to goal (blue), grey behind the tool, and the spheres of the tube."""
    xyz = trace.xyz_m[trace.source != DepthSource.INVALID]
    points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in xyz]
    share = [i / max(1, len(points) - 1) for i in range(len(points))]
    line = _marker(Marker.LINE_STRIP, "path", 0, LINE_M, stamp_ns, base_frame)
    ahead = arc_length(xyz) >= progress_m
    line.colors = [
        ColorRGBA(r=1.0 - s, g=0.1, b=s, a=1.0) if new else DONE for s, new in zip(share, ahead, strict=True)
    ]
    tube = _marker(Marker.SPHERE_LIST, "tube", 0, 2 * tube_radius_m, stamp_ns, base_frame)
    tube.color = ColorRGBA(r=0.2, g=0.8, b=0.4, a=0.15)
    line.points = tube.points = points
    return MarkerArray(markers=[line, tube])


def guidance_markers(guidance: Guidance, base_frame: str) -> MarkerArray:
    """:func:`path_markers`, and a box with an id around each instance: green if kept, red if removed."""
    stamp_ns = guidance.frame.stamp_ns
    array = path_markers(guidance.trace, guidance.tube_radius_m, stamp_ns, base_frame, guidance.progress_m)
    for namespace in ("instances", "ids"):
        wipe = _marker(Marker.CUBE, namespace, 0, 0.0, stamp_ns, base_frame)
        wipe.action = Marker.DELETEALL
        array.markers.append(wipe)
    for instance in guidance.instances:
        array.markers += _instance_markers(instance, instance.id in guidance.kept_ids, stamp_ns, base_frame)
    return array


def keypose_markers(proposal: Proposal, stamp_ns: int, base_frame: str) -> MarkerArray:
    """An arrow along the tool to the proposed keypose, and a bar along the opening of its fingers.

    Orange while it waits for a person, blue once it does not; gone when it was refused, withdrawn or expired.
    """
    T = proposal.keypose.T_base_tcp
    tip, approach, across = T[:3, 3], T[:3, 2], T[:3, 1]
    half_m = (MAX_WIDTH_M if proposal.keypose.gripper_open else CLOSED_M) / 2
    arrow = _marker(Marker.ARROW, "keypose", 0, 0.0, stamp_ns, base_frame)
    arrow.scale = Vector3(x=0.008, y=0.02, z=0.03)  # diameters of shaft and head, length of the head
    fingers = _marker(Marker.LINE_LIST, "keypose", 1, LINE_M, stamp_ns, base_frame)
    for marker, ends in (
        (arrow, (tip - ARROW_M * approach, tip)),
        (fingers, (tip - half_m * across, tip + half_m * across)),
    ):
        marker.points = [Point(x=float(x), y=float(y), z=float(z)) for x, y, z in ends]
        marker.color = ASKED if proposal.status is Status.WAITING else COMES
        if proposal.status in (Status.REFUSED, Status.EXPIRED, Status.WITHDRAWN):
            marker.action = Marker.DELETE
    return MarkerArray(markers=[arrow, fingers])


def _instance_markers(instance: Instance, kept: bool, stamp_ns: int, base_frame: str) -> list[Marker]:
    (x, y, z), (dx, dy, dz) = instance.centre_m.tolist(), (instance.size_m + 0.002).tolist()
    box = _marker(Marker.CUBE, "instances", instance.id, 1.0, stamp_ns, base_frame)
    box.pose.position = Point(x=x, y=y, z=z)
    box.scale, box.color = Vector3(x=dx, y=dy, z=dz), KEPT if kept else REMOVED
    name = _marker(Marker.TEXT_VIEW_FACING, "ids", instance.id, 0.025, stamp_ns, base_frame)
    name.pose.position = Point(x=x, y=y, z=z + dz / 2 + 0.02)
    name.text = str(instance.id)
    return [box, name]


def _marker(kind: int, namespace: str, number: int, size_m: float, stamp_ns: int, base_frame: str) -> Marker:
    return Marker(
        header=header(stamp_ns, base_frame),
        ns=namespace,
        id=number,
        type=kind,
        action=Marker.ADD,
        pose=Pose(),
        scale=Vector3(x=size_m, y=size_m, z=size_m),
        color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
    )
