"""Training samples: the policy's observation at every step of the episodes, and the keypose that followed."""

from __future__ import annotations

import hashlib
import json
import signal
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.data.episode import Episode
from stvla_ros.data.replay import observations
from stvla_ros.errors import StageError
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.files import read_arrays, setting, written
from stvla_ros.perception.guide import SpatialGuide
from stvla_ros.policy.observation import PolicyInput, policy_input, pose_row
from stvla_ros.types import F32, U8

REST = "rest"
ARRAYS = ("rgb", "xyz_m", "history", "target")


@dataclass(frozen=True, eq=False)
class Samples:
    """N steps with one camera and one gripper; images have S x S pixels.

    Attributes:
        rgb: (N, 3, S, S) uint8.
        xyz_m: (N, 3, S, S) float32, base frame.
        history: (N, 3, 8) float32: xyz, quaternion xyzw, 1 for open.
        target: (N, 8) float32, the keypose that was executed, in the same format.
        instructions: N sentences.
        tasks: N names.
    """

    rgb: U8
    xyz_m: F32
    history: F32
    target: F32
    instructions: tuple[str, ...]
    tasks: tuple[str, ...]

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


def episode_inputs(episode: Episode, settings: StackSettings, size_px: int) -> Iterator[PolicyInput]:
    """The policy's observation at every step of an episode, rebuilt by the functions that run on the robot.

    Raises:
        StageError: Guidance or the segmenter fails on the episode with these settings.
    """
    segmenter = registry.create("segmenter", settings.backends["segmenter"], settings.sections.get("segmenter", {}))
    for observation in observations(episode, SpatialGuide(segmenter, settings.guide)):
        yield policy_input(observation, episode.start_pose, size_px)


def episode_samples(folder: Path, settings: StackSettings, size_px: int) -> Samples:
    """Samples of one episode.

    Raises:
        ConfigError: See :func:`episode_inputs`.
    """
    episode = Episode(folder)
    try:
        inputs = list(episode_inputs(episode, settings, size_px))
    except StageError as error:
        raise ConfigError(f"{folder}: cannot be guided with these settings: {error.sentence}") from error
    targets = [pose_row(k.T_base_tcp, k.gripper_open) for k in episode.keyposes]
    return Samples(
        np.stack([i.rgb for i in inputs]),
        np.stack([i.xyz_m for i in inputs]),
        np.stack([i.history for i in inputs]),
        np.stack(targets),
        tuple(i.instruction for i in inputs),
        (episode.task,) * len(inputs),
    )


def concatenate(parts: Sequence[Samples]) -> Samples:
    """Several sets of samples as one."""
    rgb, xyz_m, history, target = (np.concatenate([getattr(p, name) for p in parts]) for name in ARRAYS)
    instructions = tuple(text for p in parts for text in p.instructions)
    return Samples(rgb, xyz_m, history, target, instructions, tuple(task for p in parts for task in p.tasks))


def load_samples(
    episodes: Sequence[Episode],
    settings: StackSettings,
    size_px: int,
    cache: Path,
    jobs: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Samples:
    """Samples of all episodes. Each goes through guidance once and is cached, so that the next run starts at once.

    Args:
        episodes: The episodes.
        settings: Of guidance and segmenter, as on the robot.
        size_px: Width and height of the images.
        cache: Folder of cached samples, by episode and settings; delete it after changing the code of guidance.
        jobs: Number of processes.
        on_progress: Called with 1 after every episode.

    Raises:
        ConfigError: An episode is damaged, guidance fails on it with these settings, or a process died.
    """
    cache.mkdir(parents=True, exist_ok=True)
    files = [cache / f"{e.folder.name}-{_key(e.folder, settings, size_px)}.npz" for e in episodes]
    missing = {file: e.folder for e, file in zip(episodes, files, strict=True) if not file.exists()}
    on_progress(len(files) - len(missing))
    with ProcessPoolExecutor(jobs, get_context("spawn"), _ignore_interrupts) as pool:
        work = [pool.submit(_fill, folder, settings, size_px, file) for file, folder in missing.items()]
        try:
            for future in as_completed(work):
                future.result()
                on_progress(1)
        except BrokenProcessPool as error:
            raise ConfigError(
                "guidance of the episodes: a process died, perhaps out of memory: try fewer --threads."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C: start nothing more
    return concatenate([_read(file) for file in files])


def _ignore_interrupts() -> None:
    """For worker processes: Ctrl-C reaches all of them, and the parent stops the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _key(folder: Path, settings: StackSettings, size_px: int) -> str:
    """Changes with the episode's contents and with all settings that affect its samples, not with the folder's path."""
    what = [
        asdict(settings.guide),
        settings.backends["segmenter"],
        dict(settings.sections.get("segmenter", {})),
        size_px,
    ]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)} {file.stat().st_size}\n".encode())
        if file.suffix == ".json":
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _fill(folder: Path, settings: StackSettings, size_px: int, file: Path) -> None:
    samples = episode_samples(folder, settings, size_px)
    with written(file) as part, part.open("wb") as out:
        np.savez_compressed(
            out,
            rgb=samples.rgb,
            xyz_m=samples.xyz_m,
            history=samples.history,
            target=samples.target,
            rest=np.array(json.dumps([samples.instructions, samples.tasks])),
        )


def _read(file: Path) -> Samples:
    with setting("", "Delete the file: it is a cache."):
        content = read_arrays(file, wanted="cached samples")
    try:
        instructions, tasks = json.loads(str(content[REST]))
        rgb, xyz_m, history, target = (content[name] for name in ARRAYS)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file}: cached samples are damaged ({error}): delete the file.") from error
    return Samples(rgb, xyz_m, history, target, tuple(instructions), tuple(tasks))


def by_length(lengths: Iterable[int]) -> dict[int, list[int]]:
    """Indices of samples by instruction length. A batch has one length, since networks attend to every token."""
    groups: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        groups.setdefault(length, []).append(i)
    return groups
