"""Training samples: the policy's observation at every step of the episodes, and the keypose that followed."""

from __future__ import annotations

import hashlib
import json
import signal
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.data.episode import Episode
from stvla_ros.data.replay import observations
from stvla_ros.errors import StageError
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.files import read_arrays, setting, written
from stvla_ros.policy.observation import PATH_POINTS, PolicyInput, policy_input, pose_row
from stvla_ros.train.policy.path_noise import NO_NOISE, NoisyGuide, PathNoise
from stvla_ros.types import F32, U8

REST = "rest"
ARRAYS = ("rgb", "xyz_m", "history", "target", "path_m")

CACHE = "samples-3"
"""Changes whenever cached samples are made in another way."""


@dataclass(frozen=True, eq=False)
class Samples:
    """N steps with one camera and one gripper; images have S x S pixels.

    Images are kept as they are measured, for thousands of them to fit into memory: half precision rounds a position by
    0.25 mm at most up to a metre, and by 0.5 mm up to two.

    Attributes:
        rgb: (N, 3, S, S) uint8.
        xyz_m: (N, 3, S, S) float16, base frame; other precisions are rounded.
        history: (N, 3, 8) float32: xyz, quaternion xyzw, 1 for open.
        target: (N, 8) float32, the keypose that was executed, in the same format.
        instructions: N sentences.
        tasks: N names.
        path_m: (N, K, 3) float32 points of the path; NaN where none is drawn. None stands for that.
    """

    rgb: U8
    xyz_m: npt.NDArray[np.floating[Any]]
    history: F32
    target: F32
    instructions: tuple[str, ...]
    tasks: tuple[str, ...]
    path_m: F32 = None  # type: ignore[assignment]  # replaced below

    def __post_init__(self) -> None:
        object.__setattr__(self, "xyz_m", np.asarray(self.xyz_m, np.float16))
        if self.path_m is None:
            object.__setattr__(self, "path_m", np.full((len(self.target), PATH_POINTS, 3), np.nan, np.float32))

    def __len__(self) -> int:
        return len(self.target)

    def fingerprint(self) -> str:
        """Checksum of every pixel, pose and word; a resumed run recognises its data by it."""
        sums = [zlib.crc32(np.ascontiguousarray(getattr(self, name)).data) for name in ARRAYS]
        sums.append(zlib.crc32(json.dumps([self.instructions, self.tasks]).encode()))
        return "-".join(f"{one:08x}" for one in sums)

    def bounds_m(self, margin_m: float) -> F32:
        """(2, 3) minimum and maximum of target positions, widened by ``margin_m``: the network's workspace."""
        xyz = self.target[:, :3]
        return np.stack([xyz.min(0) - margin_m, xyz.max(0) + margin_m])


def episode_inputs(
    episode: Episode, settings: StackSettings, size_px: int, noise: PathNoise = NO_NOISE
) -> Iterator[PolicyInput]:
    """The policy's observation at every step of an episode, rebuilt by the functions that run on the robot.

    Without ``noise`` on the paths it is what the policy saw, bit for bit.

    Raises:
        StageError: Guidance or the segmenter fails on the episode with these settings.
    """
    segmenter = registry.create("segmenter", settings.backends["segmenter"], settings.sections.get("segmenter", {}))
    seed = zlib.crc32(f"{episode.task} {episode.seed}".encode())
    start = None
    for observation in observations(episode, NoisyGuide(segmenter, settings.guide, noise, seed)):
        if not observation.history:
            start = observation.robot.T_base_tcp
        yield policy_input(observation, start, size_px)


def episode_samples(folder: Path, settings: StackSettings, size_px: int, noise: PathNoise = NO_NOISE) -> Samples:
    """Samples of one episode. If guidance fails because of the noise on the paths, there is none.

    Raises:
        ConfigError: See :func:`episode_inputs`.
    """
    episode = Episode(folder)
    try:
        inputs = list(episode_inputs(episode, settings, size_px, noise))
    except StageError as error:
        if noise.any:
            return episode_samples(folder, settings, size_px)
        raise ConfigError(f"{folder}: cannot be guided with these settings: {error.sentence}") from error
    targets = [pose_row(k.T_base_tcp, k.gripper_open) for k in episode.keyposes]
    return Samples(
        np.stack([i.rgb for i in inputs]),
        np.stack([i.xyz_m for i in inputs]),
        np.stack([i.history for i in inputs]),
        np.stack(targets),
        tuple(i.instruction for i in inputs),
        (episode.task,) * len(inputs),
        np.stack([i.path_m for i in inputs]),
    )


