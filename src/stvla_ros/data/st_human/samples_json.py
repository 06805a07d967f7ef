"""Reads files of :mod:`stvla_ros.data.st_human.samples` with strict checks, and writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from stvla_ros.config import closest
from stvla_ros.data.st_human.samples import IMAGE, TASKS, Message, Objects, Sample, SampleError
from stvla_ros.files import read_json, read_json_lines, written
from stvla_ros.types import WAYPOINTS

_NEEDS = {
    "pointing": ("point_2d", "bbox_2d"),
    "trajectory": ("traj_2d",),
    "depth": ("depth_offset_mm",),
    "progress": ("step",),
}
"""Ground truth that a task is judged by, at least one of these. Other tasks are judged by their text."""

_KEYS = ("id", "task", "messages", "images", "objects")


def read_samples(path: Path) -> list[Sample]:
    """All samples of a ``.json`` or ``.jsonl`` file, checked. Images are read later.

    Raises:
        SampleError: The file is missing, empty or not JSON, or a sample is invalid.
    """
    samples: dict[str, Sample] = {}
    for number, entry in enumerate(_entries(path)):
        sample = parse_sample(entry, path.parent, f"{path}: sample {number}")
        if sample.id in samples:
            raise SampleError(f"{path}: sample {number}: an earlier sample has the same id '{sample.id}'.")
        samples[sample.id] = sample
    if not samples:
        raise SampleError(f"{path}: wanted samples, found none.")
    return list(samples.values())


def _entries(path: Path) -> Iterator[Any]:
    wanted = "a .json or .jsonl file of samples"
    if path.suffix == ".jsonl":
        yield from read_json_lines(path, SampleError, wanted)
        return
    content = read_json(path, SampleError, wanted)
    if not isinstance(content, list):
        raise SampleError(f"{path}: wanted a list of samples, found {type(content).__name__}.")
    yield from content


def parse_sample(entry: Any, root: Path = Path(), where: str = "sample") -> Sample:
    """A sample from plain JSON values.

    Raises:
        SampleError: It does not follow the format.
    """
    if not isinstance(entry, dict):
        raise SampleError(f"{where}: wanted an object, found {type(entry).__name__}.")
    for key in entry:
        if key not in _KEYS:
            raise SampleError(f"{where}: unknown key '{key}'.{closest(str(key), _KEYS)}")
    objects = _objects(entry.get("objects") or {}, f"{where}: objects")
    task = entry.get("task", "general" if objects.traj_2d is None else "trajectory")
    sample = Sample(
        str(entry.get("id", where.rpartition(" ")[2])),
        task,
        tuple(_message(m, f"{where}: messages") for m in _list(entry.get("messages"), f"{where}: messages")),
        tuple(_image(i, f"{where}: images") for i in _list(entry.get("images", []), f"{where}: images")),
        objects,
        root,
    )
    check_sample(sample, where)
    return sample


def check_sample(sample: Sample, where: str = "sample") -> None:
    """Raise SampleError unless the parts of a sample are consistent."""
    if sample.task not in TASKS:
        raise SampleError(f"{where}: task '{sample.task}' is not known.{closest(str(sample.task), TASKS)}")
    roles = [message.role for message in sample.messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if not spoken or len(spoken) % 2 or spoken != ["user", "assistant"] * (len(spoken) // 2):
        found = ", ".join(roles[:6]) or "none"
        raise SampleError(
            f"{where}: wanted alternating messages of user and assistant, the assistant's last, found {found}."
        )
    asked = sum(m.content.count(IMAGE) for m in sample.messages if m.role == "user")
    if asked != len(sample.images) or asked != sum(m.content.count(IMAGE) for m in sample.messages):
        raise SampleError(
            f"{where}: wanted one {IMAGE} in the user's text for each of {len(sample.images)} images, found {asked}."
        )
    _check_truth(sample, where)


def _check_truth(sample: Sample, where: str) -> None:
    """Raise SampleError unless the task's ground truth is there and in range."""
    objects, needs = sample.objects, _NEEDS.get(sample.task, ())
    if needs and all(getattr(objects, name) is None for name in needs):
        raise SampleError(f"{where}: a {sample.task} sample needs objects.{' or objects.'.join(needs)}, found neither.")
    points = [*(objects.traj_2d or ()), *([objects.point_2d] if objects.point_2d else [])]
    numbers = [x for point in points for x in point] + list(objects.bbox_2d or ())
    if not all(0 <= x <= 1000 for x in numbers):
        raise SampleError(
            f"{where}: wanted coordinates from 0 to 1000, found {[x for x in numbers if not 0 <= x <= 1000]}."
        )
    for name in ("traj_2d", "depth_offset_mm"):
        value = getattr(objects, name)
        if value is not None and len(value) != WAYPOINTS:
            raise SampleError(f"{where}: objects.{name}: wanted exactly {WAYPOINTS} values, found {len(value)}.")
    box = objects.bbox_2d
    if box and not (box[0] <= box[2] and box[1] <= box[3]):
        raise SampleError(f"{where}: objects.bbox_2d: wanted x1 <= x2 and y1 <= y2, found {list(box)}.")
    if objects.step is not None and not 1 <= objects.step <= (objects.steps or objects.step):
        raise SampleError(f"{where}: objects.step: wanted 1 to {objects.steps}, found {objects.step}.")


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise SampleError(f"{where}: wanted a list, found {type(value).__name__}.")
    return value


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, dict) or set(value) - {"loss"} != {"role", "content"}:
        raise SampleError(f"{where}: wanted objects of role and content, found {str(value)[:80]}.")
    if not all(isinstance(value[key], str) and value[key].strip() for key in ("role", "content")):
        raise SampleError(f"{where}: wanted role and content as text, found {str(value)[:80]}.")
    for mark in ("<bbox>", "<ref-object>", "<video>", "<audio>"):
        if mark in value["content"]:
            raise SampleError(f"{where}: '{mark}' is not supported: write its content out.")
    return Message(value["role"], value["content"])


