"""Test sets by name: operators' words, and published sets in the formats in which they are published.

Nothing is downloaded: a reader takes the folder with the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.datasets import multiple_choice as choice
from stvla_ros.evaluate.planner.datasets import points_and_paths as points
from stvla_ros.evaluate.planner.datasets import words
from stvla_ros.evaluate.planner.question import PromptStyle, Question
from stvla_ros.evaluate.planner.report import Scored, accuracy

COMPAT = ("strict", "embodied-r1", "robopoint")
"""Ways to sum up: each set's own; Embodied-R1's evaluators', whose tables the paper extends; RoboPoint's."""


@dataclass(frozen=True)
class Dataset:
    """One test set.

    Attributes:
        name: On the command line.
        source: Where it is published.
        questions: Reads all questions of a folder. Raises ConfigError when the files are not there or not of the
            format.
        summary: Figures of the whole set in one of the ways of :data:`COMPAT`; if a set does not define that way, in
            the first.
    """

    name: str
    source: str
    questions: Callable[[Path, PromptStyle], list[Question]]
    summary: Callable[[Sequence[Scored], str], Mapping[str, float]]

    def read(self, folder: Path, style: PromptStyle) -> list[Question]:
        """All questions, each with an id of its own.

        Raises:
            ConfigError: Files are missing or not of the format, or two questions have one id.
        """
        if not folder.exists():
            raise ConfigError(f"{folder}: no such file or folder; {self.name} is at {self.source}.")
        questions = self.questions(folder, style)
        if not questions:
            raise ConfigError(f"{folder}: wanted questions of {self.name}, found none.")
        if len({q.id for q in questions}) < len(questions):
            raise ConfigError(f"{folder}: two questions have the same id: the files are damaged, or there twice.")
        return questions


_ON_HF = "huggingface.co/datasets"
_VABENCH = "huggingface.co/IffYuan, VABench-{} (see its card for the licence)"

PUBLISHED = (
    Dataset(
        "words", "test/planning/instructions.txt of this repository; add lines of yours", words.read, words.summary
    ),
    Dataset("roborefit", "github.com/luyh20/VL-Grasp (MIT)", points.roborefit, points.roborefit_summary),
    Dataset("where2place", f"{_ON_HF}/wentaoyuan/where2place (Apache-2.0)", points.where2place, points.hit_rate),
    Dataset("vabench-p", _VABENCH.format("Point"), points.vabench_points, points.hit_rate),
    Dataset("vabench-v", _VABENCH.format("VisualTrace"), points.vabench_paths, points.vabench_paths_summary),
    Dataset("cvbench", f"{_ON_HF}/nyu-visionx/CV-Bench (Apache-2.0)", choice.cvbench, choice.cvbench_summary),
    Dataset("sat", f"{_ON_HF}/array/SAT (MIT)", choice.sat, accuracy),
    Dataset("crpe", f"{_ON_HF}/OpenGVLab/CRPE (Apache-2.0)", choice.crpe, choice.crpe_summary),
    Dataset("blink", f"{_ON_HF}/BLINK-Benchmark/BLINK (Apache-2.0)", choice.blink, choice.blink_summary),
)
"""All sets but ``st-human``, whose format and reader are in :mod:`stvla_ros.data`."""
