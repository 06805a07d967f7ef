"""``episode.json``: everything of an episode except its images.

::

    format, task, seed, instruction
    outcome   code, sentence, judged (the simulator's verdict, null on a robot), detail
    plans     the plans; plan i was drawn on frame i of the recording in plans/
    looks     per guided frame (the recording in this folder): the plan in use and the keypose, null if there was
              none (path complete, scene changed, motion failed); "executed": T_base_tcp where the robot was sent
              elsewhere on purpose; "history": how many keyposes the policy knew, where a step of a long task began
              lately
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from stvla_ros.data.recording import RecordingError
from stvla_ros.errors import OutcomeCode
from stvla_ros.files import read_json, written
from stvla_ros.types import HISTORY, Keypose, TracePlan

INDEX = "episode.json"
FORMAT = "stvla-episode-1"


class EpisodeError(RecordingError):
    """A folder that holds no valid episode; the message says what was found instead."""


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One guided frame, and the keypose that was executed from it.

    Attributes:
        plan: Index of the plan in use.
        keypose: The keypose, as it was predicted; None if nothing was executed.
        done_ns: When its motion ended.
        executed: The keypose that was executed in its place; None: the same. A demonstration slips on purpose to show
            how it goes on.
        history: How many of the keyposes before it the policy was told; None: as many as it takes. A new step of a long
            task begins without any.
    """

    plan: int
    keypose: Keypose | None = None
    done_ns: int = 0
    executed: Keypose | None = None
    history: int | None = None

    @property
    def past(self) -> Keypose | None:
        """The keypose as later steps remember it: where the robot was sent, stamped when the motion ended."""
        done = self.executed or self.keypose
        return None if done is None else replace(done, stamp_ns=self.done_ns)


@dataclass(frozen=True)
class Verdict:
    """How an episode ended.

    Attributes:
        code: The stack's outcome.
        sentence: The stack's sentence.
        judged: The simulator's verdict; None on a robot.
        detail: What the simulator measured.
    """

    code: OutcomeCode
    sentence: str
    judged: bool | None = None
    detail: str = ""


@dataclass(frozen=True, eq=False)
class EpisodeIndex:
    """The content of ``episode.json``; see the module."""

    task: str
    seed: int
    instruction: str
    outcome: Verdict
    plans: tuple[TracePlan, ...]
    frames: tuple[FrameRecord, ...]

    def plain(self) -> dict[str, Any]:
        """Plain values, as in the file."""
        return {
            "format": FORMAT,
            "task": self.task,
            "seed": self.seed,
            "instruction": self.instruction,
            "outcome": {**vars(self.outcome), "code": self.outcome.code.name},
            "plans": [_from_plan(plan) for plan in self.plans],
            "looks": [_from_frame(frame) for frame in self.frames],
        }

    def write(self, folder: Path) -> None:
        """Write the file; a reader never sees half of it.

        Raises:
            EpisodeError: It cannot be written.
        """
        with written(folder / INDEX, EpisodeError) as part:
            part.write_text(json.dumps(self.plain(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_index(folder: Path) -> EpisodeIndex:
    """Read ``episode.json``.

    Raises:
        EpisodeError: It is missing, of another format, or damaged.
    """
    path = folder / INDEX
    if not path.is_file():
        found = "no such file in it" if folder.is_dir() else "no such folder"
        raise EpisodeError(f"{folder}: wanted an episode ({INDEX}), found {found}.")
    return parse_index(read_json(path, EpisodeError), f"{path}")


def parse_index(content: Any, where: str) -> EpisodeIndex:
    """The index from plain values; ``where`` begins the message.

    Raises:
        EpisodeError: Another format, or damaged.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        other = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise EpisodeError(f"{where}: wanted format '{FORMAT}', found '{other}'.")
    try:
        return _index(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise EpisodeError(f"{where}: damaged ({error!r}): collect the episode again.") from error


def _index(content: Mapping[str, Any]) -> EpisodeIndex:
    plans = tuple(_plan(entry) for entry in content["plans"])
    frames = tuple(_frame(entry) for entry in content["looks"])
    beyond = [frame.plan for frame in frames if not 0 <= frame.plan < len(plans)]
    if beyond:
        raise ValueError(f"frames name plan {beyond[0]} of {len(plans)}")
    outcome = dict(content["outcome"])
    verdict = Verdict(OutcomeCode[outcome.pop("code")], **outcome)
    words = (str(content["task"]), int(content["seed"]), str(content["instruction"]))
    return EpisodeIndex(*words, verdict, plans, frames)


def _from_plan(plan: TracePlan) -> dict[str, Any]:
    entry = {**vars(plan), "uv": plan.uv.tolist(), "depth_offset_m": plan.depth_offset_m.tolist()}
    return {**entry, "start_depth_m": None if math.isnan(plan.start_depth_m) else float(plan.start_depth_m)}


def _plan(entry: Mapping[str, Any]) -> TracePlan:
    # older files lack the fields that were added since
    values = {f.name: entry[f.name] for f in fields(TracePlan) if f.name in entry or f.default is MISSING}
    start = math.nan if entry["start_depth_m"] is None else float(entry["start_depth_m"])
    return TracePlan(**{**values, "start_depth_m": start})


def _from_frame(frame: FrameRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {"plan": frame.plan, "keypose": None}
    if frame.keypose is not None:
        keypose = {**vars(frame.keypose), "T_base_tcp": frame.keypose.T_base_tcp.tolist()}
        entry["keypose"] = {**keypose, "done_ns": frame.done_ns}
    if frame.executed is not None:
        entry["executed"] = frame.executed.T_base_tcp.tolist()
    if frame.history is not None:
        entry["history"] = frame.history
    return entry


def _frame(entry: Mapping[str, Any]) -> FrameRecord:
    values, known = entry["keypose"], entry.get("history")
    if known is not None and not (isinstance(known, int) and 0 <= known < HISTORY):
        raise ValueError(f"history: wanted fewer than {HISTORY} keyposes, found {known!r}")
    if values is None:
        return FrameRecord(int(entry["plan"]), history=known)
    flags = (bool(values["gripper_open"]), bool(values["may_collide"]), int(values["stamp_ns"]))
    keypose = Keypose(np.array(values["T_base_tcp"]), *flags)
    there = entry.get("executed")
    executed = None if there is None else replace(keypose, T_base_tcp=np.array(there))
    return FrameRecord(int(entry["plan"]), keypose, int(values["done_ns"]), executed, known)