def concatenate(parts: Sequence[Samples]) -> Samples:
    """Several sets of samples as one."""
    rgb, xyz_m, history, target, path_m = (np.concatenate([getattr(p, name) for p in parts]) for name in ARRAYS)
    instructions, tasks = (tuple(w for p in parts for w in getattr(p, name)) for name in ("instructions", "tasks"))
    return Samples(rgb, xyz_m, history, target, instructions, tasks, path_m)


def load_samples(
    episodes: Sequence[Episode],
    settings: StackSettings,
    size_px: int,
    cache: Path,
    jobs: int,
    on_progress: Callable[[int], None] = lambda _: None,
    noise: PathNoise = NO_NOISE,
) -> Samples:
    """Samples of all episodes. Each goes through guidance once and is cached, so that the next run starts at once.

    Args:
        episodes: The episodes.
        settings: Of guidance and segmenter, as on the robot.
        size_px: Width and height of the images.
        cache: Folder of cached samples, by episode and settings; delete it after changing the code of guidance.
        jobs: Number of processes.
        on_progress: Called with 1 after every episode.
        noise: On the paths.

    Raises:
        ConfigError: An episode is damaged, guidance fails on it with these settings, or a process died.
    """
    cache.mkdir(parents=True, exist_ok=True)
    files = [cache / f"{e.folder.name}-{_key(e.folder, settings, size_px, noise)}.npz" for e in episodes]
    work = {file: (e.folder, settings, size_px, noise) for e, file in zip(episodes, files, strict=True)}
    fill_cache(_fill, work, jobs, on_progress)
    return concatenate([_read(file) for file in files])


def fill_cache(
    fill: Callable[..., None], work: Mapping[Path, tuple[Any, ...]], jobs: int, on_progress: Callable[[int], None]
) -> None:
    """Write the files that are missing, in several processes; a single job is done in this one.

    Args:
        fill: Called with a file and what stands beside it; a function of a module, for other processes to import.
        work: File -> further arguments.
        jobs: Number of processes.
        on_progress: Called with the number of files that are there, then with 1 after every file.

    Raises:
        ConfigError: Of ``fill``, or a process died.
    """
    missing = {file: arguments for file, arguments in work.items() if not file.exists()}
    on_progress(len(work) - len(missing))
    if jobs == 1 or len(missing) < 2:  # another process would begin with seconds of imports
        for file, arguments in missing.items():
            fill(file, *arguments)
            on_progress(1)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), _ignore_interrupts) as pool:
        futures = [pool.submit(fill, file, *arguments) for file, arguments in missing.items()]
        try:
            for future in as_completed(futures):
                future.result()
                on_progress(1)
        except BrokenProcessPool as error:
            raise ConfigError(
                "guidance of the episodes: a process died, perhaps out of memory: try fewer --threads."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C: start nothing more


def _ignore_interrupts() -> None:
    """For worker processes: Ctrl-C reaches all of them, and the parent stops the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _key(folder: Path, settings: StackSettings, size_px: int, noise: PathNoise) -> str:
    return cache_key(folder, settings, size_px, CACHE, *([asdict(noise)] if noise.any else []))


def cache_key(folder: Path, settings: StackSettings, *further: Any) -> str:
    """Changes with the episode's contents and with all settings that affect its samples, not with the folder's path.

    Args:
        folder: Of the episode.
        settings: Of guidance and segmenter.
        further: Plain values.
    """
    what = [
        asdict(settings.guide),
        settings.backends["segmenter"],
        dict(settings.sections.get("segmenter", {})),
        *further,
    ]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)} {file.stat().st_size}\n".encode())
        if file.suffix == ".json":
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _fill(file: Path, folder: Path, settings: StackSettings, size_px: int, noise: PathNoise) -> None:
    samples = episode_samples(folder, settings, size_px, noise)
    with written(file) as part, part.open("wb") as out:
        np.savez_compressed(
            out,
            **{name: getattr(samples, name) for name in ARRAYS},
            rest=np.array(json.dumps([samples.instructions, samples.tasks])),
        )


def _read(file: Path) -> Samples:
    with setting("", "Delete the file: it is a cache."):
        content = read_arrays(file, wanted="cached samples")
    try:
        instructions, tasks = json.loads(str(content[REST]))
        arrays = {name: content[name] for name in ARRAYS}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: cached samples are damaged ({error}): delete the file.") from error
    return Samples(**arrays, instructions=tuple(instructions), tasks=tuple(tasks))
