"""What a hand-free image shows: the table's frame, the things on it, their boxes and colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from stvla_ros.colours import COLOURS
from stvla_ros.data.st_human.process.folder import HumanVideo, Told, ToldObject, VideoError
from stvla_ros.geometry.cameras import rays
from stvla_ros.geometry.se3 import pose
from stvla_ros.tabletop.instances import look
from stvla_ros.tabletop.outlines import at_full_resolution, with_tips
from stvla_ros.tabletop.regions import RegionConfig, min_area_rectangle
from stvla_ros.tabletop.relations import OrientedBox, apart_m
from stvla_ros.tabletop.surface_colours import colour_costs, colour_feature, robust_mean
from stvla_ros.types import F32, F64, I32, U8, Bool, RgbdFrame

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

ONE_COLOUR, WALL_M, SPLIT_M = 0.13, 0.025, 0.02
"""Regions whose colours' features differ by less may be of one thing, half of what tells two things apart; the middle of a
wall may be so far outside of the rest's footprint; and two halves of a thing may be so far apart."""

STRAY_M = 0.015
"""What has its middle nearer to a thing's footprint is a part of it, if nobody told that something else is there."""

TOP_M, NARROW_TOP, DISC_EDGE = 0.008, 0.8, 0.958
"""A thing is round whose uppermost part, so high, is narrower than that share of the whole. Of a disc's points 0.5 % are
farther from its middle, along one direction, than the third's share of its radius."""

RIM_M, INNER, FILLED = 0.01, 0.7, 0.15
"""A thing's uppermost part, so high; the inside of its outline, shrunk to this; and the share of the uppermost part in there of a
hollow thing at most. A flat top has half of it in there."""

SIZES_M: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "block": ((0.02, 0.1), (0.02, 0.12)), "board": ((0.004, 0.03), (0.12, 0.5)), "book": ((0.006, 0.05), (0.11, 0.32)),
    "bottle": ((0.13, 0.35), (0.05, 0.11)), "bowl": ((0.035, 0.1), (0.1, 0.28)), "box": ((0.03, 0.3), (0.05, 0.35)),
    "bin": ((0.06, 0.4), (0.1, 0.4)), "button": ((0.01, 0.05), (0.03, 0.12)), "can": ((0.06, 0.17), (0.05, 0.1)),
    "cup": ((0.06, 0.14), (0.055, 0.1)), "dial": ((0.012, 0.05), (0.035, 0.1)), "fruit": ((0.03, 0.1), (0.04, 0.12)),
    "lid": ((0.004, 0.06), (0.07, 0.3)), "mug": ((0.07, 0.12), (0.07, 0.13)), "plate": ((0.005, 0.035), (0.13, 0.3)),
    "pot": ((0.05, 0.2), (0.12, 0.3)), "sponge": ((0.015, 0.05), (0.06, 0.14)),
}  # fmt: skip
"""Usual height and longer side of things that are called so: tells things of one colour apart."""

HOLLOW_WORDS = ("basket", "bin", "bowl", "box", "cup", "glass", "mug", "pan", "pot")
"""Things that are called so may be hollow, whether or not they serve as containers."""

ROUND_WORDS = (
    "apple",
    "ball",
    "bottle",
    "bowl",
    "button",
    "can",
    "cup",
    "dial",
    "fruit",
    "glass",
    "jar",
    "lid",
    "mug",
    "pan",
    "plate",
    "pot",
)
SQUARE_WORDS = ("block", "board", "book", "box", "brick", "carton", "sponge", "tray")
"""What is called so is seen as round, or as a rectangle, from above."""

NARROW_WORDS = ("apple", "ball", "bottle", "fruit", "lid")
WIDE_WORDS = (
    *SQUARE_WORDS,
    "basket",
    "bin",
    "bowl",
    "button",
    "can",
    "cup",
    "dial",
    "glass",
    "mug",
    "pan",
    "plate",
    "pot",
)
"""What is called so is narrower at its top than below, or is not."""

ROUND_FILL, SQUARE_FILL, SHAPE_COST = 0.84, 0.91, 0.3
"""Shares of the rectangle around its top that a round thing fills at most, and a rectangular one at least; and the cost of another
shape than the name's. A circle fills 0.79."""

COLOURS_EACH, RARE_COST = 3, 0.2
"""A patterned thing is named by one of so many colours of it; the rarer that is, the more it costs."""

SIZE_COST, SIZE_MOST = 0.4, 0.6
"""Cost of a size that is e times the usual, beside colours' costs of 0 to about 1, and the most that a size costs."""


Colours = tuple[tuple[F64, float], ...]
"""(3,) colours of a thing, 0 to 1, each with how frequent it is beside the most frequent one; the first is that of all."""


