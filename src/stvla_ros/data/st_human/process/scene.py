"""What a hand-free image shows: the table's frame, the things on it, their boxes and colours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from stvla_ros.colours import COLOURS
from stvla_ros.data.st_human.process.folder import HumanVideo, Told, VideoError
from stvla_ros.geometry.cameras import rays
from stvla_ros.geometry.se3 import pose
from stvla_ros.tabletop.instances import look
from stvla_ros.tabletop.outlines import at_full_resolution, with_tips
from stvla_ros.tabletop.regions import RegionConfig, min_area_rectangle
from stvla_ros.tabletop.relations import OrientedBox
from stvla_ros.tabletop.surface_colours import colour_costs, robust_mean
from stvla_ros.types import F32, F64, I32, U8, RgbdFrame

WORK_PX = 320 * 240
"""Things are told apart in about this many pixels."""

TRIALS, SAMPLE, FLAT_M = 300, 4000, 0.008
"""Planes tried (RANSAC: Fischler and Bolles 1981), points that they are tried on, and how far these are off at most."""

UPRIGHT = 0.9
"""Cosine between a table's normal and up, where up is known."""

TABLE_SHARE = 0.15
"""Share of the image that the table fills at least."""

SLIVER_M, BOTTOM_M = 0.022, 0.015
"""What is narrower beside a thing is a part of it, and so is what is lower in a container."""

STRAY_M = 0.015
"""What has its middle nearer to a thing's footprint is a part of it, if nobody told that something else is there."""

TOP_M, NARROW_TOP = 0.008, 0.8
"""A thing is round whose uppermost part, so high, is narrower than that share of the whole."""

HOLLOW_M = 0.012
"""A container's middle is lower than its rim by more."""

SIZES_M: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "block": ((0.02, 0.1), (0.02, 0.12)), "board": ((0.004, 0.03), (0.12, 0.5)), "book": ((0.006, 0.05), (0.11, 0.32)),
    "bottle": ((0.13, 0.35), (0.05, 0.11)), "bowl": ((0.035, 0.1), (0.1, 0.28)), "box": ((0.03, 0.3), (0.05, 0.35)),
    "bin": ((0.06, 0.4), (0.1, 0.4)), "button": ((0.01, 0.05), (0.03, 0.12)), "can": ((0.06, 0.17), (0.05, 0.1)),
    "cup": ((0.06, 0.14), (0.055, 0.1)), "dial": ((0.012, 0.05), (0.035, 0.1)), "fruit": ((0.03, 0.1), (0.04, 0.12)),
    "lid": ((0.004, 0.06), (0.07, 0.3)), "mug": ((0.07, 0.12), (0.07, 0.13)), "plate": ((0.005, 0.035), (0.13, 0.3)),
    "pot": ((0.05, 0.2), (0.12, 0.3)), "sponge": ((0.015, 0.05), (0.06, 0.14)),
}  # fmt: skip
"""Usual height and longer side of things that are called so: tells things of one colour apart."""

SIZE_COST, SIZE_MOST = 0.4, 0.6
"""Cost of a size that is e times the usual, beside colours' costs of 0 to about 1, and the most that a size costs."""


@dataclass(frozen=True, eq=False)
class Thing:
    """Something on the table.

    Attributes:
        id: Of the instance.
        name: In sentences.
        category: E.g. ``block``.
        colour: Nearest named colour.
        roles: See :data:`stvla_ros.data.st_human.info.ROLES`.
        box: In the workspace.
        label: Its number in the label image.
    """

    id: str
    name: str
    category: str
    colour: str
    roles: tuple[str, ...]
    box: OrientedBox
    label: int


@dataclass(frozen=True, eq=False)
class Scene:
    """A hand-free frame.

    Attributes:
        frame: Its number.
        T_workspace_camera: (4, 4); the workspace is on the table: x right, y away from the viewer, z up.
        labels: (H, W) number of a thing, 0 elsewhere.
        things: By label.
    """

    frame: int
    T_workspace_camera: F64
    labels: I32
    things: Mapping[int, Thing]


