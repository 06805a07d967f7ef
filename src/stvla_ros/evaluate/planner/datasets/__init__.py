"""Test sets by name: operators' words, and published sets in the formats in which they are published.

Nothing is downloaded: a reader takes the folder into which a user put the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.datasets import multiple_choice, points_and_paths, st_human, words
from stvla_ros.evaluate.planner.question import Asking, Question
from stvla_ros.evaluate.planner.report import Scored, accuracy

COMPAT = ("strict", "embodied-r1", "robopoint")
"""Ways to sum up: each set's own and ours; as Embodied-R1's evaluators, whose tables the paper continues; as RoboPoint's."""


@dataclass(frozen=True)
class Dataset:
    """One test set.

    Attributes:
        name: On the command line.
        source: Where it is published.
        questions: Reads all questions of a folder. Raises ConfigError when the files are not there or not of the format.
        summary: Figures of the whole set in one of the ways of :data:`COMPAT`; where that way is not defined, in the first.
    """

    name: str
    source: str
    questions: Callable[[Path, Asking], list[Question]]
    summary: Callable[[Sequence[Scored], str], Mapping[str, float]]

    def read(self, folder: Path, asking: Asking) -> list[Question]:
        """All questions, each with an id of its own.

        Raises:
            ConfigError: Files are missing or not of the format, or two questions have one id.
        """
        if not folder.exists():
            raise ConfigError(f"{folder}: no such file or folder; {self.name} is at {self.source}.")
        questions = self.questions(folder, asking)
        if not questions:
            raise ConfigError(f"{folder}: wanted questions of {self.name}, found none.")
        if len({q.id for q in questions}) < len(questions):
            raise ConfigError(f"{folder}: two questions have the same id: the files are damaged, or there twice.")
        return questions


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset("st-human", "yours to make: docs/planner_training.md has the format", st_human.read, st_human.summary),
        Dataset(
            "words",
            "test/planning/instructions.txt of this repository; add lines of yours",
            words.read,
            words.summary,
        ),
        Dataset(
            "roborefit",
            "github.com/luyh20/VL-Grasp (MIT)",
            points_and_paths.roborefit,
            points_and_paths.roborefit_summary,
        ),
        Dataset(
            "where2place",
            "huggingface.co/datasets/wentaoyuan/where2place (Apache-2.0)",
            points_and_paths.where2place,
            points_and_paths.hit_rate,
        ),
        Dataset(
            "vabench-p",
            "huggingface.co/IffYuan, VABench-Point (see its card for the licence)",
            points_and_paths.vabench_points,
            points_and_paths.hit_rate,
        ),
        Dataset(
            "vabench-v",
            "huggingface.co/IffYuan, VABench-VisualTrace (see its card for the licence)",
            points_and_paths.vabench_paths,
            points_and_paths.vabench_paths_summary,
        ),
        Dataset(
            "cvbench",
            "huggingface.co/datasets/nyu-visionx/CV-Bench (Apache-2.0)",
            multiple_choice.cvbench,
            multiple_choice.cvbench_summary,
        ),
        Dataset("sat", "huggingface.co/datasets/array/SAT (MIT)", multiple_choice.sat, accuracy),
        Dataset(
            "crpe",
            "huggingface.co/datasets/OpenGVLab/CRPE (Apache-2.0)",
            multiple_choice.crpe,
            multiple_choice.crpe_summary,
        ),
        Dataset(
            "blink",
            "huggingface.co/datasets/BLINK-Benchmark/BLINK (Apache-2.0)",
            multiple_choice.blink,
            multiple_choice.blink_summary,
        ),
    )
}
"""Name -> test set. A set in the format of an application belongs to that application."""
