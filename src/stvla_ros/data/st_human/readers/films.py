"""Videos that are films with a film of depth: HOI4D and TACO, both from a camera on the head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from stvla_ros.data.st_human.process.folder import MM, Told, VideoError
from stvla_ros.data.st_human.readers.images import numbers
from stvla_ros.data.st_human.readers.source import VideoSource, check_count, frame_of, paired
from stvla_ros.files import check_file, read_arrays, said
from stvla_ros.geometry.se3 import inverse
from stvla_ros.types import F64, RgbdFrame

HOI4D_FPS = 15.0
"""At which its own script takes frames (HOI4D-Instructions, utils/decode.py)."""

TACO_FPS = 30.0
TACO_UNIT_M = 0.00025
"""Its depth counts quarters of a millimetre (TACO-Instructions, README)."""

TACO_COLOUR, TACO_DEPTH, TACO_CAMERA = (
    "Egocentric_RGB_Videos", "Egocentric_Depth_Videos", "Egocentric_Camera_Parameters",
)  # fmt: skip


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A film and its images. Raises VideoError: it is no film, or is damaged, also where it is read later."""
    check_file(path, "a film", VideoError)
    try:
        with av.open(str(path)) as film:
            if not film.streams.video:
                raise VideoError(f"{path}: wanted a film, found no images in it.")
            yield film, film.streams.video[0]
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{path}: wanted a film, found a damaged one or none ({said(error)}): copy it again."
        ) from error


def film(path: Path, grey: bool) -> Iterator[np.ndarray]:
    """Images of a film one after another: (H, W, 3) uint8 colours, or with ``grey`` (H, W) uint16 depth.

    Raises:
        VideoError: It is no film, is damaged, or is depth with 8 bits.
    """
    with _opened(path) as (opened, stream):
        stream.codec_context.thread_count = 1  # videos are processed in parallel
        for image in opened.decode(stream):
            if grey and image.format.name not in ("gray16le", "gray16be"):
                raise VideoError(
                    f"{path}: wanted depth of 16 bits (gray16le), found {image.format.name}: depth that went through an "
                    "8-bit image or video is lost."
                )
            yield image.to_ndarray(format="gray16le" if grey else "rgb24")


def film_facts(path: Path) -> tuple[int, float]:
    """How many images a film has, counted without decoding them, and how many per second. Raises VideoError."""
    with _opened(path) as (opened, stream):
        rate = float(stream.average_rate or 0)
        return sum(1 for packet in opened.demux(stream) if packet.size), rate


def _films(color: Path, depth: Path, K: F64, poses: F64 | None, fps: float, unit_m: float) -> Iterator[RgbdFrame]:
    for i, (rgb, raw) in enumerate(zip_longest(film(color, False), film(depth, True))):
        if rgb is None or raw is None:
            raise VideoError(
                f"{depth}: wanted as many images as {color.name} has, found {'more' if rgb is None else i}."
            )
        pose = np.eye(4) if poses is None else poses[i]
        yield frame_of(rgb, raw, K, pose, round(i * 1e9 / fps), unit_m, f"{depth}: image {i}")


def _check_films(color: Path, depth: Path, fps: float, advice: str = "") -> int:
    """How many images two films have. Raises VideoError: they differ, or their rate is another."""
    (count, rate), (depths, depth_rate) = film_facts(color), film_facts(depth)
    check_count(depths, count, "depth images", depth)
    for path, found in ((color, rate), (depth, depth_rate)):
        if abs(found - fps) > 0.05 * fps:
            raise VideoError(f"{path}: wanted {fps:g} images per second, found {found:g}{advice}.")
    return count


# --- HOI4D ---------------------------------------------------------------------------------------------------------------


def is_hoi4d(folder: Path) -> bool:
    """Whether this is one video."""
    return (folder / "align_rgb").is_dir() and (folder / "align_depth").is_dir()