def find_table(video: HumanVideo, depth_m: F32) -> F64:
    """(4, 4) T_workspace_camera: the largest plane, from below the image's centre.

    Raises:
        VideoError: No plane fills enough of the image.
    """
    points = backproject(video, depth_m)
    flat = points[np.isfinite(points[:, 2])]
    rng = np.random.default_rng(0)
    sample = flat[rng.integers(len(flat), size=SAMPLE)].astype(np.float64)
    best, most = np.zeros(4), 0
    flat_m = FLAT_M * np.clip(sample[:, 2] ** 2, 1.0, 4.0)
    for _ in range(TRIALS):
        a, b, c = sample[rng.integers(SAMPLE, size=3)]
        normal = np.cross(b - a, c - a)
        length = float(np.linalg.norm(normal))
        if length < 1e-6:
            continue
        normal = normal / length * -np.sign(normal @ a or 1.0)  # towards the camera
        if video.up is not None and normal @ video.up < UPRIGHT:
            continue
        fits = int(np.count_nonzero(np.abs((sample - a) @ normal) < flat_m))
        if fits > most:
            best, most = np.append(normal, -normal @ a), fits
    if most < TABLE_SHARE * SAMPLE:
        raise VideoError(
            f"{video.folder}: wanted a table that fills at least {100 * TABLE_SHARE:.0f} % of the first image, found no plane"
            f"{'' if video.up is None else ' that is level by T_base_camera'}."
        )
    for tolerance in (1.0, 0.6, 0.6):
        off = np.abs(sample @ best[:3] + best[3])
        near = sample[off < tolerance * flat_m]
        middle = near.mean(axis=0)
        normal = np.linalg.svd(near - middle, full_matrices=False)[2][2]
        normal *= -np.sign(normal @ middle)
        best = np.append(normal, -normal @ middle)
    return _workspace(best)


def _workspace(plane: F64) -> F64:
    """(4, 4) T_workspace_camera of a plane ``normal . p + d = 0`` in the camera's frame."""
    up = plane[:3]
    right = np.array([1.0, 0.0, 0.0]) - up * up[0]
    right /= np.linalg.norm(right)
    away = np.cross(up, right)
    origin = np.array([0.0, 0.0, -plane[3] / up[2]]) if abs(up[2]) > 0.1 else -plane[3] * up
    R = np.stack([right, away, up])
    return pose(R, -R @ origin)


def backproject(video: HumanVideo, depth_m: F32, stride: int = 1) -> F32:
    """(H * W, 3) points in the camera's frame, NaN where unknown; ``depth_m`` (H, W) has every ``stride``-th pixel."""
    points = rays(video.camera)[:, ::stride, ::stride] * depth_m
    return points.reshape(3, -1).T


def to_workspace(T_workspace_camera: F64, points: np.ndarray) -> F64:
    """(N, 3) points of the camera's frame in the workspace."""
    return np.asarray(points, np.float64) @ T_workspace_camera[:3, :3].T + T_workspace_camera[:3, 3]


