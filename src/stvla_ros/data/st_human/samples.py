"""Conversations about images, to train and test planners: the unified JSON of the paper's table 5.

One sample, as ms-swift reads it (``.json``: a list of samples; ``.jsonl``: one per line)::

    {"id": "place-17", "task": "trajectory",
     "messages": [{"role": "user", "content": "<image>Instruction: 'Put the red block in the plate.'. Provide a ..."},
                  {"role": "assistant", "content": "[(643, 367), (696, 470), ...]"}],
     "images": ["images/place-17.png"],
     "objects": {"traj_2d": [[643, 367], [696, 470], ...]}}

The last message is the assistant's and answers what ``task`` names; the messages before it are context. Each
``<image>`` in a user's text refers to the next of ``images``, whose paths are relative to the file. Coordinates are
0..1000 of the image's width and height. ``id``, ``task`` and the fields of ``objects`` other than ``traj_2d`` are ours:
the available text of the paper does not show how the other tasks of ST-Human store their ground truth.
:mod:`stvla_ros.data.st_human.samples_json` reads, checks and writes such files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stvla_ros import files
from stvla_ros.config import ConfigError
from stvla_ros.planning.chat import Turn
from stvla_ros.types import U8

IMAGE = "<image>"

TASKS = (
    "general",
    "spatial",
    "pointing",
    "trajectory",
    "depth",
    "next_action",
    "previous_action",
    "progress",
)
"""A sample asks for any answer, a choice, a point, 8 waypoints, 8 depth offsets, decomposition (two), or progress."""


class SampleError(ConfigError):
    """A file or sample that does not follow the format; the message says where, what was wanted, and what was found."""


@dataclass(frozen=True)
class Message:
    """One turn: ``user``, ``assistant``, or ``system`` at the very beginning."""

    role: str
    content: str


@dataclass(frozen=True)
class Objects:
    """The ground truth of an answer; None where it does not apply.

    Attributes:
        traj_2d: 8 waypoints, x right and y down, 0..1000.
        point_2d: A correct point, 0..1000.
        bbox_2d: x1, y1, x2, y2 around all correct points, 0..1000.
        start_depth_m: The sensor's depth at the first waypoint.
        depth_offset_mm: 8 depths of the tool minus the start depth.
        step: Current step of the task, from 1.
        steps: Number of steps.
        finished: Whether the task is done.
    """

    traj_2d: tuple[tuple[float, float], ...] | None = None
    point_2d: tuple[float, float] | None = None
    bbox_2d: tuple[float, float, float, float] | None = None
    start_depth_m: float | None = None
    depth_offset_mm: tuple[float, ...] | None = None
    step: int | None = None
    steps: int | None = None
    finished: bool | None = None


@dataclass(frozen=True)
class Sample:
    """One conversation.

    Attributes:
        id: Unique in its file.
        task: One of :data:`TASKS`.
        messages: In order; see the module.
        images: Paths relative to ``root``.
        objects: The ground truth.
        root: Folder of the file, with the images below it.
    """

    id: str
    task: str
    messages: tuple[Message, ...]
    images: tuple[str, ...] = ()
    objects: Objects = field(default_factory=Objects)
    root: Path = Path()

    @property
    def answer(self) -> str:
        """The assistant's last message."""
        return self.messages[-1].content

    def turns(self) -> tuple[Turn, ...]:
        """The whole conversation as chat turns, with images; a system message becomes the head of the first question.

        Raises:
            SampleError: An image is missing or unreadable.
        """
        images = iter(self.images)
        head, turns = "", []
        for message in self.messages:
            if message.role == "system":
                head = message.content + "\n"
                continue
            here = tuple(read_image(self.root / next(images)) for _ in range(message.content.count(IMAGE)))
            turns.append(Turn(message.role, head + message.content.replace(IMAGE, ""), here))
            head = ""
        return tuple(turns)

    def question(self) -> tuple[Turn, ...]:
        """All turns except the answer."""
        return self.turns()[:-1]


def read_image(path: Path) -> U8:
    """(H, W, 3) RGB. Raises SampleError when it cannot be read."""
    return files.read_image(path, SampleError)


def write_image(root: Path, name: str, rgb: U8) -> str:
    """Save an image as ``images/NAME.png`` below ``root``; returns its path for :attr:`Sample.images`."""
    path = root / "images" / f"{name}.png"
    with files.written(path, SampleError) as part:
        files.write_image(part, rgb)
    return str(path.relative_to(root))


def conversation(*words: str) -> tuple[Message, ...]:
    """Messages of user and assistant alternately, beginning with the user."""
    return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(words))


def by_task(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Samples by task, in the order of :data:`TASKS`."""
    groups = {task: [s for s in samples if s.task == task] for task in TASKS}
    return {task: group for task, group in groups.items() if group}
