"""Published keypose data for training: recognises the format at a path and gives arrays as training takes them.

Two formats: a zarr group of 3D FlowMatch Actor, and ``<task>+<variation>/ep<k>.dat`` of 3D Diffuser Actor. Both hold
    the
cameras' own images in RLBench's world frame. Guidance cannot be added later: they lack the arm's joints, without which
nothing can be masked, and nobody has drawn a path. So only experiments with ``guidance="off"`` can learn from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from stvla_ros.data.flowmatch_zarr import FlowmatchZarr, is_zarr
from stvla_ros.data.keypose_sample import DatasetError, KeyposeSample, Sentences, read_sentences
from stvla_ros.data.peract_dat import dat_files, read_dat
from stvla_ros.types import F32, U8

FRAME = "rlbench"
"""What all positions refer to: RLBench's world, with the table near z = 0.75 m."""


class KeyposeArrays(NamedTuple):
    """N keyposes seen by one camera, for one hand: what training's ``Samples`` are made of, in its order."""

    rgb: U8
    """(N, 3, S, S) uint8."""
    xyz_m: F32
    """(N, 3, S, S) float32, in :data:`FRAME` like all positions."""
    history: F32
    """(N, 3, 8) float32: xyz, quaternion xyzw, 1 for open."""
    target: F32
    """(N, 8) float32, the next keypose, the same way."""
    instructions: tuple[str, ...]
    tasks: tuple[str, ...]


def is_published(place: Path) -> bool:
    """Whether a path holds published data, rather than episodes of ``stvla collect``."""
    return is_zarr(place) or bool(dat_files(place))


def load_published(
    data: Sequence[Path],
    validation: Sequence[Path],
    sentences: Path | None,
    camera: str,
    size_px: int,
    held_out_every: int,
) -> tuple[KeyposeArrays, KeyposeArrays]:
    """Keyposes to train and to validate on; no episode is in both.

    Args:
        data: zarr groups, ``.dat`` files, or folders with them.
        validation: The same, to validate on; none: one in ``held_out_every`` episodes of ``data``.
        sentences: JSON ``{task: {"variation": [sentences]}}``. One sentence is drawn for each keypose (as in the
            published training, but once, so that a run that goes on sees the same data).
        camera: Name of the camera to look through.
        size_px: Edge of the images.
        held_out_every: See ``validation``.

    Raises:
        DatasetError: No sentences given, or none for a task; a path with other data, or damaged ones; no such camera;
            data for two hands; nothing left to train on.
    """
    if sentences is None:
        raise DatasetError(
            "stvla train: published data carry no instructions: give their sentences with --instructions FILE (3D "
            "FlowMatch Actor publishes instructions/peract/instructions.json)."
        )
    rows = _Rows(read_sentences(sentences), sentences, camera, size_px)
    judged = _sources(validation)
    episodes = chain.from_iterable(rows.episodes(source) for source in _sources(data) if source not in judged)
    train: list[_Row] = []
    val = list(chain.from_iterable(chain.from_iterable(rows.episodes(source) for source in judged)))
    for number, episode in enumerate(episodes):
        (train if judged or number % held_out_every else val).extend(episode)
    if not train:
        raise DatasetError(
            "stvla train: no episode is left to train on: wanted more than those of --val, or more than one without it."
        )
    return _stacked(train), _stacked(val)


def _sources(places: Sequence[Path]) -> list[Path]:
    """Every zarr group and ``.dat`` file once, in order."""
    found: list[Path] = []
    for place in places:
        if not is_published(place):
            raise DatasetError(
                f"{place}: wanted published data (a zarr group, or <task>+<variation>/ep<k>.dat) as in the other "
                "folders: train on one kind at a time."
            )
        found += [place] if is_zarr(place) else dat_files(place)
    return list(dict.fromkeys(path.resolve() for path in found))


class _Row(NamedTuple):
    """One keypose of :class:`KeyposeArrays`."""

    rgb: U8
    xyz_m: F32
    history: F32
    target: F32
    instruction: str
    task: str


class _Rows:
    """Makes rows of published samples."""

    def __init__(self, sentences: Sentences, file: Path, camera: str, size_px: int) -> None:
        self._sentences, self._file, self._camera, self._size_px = sentences, file, camera, size_px
        self._random = np.random.default_rng(0)

    def episodes(self, source: Path) -> Iterator[list[_Row]]:
        """Episodes of a zarr group or of a ``.dat`` file. An episode begins where all past poses are equal."""
        samples = FlowmatchZarr(source, tuple(self._sentences)) if is_zarr(source) else read_dat(source)
        episode: list[_Row] = []
        for sample in samples:
            if episode and (sample.proprio == sample.proprio[-1]).all():
                yield episode
                episode = []
            episode.append(self._row(sample, source))
        if episode:
            yield episode

    def _row(self, sample: KeyposeSample, source: Path) -> _Row:
        if len(sample.action) != 1:
            raise DatasetError(f"{source}: poses of {len(sample.action)} hands: the experiments are for one.")
        i = self._index(sample, source)
        rgb, xyz_m = _view(sample.rgb[i], sample.xyz_m[i], self._size_px)
        if not np.isfinite(xyz_m).all():
            raise DatasetError(
                f"{source}: wanted a finite point for every pixel, found NaN or infinity: pack it again."
            )
        return _Row(rgb, xyz_m, sample.proprio[:, 0], sample.action[0], self._sentence(sample, source), sample.task)

    def _index(self, sample: KeyposeSample, source: Path) -> int:
        if self._camera not in sample.cameras:
            valid = ", ".join(sample.cameras)
            raise DatasetError(f"{source}: has no camera '{self._camera}': choose with --camera one of {valid}.")
        return sample.cameras.index(self._camera)

    def _sentence(self, sample: KeyposeSample, source: Path) -> str:
        known = self._sentences.get(sample.task, {}).get(sample.variation)
        if known is None:
            raise DatasetError(
                f"{self._file}: has no sentences for variation {sample.variation} of '{sample.task}', which {source} has: "
                "give the file of that dataset with --instructions."
            )
        return known[self._random.integers(len(known))]


def _view(rgb: U8, xyz_m: F32, size_px: int) -> tuple[U8, F32]:
    """Central square, resized: (3, S, S) of (H, W, 3) each. Points are taken from one pixel, never averaged."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    window = slice(top, top + side), slice(left, left + side)
    shrinks = cv2.INTER_AREA if size_px < side else cv2.INTER_LINEAR
    small = np.asarray(
        cv2.resize(np.ascontiguousarray(rgb[window]), (size_px, size_px), interpolation=shrinks), np.uint8
    )
    nearest = ((np.arange(size_px) + 0.5) * (side / size_px)).astype(np.intp)
    points = xyz_m[window][np.ix_(nearest, nearest)]
    return np.ascontiguousarray(small.transpose(2, 0, 1)), np.ascontiguousarray(points.transpose(2, 0, 1))


def _stacked(rows: Sequence[_Row]) -> KeyposeArrays:
    rgb, xyz_m, history, target, instructions, tasks = zip(*rows, strict=True)
    return KeyposeArrays(np.stack(rgb), np.stack(xyz_m), np.stack(history), np.stack(target), instructions, tasks)
