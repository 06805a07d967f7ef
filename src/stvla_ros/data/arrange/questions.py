"""Questions about the first frame of an episode, with true answers: points, boxes, traces, and masks.

Points, boxes and traces are conversations of :mod:`stvla_ros.data.st_human.samples`; a mask belongs to a question in the form
of Where2Place (``point_questions.jsonl``, ``masks/``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.data.st_human.samples import IMAGE, Objects, Sample, conversation, write_image
from stvla_ros.data.st_human.samples_json import parse_sample, plain, write_samples
from stvla_ros.files import read_json, written
from stvla_ros.files import write_image as write_file
from stvla_ros.geometry.cameras import px_to_uv
from stvla_ros.planning.prompt import box_prompt, pointing_prompt, trace_prompt, write_points
from stvla_ros.sim.scene import CellTruth
from stvla_ros.types import F64, Bool, RgbdFrame, TracePlan

MIN_VISIBLE_PX = 60
"""Nothing is asked about things that show fewer pixels."""


def write_questions(folder: Path, name: str, frame: RgbdFrame, truth: CellTruth, plan: TracePlan) -> int:
    """Write the questions about one frame, its image and a mask.

    Args:
        folder: Of all questions.
        name: Of the view.
        frame: What is seen.
        truth: Of the same instant and camera.
        plan: The expert's path on it.

    Returns:
        How many questions.
    """
    image = write_image(folder, name, frame.rgb)
    seen = {n: m for i, n in enumerate(truth.names, 1) if (m := truth.labels == i).sum() >= MIN_VISIBLE_PX}
    samples = [_trace(f"{name}-trace", image, plan, folder)]
    for thing, mask in seen.items():
        samples += _about(f"{name}-{thing}", image, thing.replace("_", " "), mask, frame, folder)
    entry: dict[str, Any] = {"samples": [plain(sample) for sample in samples], "masked": None}
    if seen:  # the form has one question per image
        thing = list(seen)[int(np.random.default_rng(list(name.encode())).integers(len(seen)))]
        (folder / "masks").mkdir(exist_ok=True)
        with written(folder / "masks" / Path(image).name) as part:
            write_file(part, np.repeat(255 * seen[thing][..., None].astype(np.uint8), 3, axis=2))
        text = f"Point to the {thing.replace('_', ' ')}."
        entry["masked"] = {"question_id": name, "image": Path(image).name, "text": text}
    with written(folder / "parts" / f"{name}.json") as part:
        part.write_text(json.dumps(entry, ensure_ascii=False), encoding="utf-8")
    return len(samples) + bool(seen)


def gather(folder: Path) -> int:
    """Make the files that training and evaluation read of all questions; returns how many there are.

    Raises:
        SampleError: A part is damaged.
    """
    samples: list[Sample] = []
    masked: list[Any] = []
    for path in sorted((folder / "parts").glob("*.json")):
        entry = read_json(path)
        samples += [parse_sample(sample, folder, str(path)) for sample in entry["samples"]]
        masked += [entry["masked"]] if entry["masked"] else []
    write_samples(folder / "samples.json", samples)
    with written(folder / "point_questions.jsonl") as part:
        part.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in masked), encoding="utf-8")
    return len(samples) + len(masked)


def _trace(id_: str, image: str, plan: TracePlan, root: Path) -> Sample:
    asked = conversation(f"{IMAGE}{trace_prompt(plan.words)}", write_points(plan.uv))
    return Sample(id_, "trajectory", asked, (image,), Objects(traj_2d=_pairs(plan.uv)), root)


def _about(id_: str, image: str, words: str, mask: Bool, frame: RgbdFrame, root: Path) -> Iterator[Sample]:
    """A point and a box."""
    rows, columns = np.nonzero(mask)
    px = np.stack([columns, rows], axis=1).astype(np.float64)
    middle = px[np.argmin(np.linalg.norm(px - px.mean(axis=0), axis=1))]  # of the pixels that show it
    spot = px_to_uv(middle, frame.camera)
    corners = px_to_uv(np.stack([px.min(axis=0) - 0.5, px.max(axis=0) + 0.5]), frame.camera)
    truth = Objects(point_2d=_pairs(spot[None])[0], bbox_2d=(*_pairs(corners)[0], *_pairs(corners)[1]))
    point = conversation(f"{IMAGE}{pointing_prompt(words)}", write_points(spot[None]))
    yield Sample(f"{id_}-point", "pointing", point, (image,), truth, root)
    box = conversation(f"{IMAGE}{box_prompt(words)}", write_points(corners))
    yield Sample(f"{id_}-box", "general", box, (image,), Objects(bbox_2d=truth.bbox_2d), root)


def _pairs(uv: F64) -> tuple[tuple[float, float], ...]:
    return tuple((float(u), float(v)) for u, v in np.round(np.clip(uv, 0, 1000), 1))
