"""Light meshes of the Panda's links, made once from an installed package and cached.

The package ``dm-robotics-panda`` contains Franka's own visual meshes (franka_ros, Apache-2.0). They become convex
hulls, which physics, planning and self-masking share, and decimated coloured meshes for rendering. Every mesh is in its
link's frame, in metres.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stvla_ros.config import ConfigError, cache_root
from stvla_ros.description.panda import FINGER_LINKS, HAND_LINK, LINKS
from stvla_ros.types import F64, I32

PACKAGE = "dm-robotics-panda"
INSTALL = f"pip install --no-deps {PACKAGE}==0.4.8"
HULL_ERROR_M = 0.001
"""A hull lies inside the exact convex hull, nowhere further from it than this."""

VISUAL_FACES = 1500
"""Triangles per link after decimation; a Panda then has about 15,000."""

_VERSION = 1  # of what is written into the cache


@dataclass(frozen=True, eq=False)
class VisualMesh:
    """A part of a link in one colour.

    Attributes:
        path: OBJ file in the link frame.
        rgba: Colour, 0..1.
    """

    path: Path
    rgba: tuple[float, float, float, float]


def cache_dir() -> Path:
    """Folder of the cached meshes: ``$STVLA_CACHE``, or else ``~/.cache/stvla``."""
    return cache_root() / f"panda-v{_VERSION}"


@cache
def hull_meshes() -> dict[str, Path]:
    """Convex hull of every link as OBJ, base first, including hand and fingers.

    Raises:
        ConfigError: The mesh package is not installed.
    """
    return {link: _cached(f"hull_{link}.obj", partial(_hull_text, link)) for link in LINKS}


@cache
def visual_meshes() -> dict[str, tuple[VisualMesh, ...]]:
    """Decimated meshes of every link, split by colour.

    Raises:
        ConfigError: The mesh package is not installed.
    """
    return {link: _visual_parts(link) for link in LINKS}


def _cached(name: str, make: Callable[[], str]) -> Path:
    """The file ``name`` of the cache. It is moved into place complete, so that parallel processes are safe."""
    path = cache_dir() / name
    if not path.exists():
        text = make()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=name, delete=False) as file:
                file.write(text)
            os.replace(file.name, path)
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written ({error.strerror}); set STVLA_CACHE to a folder that can."
            ) from error
    return path


def _asset(name: str) -> Path:
    """A file of the mesh package, found without importing the package, whose dependencies are not needed."""
    try:
        found = [f for f in files(PACKAGE) or () if f.name == name]
    except PackageNotFoundError as error:
        raise ConfigError(f"The Panda's meshes come from the package {PACKAGE}, which is missing: {INSTALL}") from error
    if not found:
        raise ConfigError(f"{PACKAGE} has no file {name}: install the tested version: {INSTALL}")
    return Path(str(found[0].locate()))


def source_mesh(link: str) -> tuple[F64, I32, F64]:
    """Vertices (V, 3) in the link frame, triangles (F, 3), and texture coordinates (F, 2) of one corner each."""
    stem = {HAND_LINK: "hand", **dict.fromkeys(FINGER_LINKS, "finger")}.get(link, link.removeprefix("panda_"))
    vertices, faces, uv = read_obj(_asset(f"{stem}.obj"))
    if link == FINGER_LINKS[1]:  # the same finger, rotated by half a turn about z
        vertices = vertices * [-1.0, -1.0, 1.0]
    return vertices, faces, uv


def read_obj(path: Path) -> tuple[F64, I32, F64]:
    """Vertices (V, 3), triangles (F, 3), and per triangle the texture coordinate (F, 2) of one corner, or (0, 2)."""
    vertices, texture, corners = [], [], []
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(x) for x in rest.split()[:3]])
        elif kind == "vt":
            texture.append([float(x) for x in rest.split()[:2]])
        elif kind == "f":
            ids = [[int(i) for i in f"{corner}/0".split("/")[:2]] for corner in rest.split()]
            corners += [(ids[0], ids[i], ids[i + 1]) for i in range(1, len(ids) - 1)]
    index = np.array(corners) - 1
    uv = np.array(texture)[index[:, 0, 1]] if texture else np.empty((0, 2))
    return np.array(vertices), index[:, :, 0].astype(np.int32), uv


def _obj_text(vertices: npt.NDArray[np.floating], faces: npt.NDArray[np.integer]) -> str:
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
    return "\n".join(lines) + "\n"


def _hull_text(link: str) -> str:
    vertices, faces = simplified_hull(source_mesh(link)[0], HULL_ERROR_M)
    return _obj_text(vertices, faces)


def simplified_hull(points: F64, error_m: float) -> tuple[F64, I32]:
    """Convex hull with few corners.

    Adds the corner of the exact hull that sticks out furthest, until none sticks out more than ``error_m``.

    Args:
        points: (N, 3) points.
        error_m: Largest distance of a point outside the result.

    Returns:
        (V, 3) corners and (F, 3) triangles, oriented outward.
    """
    from scipy.spatial import ConvexHull

    outer = points[ConvexHull(points).vertices]
    chosen = sorted({int(i) for axis in np.eye(3) for i in (np.argmin(outer @ axis), np.argmax(outer @ axis))})
    chosen = chosen if len(chosen) > 3 else list(range(4))
    while True:
        hull = ConvexHull(outer[chosen], qhull_options="QJ")
        out = (outer @ hull.equations[:, :3].T + hull.equations[:, 3]).max(axis=1)
        worst = int(np.argmax(out))
        if out[worst] <= error_m or worst in chosen:
            break
        chosen.append(worst)
    return _outward(outer[chosen], hull.simplices, hull.equations[:, :3])


def _outward(vertices: F64, triangles: I32, normals: F64) -> tuple[F64, I32]:
    """Triangles with counter-clockwise corners seen from outside, without unused vertices."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    flip = np.einsum("ij,ij->i", np.cross(b - a, c - a), normals) < 0
    triangles = np.where(flip[:, None], triangles[:, ::-1], triangles)
    used, index = np.unique(triangles, return_inverse=True)
    return vertices[used], index.reshape(-1, 3).astype(np.int32)


