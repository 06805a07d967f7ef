"""Batches for the query-heatmap network: scenes with questions, and texts alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stvla_ros.planning.heatmap.weights_file import numbers, padded
from stvla_ros.planning.heatmap.words import ACTIONS, KINDS, PALETTE
from stvla_ros.train.heatmap.questions import FITTINGS, TAUGHT, SceneQuestion, class_labels, questions, text_questions
from stvla_ros.train.scenes.shards import Scenes, colour_jitter


@dataclass(frozen=True, eq=False)
class SceneBatch:
    """B scenes and T questions about them."""

    rgb: Tensor  # (B, 3, 256, 256), 0..1
    labels: Tensor  # (B, 64, 64) kind + 2 of each cell: 0 the robot, 1 surroundings
    colours: Tensor  # (B, 64, 64), -1: none
    words: Tensor  # (T, L)
    step: Tensor  # (T,)
    image: Tensor  # (T,)
    uv: Tensor  # (T, 2, 2), NaN: not in the image
    counts: Tensor  # (T, 2)
    action: Tensor  # (T,)
    steps: Tensor  # (T,)
    kind: Tensor  # (T, 2)
    colour: Tensor  # (T, 2)


@dataclass(frozen=True, eq=False)
class TextBatch:
    """T texts without images."""

    words: Tensor  # (T, L)
    step: Tensor  # (T,)
    action: Tensor  # (T,)
    steps: Tensor  # (T,)
    kind: Tensor  # (T, 2)
    colour: Tensor  # (T, 2)


def make_batch(
    scenes: Scenes,
    chosen: np.ndarray,
    words: tuple[str, ...],
    rng: np.random.Generator,
    taught: Sequence[str] = TAUGHT,
) -> SceneBatch:
    """Scenes with new questions; half of the images are mirrored, all have their colours jittered.

    Args:
        scenes: All scenes.
        chosen: Indices of those in the batch.
        words: The vocabulary.
        rng: Makes all random choices.
        taught: Colours and items that made-up tasks name (:func:`~stvla_ros.train.heatmap.questions.questions`).
    """
    asked: list[tuple[int, SceneQuestion]] = []
    images, kinds, paints = [], [], []
    for place, index in enumerate(chosen):
        mirrored = rng.random() < 0.5
        rgb, kind, paint = scenes.rgb(index), *_cells(scenes, index, taught)
        images.append(colour_jitter(rgb[:, ::-1] if mirrored else rgb, rng))
        kinds.append(kind[:, ::-1] if mirrored else kind)
        paints.append(paint[:, ::-1] if mirrored else paint)
        for question in questions(scenes, index, rng, taught):
            if mirrored:
                question.uv[:, 0] = 1000 - question.uv[:, 0]
            asked.append((place, question))
    return _batch(np.stack(images), np.stack(kinds), np.stack(paints), asked, words)


def _cells(scenes: Scenes, index: int, taught: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """What each cell shows; no colour where a question could not name it either."""
    kind, colour = scenes.cells(index)
    hidden = np.isin(kind, [KINDS.index(k) + 2 for k in FITTINGS])
    hidden &= np.isin(colour, [i for i, c in enumerate(PALETTE) if c not in taught])
    return kind, np.where(hidden, -1, colour)


def _batch(
    rgb: np.ndarray,
    labels: np.ndarray,
    colours: np.ndarray,
    asked: list[tuple[int, SceneQuestion]],
    words: tuple[str, ...],
) -> SceneBatch:
    only = [question for _, question in asked]
    meant = [class_labels(q.goal, q.step) for q in only]
    return SceneBatch(
        torch.from_numpy(rgb).permute(0, 3, 1, 2),
        torch.from_numpy(labels.copy()),
        torch.from_numpy(colours.copy()).long(),
        padded([numbers(words, q.text) for q in only]),
        torch.tensor([q.step for q in only]),
        torch.tensor([place for place, _ in asked]),
        torch.tensor(np.stack([q.uv for q in only]), dtype=torch.float32),
        torch.tensor(np.stack([q.counts for q in only])),
        torch.tensor([ACTIONS.index(q.goal.action) for q in only]),
        torch.tensor([q.goal.steps - 1 for q in only]),
        torch.tensor([kind for kind, _ in meant]),
        torch.tensor([colour for _, colour in meant]),
    )


def make_text_batch(
    count: int, words: tuple[str, ...], rng: np.random.Generator, taught: Sequence[str] = TAUGHT
) -> TextBatch:
    """Texts of tasks, and a few of pointing."""
    texts = text_questions(count, rng, taught)
    meant = [class_labels(goal, step) for _, goal, step in texts]
    return TextBatch(
        padded([numbers(words, text) for text, _, _ in texts]),
        torch.tensor([step for _, _, step in texts]),
        torch.tensor([ACTIONS.index(goal.action) for _, goal, _ in texts]),
        torch.tensor([goal.steps - 1 for _, goal, _ in texts]),
        torch.tensor([kind for kind, _ in meant]),
        torch.tensor([colour for _, colour in meant]),
    )
