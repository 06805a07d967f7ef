"""Training samples: the image at every step of the episodes, and the chunk of keyposes that followed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.data.episode import Episode
from stvla_ros.data.replay import observations
from stvla_ros.errors import StageError
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.files import read_arrays, setting, written
from stvla_ros.perception.guide import SpatialGuide
from stvla_ros.policy.st4vla.actions import KEYPOSE, ToolPose, chunk_at, rows
from stvla_ros.policy.st4vla.inputs import resized
from stvla_ros.train.policy.samples import cache_key, fill_cache
from stvla_ros.types import F64, U8, Bool

CACHE = "st4vla-1"
"""Changes whenever cached samples are made in another way."""


@dataclass(frozen=True, eq=False)
class ChunkSamples:
    """N steps seen by one camera.

    Attributes:
        images: N images (H, W, 3) uint8, at the size that the VLM sees.
        actions: (N, T, D) float64 chunks in their own units, see :mod:`stvla_ros.policy.st4vla.actions`.
        counted: (N, T) bool, False after the end of a step of the task.
        instructions: N sentences.
        tasks: N names.
    """

    images: tuple[U8, ...]
    actions: F64
    counted: Bool
    instructions: tuple[str, ...]
    tasks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def fingerprint(self) -> str:
        """Checksum of every pixel, action and word; a resumed run recognises its data by it."""
        pixels = 0
        for image in self.images:
            pixels = zlib.crc32(image.tobytes(), pixels)
        words = json.dumps([self.instructions, self.tasks]).encode()
        sums = (pixels, *(zlib.crc32(part) for part in (self.actions.tobytes(), self.counted.tobytes(), words)))
        return "-".join(f"{one:08x}" for one in sums)


@dataclass(frozen=True, eq=False)
class _Steps:
    """An episode as it is cached: n images (n, H, W, 3), keyposes (n, 10), sentences; and its task."""

    images: U8
    keyposes: F64
    instructions: tuple[str, ...]
    task: str


def load_chunks(
    episodes: Sequence[Episode],
    settings: StackSettings,
    images: Any,
    length: int,
    cache: Path,
    jobs: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> ChunkSamples:
    """Samples of all episodes. Each goes through guidance once and is cached.

    Args:
        episodes: The episodes.
        settings: Of guidance and segmenter, as on the robot.
        images: The VLM's image processor.
        length: Keyposes of a chunk, T.
        cache: Folder of cached samples, by episode and settings; delete it after changing the code of guidance.
        jobs: Number of processes.
        on_progress: Called with 1 after every episode.

    Raises:
        ConfigError: An episode is damaged, guidance fails on it with these settings, or a process died.
    """
    cache.mkdir(parents=True, exist_ok=True)
    size = [images.patch_size * images.merge_size, images.size["shortest_edge"], images.size["longest_edge"]]
    files = [cache / f"{e.folder.name}-{cache_key(e.folder, settings, size, CACHE)}.npz" for e in episodes]
    work = {file: (e.folder, settings, images) for e, file in zip(episodes, files, strict=True)}
    fill_cache(_fill, work, jobs, on_progress)
    return chunked([_read(file) for file in files], length)


def chunked(episodes: Sequence[_Steps], length: int) -> ChunkSamples:
    """The chunk of T = ``length`` keyposes at every step.

    A chunk ends with the planner's step, where the words change: what comes after is the next step's task, of which
    these words say nothing.
    """
    chunks, counted = [], []
    for episode in episodes:
        words = episode.instructions
        begins = [i for i in range(len(words)) if i == 0 or words[i] != words[i - 1]]
        for begin, end in pairwise([*begins, len(words)]):
            of_step = episode.keyposes[begin:end]
            found = [chunk_at(of_step, first, length, KEYPOSE) for first in range(len(of_step))]
            chunks += [chunk for chunk, _ in found]
            counted += [counts for _, counts in found]
    return ChunkSamples(
        tuple(image for e in episodes for image in e.images),
        np.stack(chunks),
        np.stack(counted),
        tuple(words for e in episodes for words in e.instructions),
        tuple(e.task for e in episodes for _ in e.instructions),
    )


def episode_steps(folder: Path, settings: StackSettings, images: Any) -> _Steps:
    """What one episode shows at its steps, by the functions that run on the robot.

    Raises:
        ConfigError: Guidance or the segmenter fails on the episode with these settings.
    """
    episode = Episode(folder)
    segmenter = registry.create("segmenter", settings.backends["segmenter"], settings.sections.get("segmenter", {}))
    try:
        seen = list(observations(episode, SpatialGuide(segmenter, settings.guide)))
    except StageError as error:
        raise ConfigError(f"{folder}: cannot be guided with these settings: {error.sentence}") from error
    return _Steps(
        np.stack([resized(o.guidance.frame.rgb, images) for o in seen]),
        rows([ToolPose(k.T_base_tcp, k.gripper_open) for k in episode.keyposes], KEYPOSE),
        tuple(o.instruction for o in seen),
        episode.task,
    )


def _fill(file: Path, folder: Path, settings: StackSettings, images: Any) -> None:
    steps = episode_steps(folder, settings, images)
    with written(file) as part, part.open("wb") as out:
        np.savez_compressed(
            out,
            images=steps.images,
            keyposes=steps.keyposes,
            words=np.array(json.dumps([steps.instructions, steps.task])),
        )


def _read(file: Path) -> _Steps:
    with setting("", "Delete the file: it is a cache."):
        content = read_arrays(file, wanted="cached samples")
    try:
        instructions, task = json.loads(str(content["words"]))
        return _Steps(content["images"], content["keyposes"], tuple(instructions), task)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: cached samples are damaged ({error}): delete the file.") from error