def open_hoi4d(folder: Path) -> VideoSource:
    """A video of HOI4D: ``ZY*/H*/C*/N*/S*/s*/T*``, with ``camera_params/ZY*/intrin.npy`` beside them or above.

    The layout is that of leolyliu/HOI4D-Instructions: films, or the images that its ``utils/decode.py`` makes of them;
    depth in millimetres (Open3D's default, which its scripts use); poses of the camera as Open3D's trajectory, in the
    world of the first frame.

    Raises:
        VideoError: A file is missing or wrong.
    """
    color, depth = folder / "align_rgb", folder / "align_depth"
    pictures = sorted(color.glob("*.jpg"))
    images = paired(pictures, sorted(depth.glob("*.png")), folder, 0) if pictures else None
    films = color / "image.mp4", depth / "depth_video.avi"
    advice = f": make images at {HOI4D_FPS:g} per second with the set's own utils/decode.py"
    count = len(images.color) if images else _check_films(*films, HOI4D_FPS, advice)
    lens, log = _hoi4d_lens(folder), folder / "3Dseg" / "output.log"
    K = _array(lens, "intrinsics of HOI4D, a 3x3 matrix", (3, 3))
    poses = _trajectory(log) if log.is_file() else None
    if poses is not None:
        check_count(len(poses), count, "poses of the camera", log)
    read: Callable[[], Iterator[RgbdFrame]] = (
        partial(images.read, K, poses, HOI4D_FPS, MM) if images else partial(_films, *films, K, poses, HOI4D_FPS, MM)
    )
    files = (color, depth, lens, *([log] if poses is not None else []))
    notes = () if poses is not None else (f"{log}: no poses of the camera: it is taken to stand still.",)
    return VideoSource(folder, "-".join(folder.parts[-7:]), count, HOI4D_FPS, MM, files, read, notes=notes)


def _array(path: Path, wanted: str, shape: tuple[int, ...]) -> F64:
    """The array of a ``.npy`` file; -1 in the shape: any length. Raises VideoError."""
    found = read_arrays(path, VideoError, wanted).get("")
    right = found is not None and found.dtype.kind == "f" and found.ndim == len(shape)
    if found is None or not right or any(w not in (-1, n) for w, n in zip(shape, found.shape, strict=True)):
        raise VideoError(f"{path}: wanted {wanted}, found another array.")
    return np.asarray(found, np.float64)


def _hoi4d_lens(folder: Path) -> Path:
    """``camera_params/<camera>/intrin.npy`` at or above the set's root. The camera is the path's part ``ZY...``."""
    place = folder.resolve()
    camera = next((part for part in place.parts if part.startswith("ZY")), "ZY...")
    name = f"camera_params/{camera}/intrin.npy"
    for parent in place.parents:
        if (parent / name).is_file():
            return parent / name
    raise VideoError(f"{folder}: wanted {name} in a folder above it, found none.")


def _trajectory(path: Path) -> F64:
    """(N, 4, 4) poses of the camera of a trajectory of Open3D: three numbers, then four rows, for each frame."""
    check_file(path, "a trajectory of Open3D", VideoError, text=True)
    count = len(path.read_text(errors="replace").split()) // 19
    return numbers(path, "a trajectory of Open3D", (max(count, 1), 19))[:, 3:].reshape(-1, 4, 4)


# --- TACO ----------------------------------------------------------------------------------------------------------------


def is_taco(folder: Path) -> bool:
    """Whether this is one sequence, by its film of colour."""
    return folder.resolve().parts[-3:-2] == (TACO_COLOUR,) and (folder / "color.mp4").is_file()


def open_taco(folder: Path) -> VideoSource:
    """A sequence of TACO from the head: ``Egocentric_RGB_Videos/(action, tool, object)/<sequence>``.

    The layout is that of leolyliu/TACO-Instructions: depth and the camera's parameters are in ``Egocentric_Depth_Videos``
    and ``Egocentric_Camera_Parameters`` beside it; poses map the world to the camera. Its fixed cameras have no depth.

    Raises:
        VideoError: A file is missing or wrong.
    """
    root, (triplet, name) = folder.resolve().parents[2], folder.resolve().parts[-2:]
    color, depth = folder / "color.mp4", root / TACO_DEPTH / triplet / name / "egocentric_depth.avi"
    count = _check_films(color, depth, TACO_FPS)
    camera = root / TACO_CAMERA / triplet / name
    lens, path = camera / "egocentric_intrinsic.txt", camera / "egocentric_frame_extrinsic.npy"
    K = numbers(lens, "intrinsics of TACO", (3, 3))
    poses = inverse(_array(path, "poses of TACO's camera, N 4x4 matrices", (-1, 4, 4)))
    check_count(len(poses), count, "poses of the camera", path)
    said_of = triplet.strip("()").split(", ")
    words = f"{said_of[0].capitalize()}: {', '.join(said_of[1:])}." if len(said_of) == 3 else None
    return VideoSource(
        folder, name, count, TACO_FPS, TACO_UNIT_M, (color, depth, lens, path),
        partial(_films, color, depth, K, poses, TACO_FPS, TACO_UNIT_M), told=Told(instruction=words),
    )  # fmt: skip
