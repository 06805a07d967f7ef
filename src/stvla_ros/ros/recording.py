"""One recording: a folder with a bag and ``run.json``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stvla_ros.config import ConfigError
from stvla_ros.files import said
from stvla_ros.record.folder import make_run_folder
from stvla_ros.record.runs import BAG, write_run
from stvla_ros.ros.bag_writer import BagWriter
from stvla_ros.ros.decided_images import DecidedImages
from stvla_ros.ros.decisions import TaskEnd
from stvla_ros.ros.recorded_topics import Topic

RESERVE = 100_000
"""Bytes kept free for ``run.json`` when the disk is full: several times its size with the parameters of all nodes."""


class Recording:
    """A recording while it is written. What fails, e.g. on a full disk, ends its bag and is said in :attr:`trouble`.

    Args:
        root: Gets a folder for it.
        topics: All that may be written.
        facts: For the bag's metadata and ``run.json``: versions and the like, as JSON values.
        instruction: The operator's words; empty: no goal.
        pair_within_ns: Largest difference of the stamps of colour and depth of one exposure.

    Attributes:
        folder: With ``bag/`` and ``run.json``.
        end: How the task ended; None: not told yet.
        trouble: Why the bag ended early; empty: it did not.

    Raises:
        OSError, ConfigError: It cannot be begun; nothing is left of it.
    """

    def __init__(
        self, root: Path, topics: Iterable[Topic], facts: Mapping[str, Any], instruction: str, pair_within_ns: int
    ) -> None:
        self._topics, self._facts, self._instruction = tuple(topics), facts, instruction
        self._started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._images = DecidedImages(self._topics, pair_within_ns)
        self._parameters: Mapping[str, Any] = {}
        self.end: TaskEnd | None = None
        self.trouble = ""
        self.folder = make_run_folder(root)
        self._reserve = self.folder / "reserve"
        try:
            self._reserve.write_bytes(bytes(RESERVE))
            self._bag = BagWriter(self.folder / BAG, self._topics)
            self._bag.note("stvla", {"started": self._started, **facts})
            write_run(self.folder, self._values("", 0, complete=False))
        except (OSError, ConfigError):
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def size(self) -> int:
        """Bytes of the bag."""
        return self._bag.size

    def write(self, topic: str, data: bytes, stamp_ns: int) -> None:
        """Add a serialized message that was received at ``stamp_ns``."""
        if not self.trouble:
            self._images.see(topic, data)
            try:
                self._bag.write(topic, data, stamp_ns)
            except OSError as error:
                self.give_up(said(error))

    def flush(self) -> None:
        """What was written before is safe from the end of this process."""
        if not self.trouble:
            try:
                self._bag.flush()
            except OSError as error:
                self.give_up(said(error))

    def know(self, parameters: Mapping[str, Any]) -> None:
        """Node -> its parameters."""
        self._parameters = parameters
        if not self.trouble:
            try:
                self._bag.note("stvla.parameters", parameters)
            except OSError as error:
                self.give_up(said(error))

    def give_up(self, why: str) -> None:
        """End the bag here. What was flushed stays readable."""
        self._bag.abort()
        self.trouble = f"The recording {self.folder} ends early: {why}. Make room there."

    def finish(self, why: str, dropped: int) -> tuple[str, bool]:
        """Complete bag and ``run.json``.

        Args:
            why: What ended it, if not the end of the task.
            dropped: Images that did not get here.

        Returns:
            A sentence for the operator, and whether something is wrong.
        """
        if not self.trouble:
            try:
                values = self._values(why, dropped, complete=True)
                self._bag.note("stvla.end", {key: values[key] for key in ("outcome", "sentence", "images", "ended")})
                self._bag.close()
            except OSError as error:
                self.give_up(said(error))
        self._reserve.unlink(missing_ok=True)
        try:
            write_run(self.folder, self._values(self.trouble or why, dropped, complete=not self.trouble))
        except ConfigError as error:
            return str(error), True
        if self.trouble:
            return self.trouble, True
        lacks = self._lacks(dropped)
        return " ".join([f"Recorded: {self.folder} ({self.size / 1e6:.1f} MB).", *lacks]), bool(lacks)

    def discard(self) -> None:
        """Delete it."""
        self._bag.abort()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lacks(self, dropped: int) -> list[str]:
        """What a replay would miss, in sentences."""
        silent = [topic.name for topic in self._topics if topic.needed and not self._bag.counts.get(topic.name)]
        missing, decided = self._images.missing, self._images.decided
        found = []
        if silent:
            found.append(f"Nothing came on {', '.join(silent)}: set record.camera and --robot as for the stack.")
        if missing and not silent:
            found.append(f"{missing} of {decided} images that were decided on did not reach the recorder.")
        if dropped:
            found.append(f"{dropped} images were dropped, because the disk is slower than the camera.")
        return found

    def _values(self, why: str, dropped: int, complete: bool) -> dict[str, Any]:
        """For ``run.json``."""
        end, bag = self.end, self._bag
        return {
            "started": self._started,
            "instruction": end.state.instruction if end else self._instruction,
            "outcome": end.outcome.code.name if end else "",
            "outcome_code": int(end.outcome.code) if end else None,
            "sentence": end.outcome.sentence if end else "",
            "ended": why,
            "complete": complete,
            "seconds": round((bag.end_ns - bag.start_ns) / 1e9, 3),
            "start_ns": bag.start_ns,
            "end_ns": bag.end_ns,
            "bytes": bag.size,
            "times_s": dict(end.outcome.times_s) if end else {},
            "keyposes": end.state.keyposes if end else None,
            "images": {"decided": self._images.decided, "missing": self._images.missing, "dropped": dropped},
            "topics": dict(bag.counts),
            **self._facts,
            "parameters": self._parameters,
        }