@dataclass(frozen=True, eq=False)
class _Region:
    """Something that has no name yet.

    Attributes:
        box: In the workspace.
        colours: Of its pixels.
        fill: Share of the smallest rectangle around its top that the top fills: 1 for a rectangle, 0.79 for a circle.
        narrow: Whether its top is narrower than the rest.
    """

    box: OrientedBox
    colours: Colours
    fill: float
    narrow: bool = False


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
    focal_px, colours = float(camera.K[0, 0]), rgb.reshape(-1, 3)

    def measured(own: Bool) -> _Region | None:
        inner = cv2.erode(own.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        pixels = np.flatnonzero((inner if inner.sum() > 20 else own) & np.isfinite(depth_m))
        if len(pixels) < 12 or not _within(labels.shape, own):
            return None
        return _measured(points[pixels], colours[pixels], T_workspace_camera, focal_px)

    found = {
        label: one
        for label in range(1, int(labels.max(initial=0)) + 1)
        if (one := measured(labels == label)) is not None
    }
    labels = _joined(labels, found, measured, len(video.told.objects))
    labels = _without_parts(labels, found)
    labels, things = _without_strays(labels, _named(found, video.told), {o.name for o in video.told.objects})
    return Scene(frame, T_workspace_camera, labels, things)


def _measured(points: F64, rgb: U8, T_workspace_camera: F64, focal_px: float, bottom_m: float = 0.0) -> _Region:
    """A region that stands ``bottom_m`` above the table, from its visible points (N, 3) and their colours (N, 3)."""
    box = box_of(points, _hollow(points), bottom_m)
    outer = _with_outline(box, points, T_workspace_camera, focal_px)
    return _Region(outer, _main_colours(rgb), _fill(points), is_narrow(box, points, T_workspace_camera))


def taken_apart(
    video: HumanVideo, whole: Thing, missing: Sequence[ToldObject], T_workspace_camera: F64, upper_m: F64, rgb: U8,
    rest_m: F64,
) -> tuple[Thing, Thing]:  # fmt: skip
    """Two things that were one until a hand took the upper one off: a lid from its pot.

    Args:
        video: For the camera.
        whole: What they were taken for; its name stays with the lower one.
        missing: What people told that was not found; one of these is the upper one.
        T_workspace_camera: From :func:`find_table`.
        upper_m: (N, 3) visible points of the upper one where it was.
        rgb: (N, 3) their colours.
        rest_m: (M, 3) visible points of the lower one without it.

    Returns:
        The upper one, of label 0, which is the caller's to set, and the lower one.
    """
    focal_px = float(video.camera.K[0, 0])
    rest = _with_outline(box_of(rest_m, _hollow(rest_m)), rest_m, T_workspace_camera, focal_px)
    rest = replace(rest, container=rest.container or whole.box.container or "container" in whole.roles)
    top = float(rest.center_m[2] + rest.size_m[2] / 2)
    region = _measured(upper_m, rgb, T_workspace_camera, focal_px, top)
    (upper,) = _named({0: region}, Told(objects=tuple(missing))).values()
    return upper, replace(whole, box=rest)


def _joined(
    labels: I32, found: dict[int, _Region],
    measured: Callable[[Bool], _Region | None], told: int,
) -> I32:  # fmt: skip
    """Labels in which regions of one thing are joined, with ``found``, until the ``told`` number is left; 0: nobody told it.

    The wall in light, that in shadow and the bottom of a bowl are regions of their own. They are of one colour but for the
    light, and the lower ones are over the footprint of another or just beside it.
    """
    out = labels.copy()
    while len(found) > told > 0:
        pairs = [
            (float(np.linalg.norm(_feature(found[part]) - _feature(found[whole]))), part, whole)
            for part, whole in permutations(found, 2)
            if _low_within(found[part].box, found[whole].box)
        ]
        apart, part, whole = min(pairs, default=(np.inf, 0, 0))
        if apart > ONE_COLOUR:
            break
        out[out == part] = whole
        del found[part]
        found[whole] = measured(out == whole) or found[whole]
    return out


def _feature(region: _Region) -> F32:
    """The light-free feature of a region's mean colour."""
    return colour_feature(np.rint(255 * region.colours[0][0]).astype(np.uint8))


def _low_within(part: OrientedBox, whole: OrientedBox) -> bool:
    """Whether a region's middle is over another one's footprint or just beside it, and its top not above that one's."""
    local = np.linalg.inv(whole.T_workspace_box) @ np.append(part.center_m, 1.0)
    over = (np.abs(local[:2]) < whole.size_m[:2] / 2 + WALL_M).all()
    tops = [box.center_m[2] + box.size_m[2] / 2 for box in (part, whole)]
    return bool((over or apart_m(part, whole) < SPLIT_M) and tops[0] < tops[1] + 0.005)


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


def _without_parts(labels: I32, found: dict[int, _Region]) -> I32:
    """Labels in which slivers beside a thing and the bottoms of containers are parts of it; they leave ``found``."""
    out = labels.copy()
    for label in sorted(found, key=lambda k: float(np.prod(found[k].box.size_m))):
        box = found[label].box
        sliver = min(box.size_m[:2]) < SLIVER_M
        for other, region in found.items():
            whole = region.box
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


def _hollow(points: F64) -> bool:
    """Whether a thing, whose visible points are (N, 3), has a rim with nothing of that height inside.

    Looked for from above: in the image the middle of anything tall is its front, which is lower than its top too.
    """
    top = float(np.quantile(points[:, 2], 0.98))
    rim = points[points[:, 2] > top - RIM_M, :2].astype(np.float32)
    if len(rim) < 20:
        return False
    hull = cv2.convexHull(rim).reshape(-1, 2)
    middle = hull.mean(axis=0)
    inner = middle + INNER * (hull - middle)
    some = rim[:: max(len(rim) // 1000, 1)].tolist()
    return float(np.mean([cv2.pointPolygonTest(inner, at, False) > 0 for at in some])) < FILLED


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
    width = right - left + 2 * pixel
    if is_narrow(box, points, T_workspace_camera):
        width = (right - left) / DISC_EDGE + 2 * pixel
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


def is_narrow(box: OrientedBox, points: F64, T_workspace_camera: F64) -> bool:
    """Whether the top of a thing, whose visible points are (N, 3), is narrower across the view than the whole."""
    view = points.mean(axis=0) - T_workspace_camera[:3, 3]
    far = view[:2] / max(float(np.hypot(*view[:2])), 1e-9)
    across = points[:, :2] @ [far[1], -far[0]]
    top = across[points[:, 2] > box.center_m[2] + box.size_m[2] / 2 - TOP_M]
    width = float(np.ptp(np.quantile(across, (0.005, 0.995))))
    return not box.container and bool(np.ptp(np.quantile(top, (0.02, 0.98))) < NARROW_TOP * width)


def _fill(points: F64) -> float:
    """:attr:`_Region.fill` of visible points (N, 3)."""
    top = points[points[:, 2] > float(np.quantile(points[:, 2], 0.98)) - TOP_M, :2]
    if len(top) < 20:
        return float("nan")
    top = top[((top - np.median(top, axis=0)) ** 2).sum(axis=1).argsort()[: int(0.985 * len(top))]].astype(np.float32)
    (_, (width, height), _) = cv2.minAreaRect(top)
    return float(cv2.contourArea(cv2.convexHull(top)) / max(width * height, 1e-9))


def _main_colours(rgb: U8) -> Colours:
    """The colours of a thing's pixels (N, 3): of all, then of its parts of one colour, each with its share of the most frequent."""
    sample = rgb[:: max(len(rgb) // 2000, 1)].astype(np.float32)
    stop = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, 10, 1.0)
    cv2.setRNGSeed(0)
    _, labels, _ = cv2.kmeans(sample, COLOURS_EACH, None, stop, 1, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    counts = np.bincount(labels.ravel(), minlength=COLOURS_EACH)
    parts = [
        (robust_mean(sample[labels.ravel() == k].astype(np.uint8)), float(counts[k] / counts.max()))
        for k in np.flatnonzero(counts)
    ]
    return ((robust_mean(rgb), 1.0), *parts)


def _colour_costs(colours: Colours) -> dict[str, float]:
    """How badly each named colour is one of a thing's."""
    costs = [(colour_costs(rgb), RARE_COST * (1.0 - share)) for rgb, share in colours]
    return {name: min(cost[name] + rare for cost, rare in costs) for name in COLOURS}


def _named(found: Mapping[int, _Region], told: Told) -> dict[int, Thing]:
    """Things with names: those that are told, matched by colours and usual size; others by their mean colour and size."""
    costs = {label: _colour_costs(region.colours) for label, region in found.items()}
    labels = list(found)
    known: dict[int, int] = {}
    if told.objects and labels:
        colours = [o.colour or next((w for w in o.name.split() if w in COLOURS), None) for o in told.objects]
        cost = np.array([[0.5 if c is None else costs[label].get(c, 1.0) for c in colours] for label in labels])
        words = [o.category or o.name.split()[-1] for o in told.objects]
        hollow = np.array([found[label].box.container for label in labels])[:, None]
        holds = np.array(["container" in o.roles for o in told.objects])
        may = holds | np.array([word in HOLLOW_WORDS for word in words])
        cost += SHAPE_COST * ((hollow & ~may) | (~hollow & holds))
        fill = np.array([found[label].fill for label in labels])[:, None]
        cost += SHAPE_COST * (fill < ROUND_FILL) * np.array([word in SQUARE_WORDS for word in words])
        narrow = np.array([found[label].narrow for label in labels])[:, None]
        cost += SHAPE_COST * (narrow & np.array([word in WIDE_WORDS for word in words]))
        cost += SHAPE_COST * (~narrow & np.array([word in NARROW_WORDS for word in words]))
        cost += SHAPE_COST * (fill > SQUARE_FILL) * np.array([word in ROUND_WORDS for word in words])
        cost += np.array([[_size_cost(found[label].box.size_m, word) for word in words] for label in labels])
        known = {labels[i]: j for i, j in zip(*linear_sum_assignment(cost), strict=True)}
    out: dict[int, Thing] = {}
    taken: set[str] = {told.objects[j].name for j in known.values()}
    for label, region in found.items():
        box, mean = region.box, colour_costs(region.colours[0][0])
        colour = min(mean, key=mean.__getitem__)
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
