"""The test set ``st-human``: our own splits, and any file in our unified JSON (:mod:`stvla_ros.data.st_human.samples`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.samples import Objects, Sample
from stvla_ros.data.st_human.samples_json import read_samples
from stvla_ros.evaluate.planner.answers import LETTERS, chosen
from stvla_ros.evaluate.planner.datasets import Dataset
from stvla_ros.evaluate.planner.datasets.files import find
from stvla_ros.evaluate.planner.question import (
    Choice,
    Depths,
    Path2d,
    PromptStyle,
    Question,
    Region,
    Sentence,
    Steps,
    Truth,
)
from stvla_ros.evaluate.planner.report import Scored


def _read(folder: Path, style: PromptStyle) -> list[Question]:
    """Questions of a file, or of ``test.json(l)`` or any file of samples in a folder; asked as they are written."""
    path = find(folder, "test.jsonl", "test.json", "val.jsonl", "val.json", "*.jsonl", "*.json")[0]
    return [question(sample) for sample in read_samples(path)]


def question(sample: Sample) -> Question:
    """A sample as a question: its last answer is what is wanted.

    Raises:
        ConfigError: A multiple-choice sample whose answer names no option.
    """
    return Question(sample.id, _group(sample), _truth(sample), sample.question)


def _group(sample: Sample) -> str:
    later = sample.task == "trajectory" and (sample.objects.step or 1) > 1
    return f"{sample.task}, later step" if later else sample.task


def _truth(sample: Sample) -> Truth:
    objects = sample.objects
    if sample.task == "pointing":
        return Region(objects.bbox_2d, (1000, 1000), spot=objects.point_2d)
    if sample.task == "trajectory":
        return Path2d(np.array(objects.traj_2d, np.float64), (1000, 1000))
    if sample.task == "depth":
        return Depths(np.array(objects.depth_offset_mm, np.float64) / 1000, objects.start_depth_m)
    if sample.task == "progress":
        return _steps(objects)
    return _choice(sample) if sample.task == "spatial" else Sentence(sample.answer)


def _steps(objects: Objects) -> Steps:
    assert objects.step is not None
    return Steps(objects.step, objects.finished)


def _choice(sample: Sample) -> Choice:
    right = chosen(sample.answer)
    if right is None:
        raise ConfigError(
            f"{sample.id}: wanted the letter of an option, such as ({LETTERS[0]}), found '{sample.answer[:60]}'."
        )
    return Choice(right)


def _summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Nothing: the tasks do not add up to one figure."""
    return {}


ST_HUMAN = Dataset("st-human", "yours to make: docs/planner_training.md has the format", _read, _summary)
