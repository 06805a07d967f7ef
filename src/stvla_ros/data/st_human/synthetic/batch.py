"""Many videos in parallel workers. An interrupted batch resumes.

::

    settings.json            size, noise, look: one folder holds videos of one setting only
    videos/<kind>-<seed>/    see video.py; a folder is there when its video is complete
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from stvla_ros.config import ConfigError, closest
from stvla_ros.data.st_human.synthetic.kinds import KINDS
from stvla_ros.data.st_human.synthetic.video import NotShownError, VideoSettings, make_video
from stvla_ros.errors import OutcomeCode
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.files import keep_settings


def check_kinds(names: str | None) -> tuple[str, ...]:
    """Kinds from ``a,b``; None: all. Raises ConfigError that names the closest one."""
    chosen = tuple(KINDS) if names is None else tuple(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in chosen:
        if name not in KINDS:
            raise ConfigError(f"--tasks: '{name}' is not known.{closest(name, KINDS)}")
    return chosen


def videos_to_make(
    folder: Path, kinds: Sequence[str], count: int, first: int, settings: VideoSettings
) -> list[EpisodeSpec]:
    """What is missing of ``count`` videos of each kind, with the seeds from ``first`` on; removes unfinished ones.

    Raises:
        ConfigError: The folder holds videos of other settings.
    """
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    keep_settings(folder / "settings.json", asdict(settings), "videos made")
    for unfinished in (folder / "videos").glob("*.part"):
        shutil.rmtree(unfinished, ignore_errors=True)
    wanted = (EpisodeSpec(kind, first + n) for n in range(count) for kind in kinds)
    return [spec for spec in wanted if not video_folder(folder, spec).is_dir()]


def video_folder(folder: Path, spec: EpisodeSpec) -> Path:
    """Where a video is."""
    return folder / "videos" / Path(spec.file_name).stem


@dataclass(frozen=True)
class VideoMaker:
    """Makes videos in a worker process, for an :class:`stvla_ros.evaluate.workers.Engine`; also its own environment.

    Attributes:
        folder: Of the batch.
        settings: Of all videos.
    """

    folder: Path
    settings: VideoSettings

    @contextmanager
    def open(self) -> Iterator[VideoMaker]:
        """Nothing is kept between videos."""
        yield self

    def run(self, episode: EpisodeSpec) -> EpisodeRecord:
        """Make one. Raises ConfigError without OpenGL on this machine."""
        try:
            truth = make_video(episode.task, episode.seed, self.settings, video_folder(self.folder, episode))
        except NotShownError as error:
            return EpisodeRecord(
                episode.task, episode.seed, "", OutcomeCode.INVALID_GOAL.name, str(error), False, "not drawn"
            )
        said, seconds = truth["sentence"], truth["frames"] / self.settings.fps
        return EpisodeRecord(
            episode.task,
            episode.seed,
            said,
            OutcomeCode.OK.name,
            said,
            True,
            f"{truth['frames']} frames",
            robot_s=seconds,
        )