def find_things(video: HumanVideo, frame: int, rgb: U8, depth_m: F32, T_workspace_camera: F64) -> Scene:
    """The things of a hand-free frame, by the geometric segmenter, with names.

    Args:
        video: For the camera and what people know.
        frame: Number of the frame.
        rgb: (H, W, 3).
        depth_m: (H, W); several frames may be averaged in it.
        T_workspace_camera: From :func:`find_table`.
    """
    camera = replace(video.camera, T_base_camera=T_workspace_camera)
    regions = RegionConfig(lower_m=(-1.3, -1.3, 0.0), upper_m=(1.3, 1.3, 0.9))
    view = look(RgbdFrame(rgb, depth_m, camera, 0), None, WORK_PX, 0.0, regions)
    labels = with_tips(view.labels, view.depth_m, view.colours, regions.step_m)
    labels = at_full_resolution(labels, view.depth_m, view.colours, rgb, depth_m, view.stride, regions.step_m)
    points = to_workspace(T_workspace_camera, backproject(video, depth_m))
    height = points[:, 2].reshape(depth_m.shape)
    found: dict[int, tuple[OrientedBox, F64]] = {}
    for label in range(1, int(labels.max(initial=0)) + 1):
        own = labels == label
        inner = cv2.erode(own.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        pixels = np.flatnonzero((inner if inner.sum() > 20 else own) & np.isfinite(depth_m))
        if len(pixels) >= 12 and _within(labels.shape, own):
            box = box_of(points[pixels], hollow=_hollow(own, height))
            box = _with_outline(box, points[pixels], T_workspace_camera, float(camera.K[0, 0]))
            found[label] = (box, robust_mean(rgb.reshape(-1, 3)[pixels]))
    labels = _without_parts(labels, found)
    labels, things = _without_strays(labels, _named(found, video.told), {o.name for o in video.told.objects})
    return Scene(frame, T_workspace_camera, labels, things)


def _without_strays(labels: I32, things: dict[int, Thing], told: set[str]) -> tuple[I32, dict[int, Thing]]:
    """Where people told what is there, what else is seen over or beside a thing of theirs is a part of it."""
    out, kept = labels.copy(), dict(things)
    known = [thing for thing in things.values() if thing.name in told]
    for label, thing in things.items():
        if thing.name in told:
            continue
        for whole in known:
            local = np.linalg.inv(whole.box.T_workspace_box) @ np.append(thing.box.center_m, 1.0)
            if (np.abs(local[:2]) < whole.box.size_m[:2] / 2 + STRAY_M).all():
                out[out == label] = whole.label
                del kept[label]
                break
    return out, kept


def _without_parts(labels: I32, found: dict[int, tuple[OrientedBox, F64]]) -> I32:
    """Labels in which slivers beside a thing and the bottoms of containers are parts of it; they leave ``found``."""
    out = labels.copy()
    for label in sorted(found, key=lambda k: float(np.prod(found[k][0].size_m))):
        box = found[label][0]
        sliver = min(box.size_m[:2]) < SLIVER_M
        for other, (whole, _) in found.items():
            if other == label or np.prod(whole.size_m) < np.prod(box.size_m):
                continue
            local = np.linalg.inv(whole.T_workspace_box) @ np.append(box.center_m, 1.0)
            beside = (np.abs(local[:2]) < whole.size_m[:2] / 2 + (0.02 if sliver else 0.0)).all()
            lower = box.center_m[2] + box.size_m[2] / 2 < whole.center_m[2] + whole.size_m[2] / 2 + 0.005
            if beside and lower and (sliver or (whole.container and box.size_m[2] < BOTTOM_M)):
                out[out == label] = other
                del found[label]
                break
    return out


def _within(shape: tuple[int, ...], own: np.ndarray) -> bool:
    """Whether a region is a thing in the image, not what is cut by its border or fills it."""
    border = own[0].sum() + own[-1].sum() + own[:, 0].sum() + own[:, -1].sum()
    return bool(border < 0.2 * np.sqrt(own.sum()) * 4 and own.sum() < 0.25 * shape[0] * shape[1])


def _hollow(own: np.ndarray, height: np.ndarray) -> bool:
    """Whether the middle of a thing is lower than its rim."""
    far = cv2.distanceTransform(own.astype(np.uint8), cv2.DIST_L2, 3)
    deep = float(far.max())
    known = own & np.isfinite(height)
    middle, rim = height[known & (far > 0.6 * deep)], height[known & (far < 0.35 * deep)]
    return bool(len(middle) > 5 and len(rim) > 5 and np.median(middle) < np.quantile(rim, 0.9) - HOLLOW_M)


def box_of(points: F64, hollow: bool = False, bottom_m: float = 0.0) -> OrientedBox:
    """The box of what stands on the table (or on something ``bottom_m`` high), from its visible points (N, 3).

    The footprint is that of the points within 15 mm of the top where there are enough, as sides add noise.
    """
    top = float(np.quantile(points[:, 2], 0.97))
    upper = points[points[:, 2] > top - max(0.015, 0.3 * (top - bottom_m))]
    chosen = upper if len(upper) > 0.25 * len(points) else points
    xy = chosen[:, :2]
    away = ((xy - np.median(xy, axis=0)) ** 2).sum(axis=1)
    xy = xy[away <= np.quantile(away, 0.985)]
    centre, size, angle = min_area_rectangle(xy)
    turns = round(angle / (np.pi / 2))  # axes nearest to the workspace's own
    angle -= turns * np.pi / 2
    size = size[::-1] if turns % 2 else size
    c, s = np.cos(angle), np.sin(angle)
    R = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    bottom = min(bottom_m, top - 0.002)
    return OrientedBox(
        pose(R, [centre[0], centre[1], (top + bottom) / 2]),
        np.array([max(size[0], 0.004), max(size[1], 0.004), top - bottom]),
        hollow,
    )


def _with_outline(box: OrientedBox, points: F64, T_workspace_camera: F64, focal_px: float) -> OrientedBox:
    """A box with what its visible points (N, 3) lack.

    The outermost pixel was left out as its depth may be that of what is behind: one pixel on both sides across the view, and
    as much of the footprint on the far side as a pixel covers there. On the near side a thing's front is seen. A thing
    that is narrower at its top, such as a ball or a bottle, hides its far side: it is taken to be round.
    """
    eye = T_workspace_camera[:3, 3]
    view = points.mean(axis=0) - eye
    far = view[:2] / max(float(np.hypot(*view[:2])), 1e-9)
    across = points[:, :2] @ [far[1], -far[0]]
    pixel = float(np.linalg.norm(view)) / focal_px
    left, right = np.quantile(across, (0.005, 0.995))
    width, top = right - left + 2 * pixel, points[:, 2] > box.center_m[2] + box.size_m[2] / 2 - TOP_M
    if not box.container and np.ptp(np.quantile(across[top], (0.02, 0.98))) < NARROW_TOP * width:
        near = float(np.quantile(points[:, :2] @ far, 0.005))
        middle = np.array([far[1], -far[0]]) * (left + right) / 2 + far * (near + width / 2)
        R = np.array([[far[1], far[0], 0.0], [-far[0], far[1], 0.0], [0.0, 0.0, 1.0]])
        return replace(
            box, T_workspace_box=pose(R, [*middle, box.center_m[2]]), size_m=np.array([width, width, box.size_m[2]])
        )
    deep = pixel * float(np.linalg.norm(view)) / max(abs(float(view[2])), 1e-3)
    along = np.abs(box.T_workspace_box[:2, :2].T @ far)
    T, size = box.T_workspace_box.copy(), box.size_m.copy()
    size[:2] += along * deep + (1.0 - along) * 2 * pixel
    T[:2, 3] += far * deep / 2
    return replace(box, T_workspace_box=T, size_m=size)


def _named(found: Mapping[int, tuple[OrientedBox, F64]], told: Told) -> dict[int, Thing]:
    """Things with names: those that are told, matched by colour and usual size; others by colour and size."""
    costs = {label: colour_costs(rgb) for label, (_, rgb) in found.items()}
    labels = list(found)
    known: dict[int, int] = {}
    if told.objects and labels:
        colours = [o.colour or next((w for w in o.name.split() if w in COLOURS), None) for o in told.objects]
        cost = np.array([[0.5 if c is None else costs[label].get(c, 1.0) for c in colours] for label in labels])
        hollow = np.array([found[label][0].container for label in labels])
        cost += 0.3 * (hollow[:, None] != np.array(["container" in o.roles for o in told.objects]))
        words = [o.category or o.name.split()[-1] for o in told.objects]
        cost += np.array([[_size_cost(found[label][0].size_m, word) for word in words] for label in labels])
        known = {labels[i]: j for i, j in zip(*linear_sum_assignment(cost), strict=True)}
    out: dict[int, Thing] = {}
    taken: set[str] = {told.objects[j].name for j in known.values()}
    for label, (box, _) in found.items():
        colour = min(costs[label], key=costs[label].__getitem__)
        if label in known:
            said = told.objects[known[label]]
            roles = said.roles
            name, category = said.name, said.category or said.name.split()[-1]
            colour, id_ = said.colour or colour, said.id or said.name.replace(" ", "_")
        else:
            category = _category(box)
            roles = ("container",) if box.container else ("support",) if category == "plate" else ()
            name = _free(f"{colour} {category}", taken)
            id_ = name.replace(" ", "_")
        taken.add(name)
        box = replace(box, container="container" in roles or box.container)
        out[label] = Thing(id_, name, category, colour, roles, box, label)
    return out


def _size_cost(size_m: F64, word: str) -> float:
    """How unusual a size (3,) is for a thing that is called so; 0 for an unknown word."""
    if word not in SIZES_M:
        return 0.0
    off = [max(np.log(low / is_m), np.log(is_m / high), 0.0)
           for (low, high), is_m in zip(SIZES_M[word], (size_m[2], max(size_m[:2])), strict=True)]  # fmt: skip
    return min(SIZE_COST * float(sum(off)), SIZE_MOST)


def _category(box: OrientedBox) -> str:
    """A word for the size and shape of a thing whose name nobody told."""
    long, short, high = max(box.size_m[:2]), min(box.size_m[:2]), box.size_m[2]
    if box.container:
        return "bowl"
    if high < 0.03 and short > 0.09:
        return "plate"
    return "block" if long < 0.09 and high < 0.09 else "object"


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(other for n in range(2, 100) if (other := f"{name} {n}") not in taken)