def _image(value: Any, where: str) -> str:
    path = value.get("path") if isinstance(value, dict) else value
    if not isinstance(path, str) or not path or "://" in path or path.startswith("data:"):
        raise SampleError(f"{where}: wanted file paths, found {str(value)[:80]}.")
    return path


def _objects(value: Any, where: str) -> Objects:
    if not isinstance(value, dict):
        raise SampleError(f"{where}: wanted an object, found {type(value).__name__}.")
    names = [f.name for f in fields(Objects)]
    for name in value:
        if name not in names:
            raise SampleError(f"{where}: unknown key '{name}'.{closest(str(name), names)}")
    return Objects(**{name: _READ[name](v, f"{where}.{name}") for name, v in value.items() if v is not None})


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SampleError(f"{where}: wanted a finite number, found {str(value)[:40]}.")
    return value


def _numbers(value: Any, where: str, count: int | None = None) -> tuple[float, ...]:
    numbers = tuple(_number(v, where) for v in _list(value, where))
    if count is not None and len(numbers) != count:
        raise SampleError(f"{where}: wanted {count} numbers, found {len(numbers)}.")
    return numbers


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SampleError(f"{where}: wanted a whole number, found {str(value)[:40]}.")
    return value


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise SampleError(f"{where}: wanted true or false, found {str(value)[:40]}.")
    return value


_READ: Mapping[str, Any] = {
    "traj_2d": lambda v, where: tuple(_numbers(point, where, 2) for point in _list(v, where)),
    "point_2d": lambda v, where: _numbers(v, where, 2),
    "bbox_2d": lambda v, where: _numbers(v, where, 4),
    "start_depth_m": _number,
    "depth_offset_mm": _numbers,
    "step": _whole,
    "steps": _whole,
    "finished": _flag,
}


def plain(sample: Sample) -> dict[str, Any]:
    """A sample as plain JSON values."""
    objects = {name: value for name, value in vars(sample.objects).items() if value is not None}
    entry: dict[str, Any] = {"id": sample.id, "task": sample.task, "messages": [vars(m) for m in sample.messages]}
    return entry | {"images": list(sample.images)} | ({"objects": objects} if objects else {})


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write a ``.json`` or ``.jsonl`` file, complete or not at all. The caller writes the images.

    Raises:
        SampleError: A sample does not follow the format.
    """
    entries = []
    for number, sample in enumerate(samples):
        check_sample(sample, f"{path}: sample {number}")
        entries.append(plain(sample))
    with written(path, SampleError) as part:
        if path.suffix == ".jsonl":
            part.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries), encoding="utf-8")
        else:
            part.write_text(json.dumps(entries, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