def _visual_parts(link: str) -> tuple[VisualMesh, ...]:
    """One mesh per colour of the link. File names contain the colours."""
    directory, prefix = cache_dir(), f"visual_{link}_"
    index = _cached(f"{prefix}colours.txt", lambda: "\n".join(_write_parts(link, prefix)) + "\n")
    parts = []
    for colour in index.read_text().split():
        r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4))
        parts.append(VisualMesh(directory / f"{prefix}{colour}.obj", (r, g, b, 1.0)))
    return tuple(parts)


def _write_parts(link: str, prefix: str) -> list[str]:
    """Write the decimated meshes and return their colours as hex."""
    import fast_simplification

    vertices, faces, uv = source_mesh(link)
    colours = _face_colours(link, uv)
    names = []
    for colour in np.unique(colours, axis=0):
        part = faces[(colours == colour).all(axis=1)]
        used, index = np.unique(part, return_inverse=True)
        triangles = index.reshape(-1, 3)
        target = max(1.0, VISUAL_FACES * len(part) / len(faces))
        points = vertices[used].astype(np.float32)
        if len(part) > target:
            points, triangles = fast_simplification.simplify(points, triangles, 1.0 - target / len(part))
        if len(triangles) < 4:  # a decimated-away indicator light
            continue
        name = "".join(f"{int(c):02x}" for c in colour)
        _cached(f"{prefix}{name}.obj", partial(_obj_text, points, triangles))
        names.append(name)
    return names


def _face_colours(link: str, uv: F64) -> I32:
    """(F, 3) colour of every triangle, looked up in the package's palette texture."""
    from PIL import Image

    if link in ("panda_link1", "panda_link2"):
        return np.full((len(uv), 3), 255, dtype=np.int32)
    palette = np.asarray(Image.open(_asset("panda.png")).convert("RGB"), dtype=np.int32)
    h, w = palette.shape[:2]
    column = np.clip((uv[:, 0] % 1.0) * w, 0, w - 1).astype(int)
    row = np.clip((1.0 - uv[:, 1] % 1.0) * h, 0, h - 1).astype(int)
    colours: I32 = palette[row, column]
    return colours
