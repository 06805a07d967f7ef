"""Rendered scenes as conversations in the format of ST-Human, for supervised fine-tuning and for evaluation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from stvla_ros.data.st_human.samples import IMAGE, Objects, Sample, conversation, write_image
from stvla_ros.data.st_human.samples_json import write_samples
from stvla_ros.planning.parse import parse_offsets, parse_points, parse_progress
from stvla_ros.train.scenes.dialogues import Exchange, pointing_conversations, task_conversations
from stvla_ros.train.scenes.shards import Scenes, resized


def export(scenes: Scenes, path: Path, seed: int, on_progress: Callable[[int], None] = lambda _: None) -> int:
    """Write the conversations of all scenes, and their images next to the file.

    Returns:
        The number of conversations.

    Raises:
        SampleError: A conversation does not fit the format.
    """
    cv2.setNumThreads(1)
    samples: list[Sample] = []
    for index in range(len(scenes)):
        samples += _samples(scenes, index, path.parent, np.random.default_rng([seed, index]))
        on_progress(index + 1)
    write_samples(path, samples)
    return len(samples)


def _samples(scenes: Scenes, index: int, root: Path, rng: np.random.Generator) -> Iterator[Sample]:
    name = f"scene-{int(scenes.arrays['seed'][index])}"
    shape = scenes.shape_px(index)
    rgb = write_image(root, name, resized(scenes.rgb(index), shape))
    conversations = [
        *pointing_conversations(scenes, index, rng),
        *task_conversations(scenes, index, rng, depth=True, together=0.0),
    ]
    for number, exchanges in enumerate(conversations):
        if exchanges[0].answer == "unknown":
            continue
        yield _sample(f"{name}-{number}", (rgb,), exchanges[:1], root)
        if len(exchanges) > 1:
            depth = write_image(root, f"{name}-depth", resized(scenes.depth_image(index), shape))
            yield _sample(f"{name}-{number}-depth", (rgb, depth), exchanges, root)


def _sample(id_: str, images: tuple[str, ...], exchanges: list[Exchange], root: Path) -> Sample:
    words: list[str] = []
    for k, exchange in enumerate(exchanges):
        words += [f"{IMAGE if not k or exchange.with_depth else ''}{exchange.question}", exchange.answer]
    kind, objects = _truth(exchanges[-1])
    return Sample(id_, kind, conversation(*words), images, objects, root)


def _truth(exchange: Exchange) -> tuple[str, Objects]:
    """What a conversation asks for, and its last answer as values."""
    answer = exchange.answer
    if exchange.question.startswith("Point"):
        x, y = parse_points(answer, 1)[0]
        return "pointing", Objects(point_2d=(float(x), float(y)))
    if exchange.kind == "points":
        return "trajectory", Objects(traj_2d=tuple((float(x), float(y)) for x, y in parse_points(answer)))
    if exchange.kind == "offsets":
        said = re.search(r"Start depth: (\d+) mm", exchange.question)
        millimetres = tuple(float(round(1000 * d)) for d in parse_offsets(answer))
        return "depth", Objects(start_depth_m=int(said[1]) / 1000 if said else None, depth_offset_mm=millimetres)
    if answer.startswith("step"):
        progress = parse_progress(answer)
        return "progress", Objects(step=progress.step, steps=progress.total, finished=progress.finished)
    return "next_action", Objects()
