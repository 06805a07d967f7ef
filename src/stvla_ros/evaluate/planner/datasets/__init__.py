"""Readers of test sets: our own splits, and published ones in the formats in which they are published.

Nothing is downloaded: a reader takes the folder into which a user put the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from stvla_ros.config import ConfigError, closest
from stvla_ros.evaluate.planner.asking import Asking
from stvla_ros.evaluate.planner.question import Question
from stvla_ros.evaluate.planner.report import Scored

COMPAT = ("strict", "embodied-r1", "robopoint")
"""Ways to sum up: each set's own and ours; as Embodied-R1's evaluators, whose tables the paper continues; as RoboPoint's."""


class Reader(Protocol):
    """What a module of this package offers."""

    def read(self, folder: Path, asking: Asking) -> list[Question]:
        """All questions. Raises ConfigError when the files are not there or not of the format."""
        ...

    def summary(self, results: Sequence[Scored], compat: str) -> Mapping[str, float]:
        """Figures of the whole set in one of the ways of :data:`COMPAT`; a way that is not defined for it is the first."""
        ...


@dataclass(frozen=True)
class Dataset:
    """One test set: the module that reads it, and where it is published."""

    module: str
    source: str


DATASETS = {
    "st-human": Dataset("st_human", "yours to make: docs/planner_training.md has the format"),
    "words": Dataset("words", "test/planning/instructions.txt of this repository; add lines of yours"),
    "roborefit": Dataset("roborefit", "github.com/luyh20/VL-Grasp (MIT)"),
    "where2place": Dataset("where2place", "huggingface.co/datasets/wentaoyuan/where2place (Apache-2.0)"),
    "vabench-p": Dataset("vabench_point", "huggingface.co/IffYuan, VABench-Point (see its card for the licence)"),
    "vabench-v": Dataset("vabench_trace", "huggingface.co/IffYuan, VABench-VisualTrace (see its card for the licence)"),
    "cvbench": Dataset("cvbench", "huggingface.co/datasets/nyu-visionx/CV-Bench (Apache-2.0)"),
    "sat": Dataset("sat", "huggingface.co/datasets/array/SAT (MIT)"),
    "crpe": Dataset("crpe", "huggingface.co/datasets/OpenGVLab/CRPE (Apache-2.0)"),
    "blink": Dataset("blink", "huggingface.co/datasets/BLINK-Benchmark/BLINK (Apache-2.0)"),
}


def read(name: str, folder: Path, asking: Asking) -> list[Question]:
    """All questions of a test set, each with an id of its own.

    Raises:
        ConfigError: Unknown name; files missing or not of the format; two questions with one id.
    """
    if name not in DATASETS:
        raise ConfigError(f"dataset: '{name}' is not known.{closest(name, DATASETS)}")
    if not folder.exists():
        raise ConfigError(f"{folder}: no such file or folder; {name} is at {DATASETS[name].source}.")
    questions = _reader(name).read(folder, asking)
    if not questions:
        raise ConfigError(f"{folder}: wanted questions of {name}, found none.")
    if len({q.id for q in questions}) < len(questions):
        raise ConfigError(f"{folder}: two questions have the same id: the files are damaged, or there twice.")
    return questions


def summary(name: str, results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Figures of the whole set; see :class:`Reader`."""
    return _reader(name).summary(results, compat)


def _reader(name: str) -> Reader:
    return cast(Reader, import_module(f"{__name__}.{DATASETS[name].module}"))
