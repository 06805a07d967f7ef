"""Many videos in parallel workers: a video is an episode of the engines that evaluation has, here or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.process.video import ProcessSettings, process_video
from stvla_ros.data.st_human.readers.layouts import Readers
from stvla_ros.errors import OutcomeCode
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec


@dataclass(frozen=True)
class ProcessSetup:
    """Processes the videos below one folder into another; plain values, as workers get it pickled."""

    folder: str
    output: str
    settings: ProcessSettings
    readers: Readers = field(default_factory=Readers)

    @contextmanager
    def open(self) -> Iterator[ProcessSetup]:
        """Nothing is kept between videos."""
        yield self

    def run(self, episode: EpisodeSpec) -> EpisodeRecord:
        """Process the video whose path below the folder is the episode's task. What is refused is a record too."""
        source, name = Path(self.folder) / episode.task, episode.task
        if name == ".":
            name = source.resolve().name
        target = Path(self.output) / name
        try:
            report = process_video(source, target.with_suffix("") if source.is_file() else target, self.settings,
                                   readers=self.readers)  # fmt: skip
        except ConfigError as error:
            return EpisodeRecord(episode.task, 0, "", OutcomeCode.INVALID_GOAL.name, str(error), False, "refused")
        facts = {
            "actions": report.actions,
            "accepted": report.accepted,
            "samples": report.samples,
            "frames": report.frames,
        }
        return EpisodeRecord(
            episode.task, 0, "", OutcomeCode.OK.name, " ".join(report.notes), True, "",
            times_s=report.seconds, facts={key: float(value) for key, value in facts.items()},
        )  # fmt: skip


def specs(folder: Path, sources: Sequence[Path]) -> list[EpisodeSpec]:
    """One episode for each video below a folder."""
    return [EpisodeSpec(str(source.relative_to(folder)), 0) for source in sources]
