"""Records tasks as bags: what came in the seconds before a task, the task, and a second more.

One thread owns the bag. Subscriptions hand it serialized messages through a queue and never wait: a slow disk lets the
queue grow up to a limit, after which images are dropped and counted.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message
from stvla_msgs.msg import TaskEnd as TaskEndMsg
from stvla_msgs.msg import TaskState as TaskStateMsg

from stvla_ros.config import ConfigError, param
from stvla_ros.files import said
from stvla_ros.record.folder import make_run_folder
from stvla_ros.record.runs import BAG, GB, make_room, read_runs, write_run
from stvla_ros.ros import task_state
from stvla_ros.ros.bag_writer import BagWriter
from stvla_ros.ros.decided_images import DecidedImages
from stvla_ros.ros.decisions import TaskEnd, task_end_from_msg
from stvla_ros.ros.recorded_topics import TASK_END, TASK_STATE, Topic

FLUSH_S = 0.25
"""So much is lost at most when the recorder is killed."""

LOOK_S = 1.0
"""How often the room on the disk is looked at."""

CATCH_UP_S = 5.0
"""How much later a bag ends when messages from before its end still wait."""

END_WAIT_S = 1.0
"""How long the word on a task's end may take after the task node says that it is idle."""

NOT_SAID = "The task node did not say how the task ended: it was lost or restarted."


@dataclass(frozen=True)
class RecordSettings:
    """What is recorded, and how much room it may take."""

    root: str = param("runs", "folder that keeps the recordings, each in a folder of its own")
    when: str = param(
        "goals", "goals: one bag per goal; now: one bag from the start to the end of the node", choices=("goals", "now")
    )
    keep: str = param(
        "all", "all: every goal; failures: the bag of a goal that ends with OK is deleted", choices=("all", "failures")
    )
    before_s: float = param(2.0, "so much from before a goal is in its bag [s]", ge=0.0, le=60.0)
    after_s: float = param(1.0, "so much from after its end [s]", ge=0.0, le=60.0)
    quota_gb: float = param(50.0, "the oldest recordings are deleted when all take more; 0: no limit [GB]", ge=0.0)
    free_gb: float = param(2.0, "they are deleted, too, when less is free on the disk [GB]", ge=0.0)
    queue_mb: float = param(
        256.0, "images are dropped when more than this waits for the disk [MB]", ge=1.0, le=100000.0
    )


@dataclass
class _Open:
    """The bag being written."""

    folder: Path
    writer: BagWriter
    started: str
    images: DecidedImages
    instruction: str = ""
    end: TaskEnd | None = None
    until: float | None = None  # monotonic
    dropped: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)


class TaskRecorder:
    """Writes bags in a thread of its own.

    Args:
        settings: See :class:`RecordSettings`.
        topics: All topics; what :meth:`take` gets is on one of them.
        facts: For the bag's metadata and ``run.json``: versions and the like, as JSON values.
        tell: Receives sentences for the operator, with True for what is wrong.
        pair_within_ns: Largest difference of the stamps of colour and depth of one exposure.

    Raises:
        ConfigError: The folder for the recordings cannot be made.
    """

    def __init__(
        self,
        settings: RecordSettings,
        topics: Iterable[Topic],
        facts: Mapping[str, Any],
        tell: Callable[[str, bool], None],
        pair_within_ns: int,
    ) -> None:
        self._settings, self._facts, self._tell, self._pair_within_ns = settings, facts, tell, pair_within_ns
        self._topics = {topic.name: topic for topic in topics}
        self.root = Path(settings.root).expanduser().absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"record.root: {self.root} cannot be made ({said(error)}).") from error
        self._inbox: queue.SimpleQueue[tuple[str, bytes, int] | Mapping[str, Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0  # bytes in the inbox
        self._dropped = 0
        self._others = 0  # bytes of older recordings
        self._ring: deque[tuple[str, bytes, int]] = deque()
        self._latched: dict[str, deque[tuple[str, bytes, int]]] = {}
        self._open: _Open | None = None
        self._idle_since: float | None = None  # the task is idle, and its end not told yet
        self._flush_at = self._look_at = 0.0
        self.trouble = ""
        """Why nothing is recorded, or what is missing; empty: all is well."""
        self.begun = self.kept = 0
        """Number of bags."""
        self._thread = threading.Thread(target=self._work, name="bag", daemon=True)

    def start(self) -> None:
        """Start the thread; with ``when: now`` the bag begins here."""
        self._thread.start()

    def take(self, topic: str, data: bytes, stamp_ns: int) -> None:
        """Take one serialized message, received at ``stamp_ns``. Returns at once, in any thread."""
        with self._lock:
            if self._waiting + len(data) > self._settings.queue_mb * 1e6 and self._topics[topic].what in (
                "color",
                "depth",
            ):
                self._dropped += 1
                return
            self._waiting += len(data)
        self._inbox.put((topic, data, stamp_ns))

    def know(self, parameters: Mapping[str, Any]) -> None:
        """Node -> its parameters, for the bag that is being written."""
        self._inbox.put(parameters)

    def close(self, timeout_s: float) -> bool:
        """Complete the bag; False when that takes longer."""
        self._inbox.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def folder(self) -> Path | None:
        """Where the present bag is written."""
        bag = self._open
        return bag.folder if bag else None

    # --- the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        if self._settings.when == "now":
            self._begin("")
        while (item := self._next()) is not None:
            if isinstance(item, tuple):
                self._message(item)
            elif item:
                self._parameters(item)
            self._tick(time.monotonic())
        self._finish("The recorder ended.")

    def _next(self) -> tuple[str, bytes, int] | Mapping[str, Any] | None:
        """The next item; an empty mapping when none came for a while."""
        try:
            item = self._inbox.get(timeout=FLUSH_S / 2)
        except queue.Empty:
            return {}
        if isinstance(item, tuple):
            with self._lock:
                self._waiting -= len(item[1])
        return item

    def _message(self, item: tuple[str, bytes, int]) -> None:
        topic, data, stamp_ns = item
        if kept := self._topics[topic].latched:
            known = self._latched.setdefault(topic, deque(maxlen=kept))
            if any(data == old for _, old, _ in known):
                return  # from the topic's second reader
            known.append(item)
        self._remember(item)
        before = self.begun
        if topic == TASK_STATE:
            self._state(deserialize_message(data, TaskStateMsg))
        elif topic == TASK_END:
            self._ended(task_end_from_msg(deserialize_message(data, TaskEndMsg)))
        if self.begun == before:  # else it was written with the seconds before
            self._write(topic, data, stamp_ns)

    def _remember(self, item: tuple[str, bytes, int]) -> None:
        """Keep the last seconds."""
        ring, now_ns = self._ring, item[2]
        if ring and now_ns < ring[-1][2] - 1_000_000_000:
            ring.clear()  # the clock was set back
        ring.append(item)
        oldest_ns = now_ns - self._settings.before_s * 1e9
        while ring[0][2] < oldest_ns:
            ring.popleft()

    def _state(self, message: TaskStateMsg) -> None:
        if self._settings.when == "now":
            return
        bag, idle = self._open, message.phase == task_state.IDLE
        if idle:
            self._idle_since = time.monotonic() if bag is not None and bag.until is None else None
            return
        self._idle_since = None
        if bag is not None and bag.until is not None:  # the next task begins within the seconds after the last one
            self._finish("")
        if self._open is None:
            self._begin(message.instruction)

    def _ended(self, end: TaskEnd) -> None:
        bag = self._open
        if bag is None:  # it was refused before it began
            self._begin(end.state.instruction)
            bag = self._open
        if bag is not None:
            bag.end, bag.instruction = end, end.state.instruction
            if self._settings.when == "goals":
                bag.until = time.monotonic() + self._settings.after_s
        self._idle_since = None

    def _parameters(self, parameters: Mapping[str, Any]) -> None:
        if self._open is not None:
            self._open.parameters = parameters
            self._try(lambda writer: writer.note("stvla.parameters", parameters))

    def _tick(self, now: float) -> None:
        bag = self._open
        if bag is None:
            return
        if self._idle_since is not None and now > self._idle_since + END_WAIT_S:
            self._finish(NOT_SAID)
        elif bag.until is not None and now > bag.until + (0.0 if self._inbox.empty() else CATCH_UP_S):
            self._finish("")
        elif now > self._flush_at:
            self._flush_at = now + FLUSH_S
            self._try(BagWriter.flush)
        if now > self._look_at and self._open is not None:
            self._look_at = now + LOOK_S
            if self._may_be_crowded(self._open):
                self._make_room()

    # --- the bag ----------------------------------------------------------------------------------------------------

    def _begin(self, instruction: str) -> None:
        self.begun += 1
        if not self._make_room():
            return
        try:
            bag = self._opened(instruction)
        except (OSError, ConfigError) as error:
            self._lost(f"No recording was begun: {said(error)}.")
            return
        self.trouble, self._dropped, self._idle_since, self._open = "", 0, None, bag
        oldest_ns = self._ring[0][2] if self._ring else 0
        for topic, data, stamp_ns in [m for kept in self._latched.values() for m in kept]:
            if stamp_ns < oldest_ns:
                self._write(topic, data, oldest_ns)
        for topic, data, stamp_ns in self._ring:
            self._write(topic, data, stamp_ns)

    def _opened(self, instruction: str) -> _Open:
        """A new bag with what is known now. Raises OSError or ConfigError, and leaves nothing."""
        folder = make_run_folder(self.root)
        try:
            writer = BagWriter(folder / BAG, self._topics.values())
            images = DecidedImages(self._topics.values(), self._pair_within_ns)
            bag = _Open(folder, writer, time.strftime("%Y-%m-%dT%H:%M:%S%z"), images, instruction)
            writer.note("stvla", {"started": bag.started, **self._facts})
            write_run(folder, self._run(bag, ""))
        except (OSError, ConfigError):
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._others = sum(run.size for run in read_runs(self.root))
        return bag

    def _write(self, topic: str, data: bytes, stamp_ns: int) -> None:
        if self._open is not None:
            self._open.images.see(topic, data)
            self._try(lambda writer: writer.write(topic, data, stamp_ns))

    def _try(self, work: Callable[[BagWriter], None]) -> None:
        """Do something with the bag; if it fails, e.g. on a full disk, the bag ends and the operator is told."""
        bag = self._open
        if bag is None:
            return
        try:
            work(bag.writer)
        except OSError as error:
            self._give_up(bag, f"The recording {bag.folder} ends here: {said(error)}. Make room on the disk.")

    def _give_up(self, bag: _Open, why: str) -> None:
        self._open = None
        bag.writer.abort()
        self._lost(why)
        self._write_run(bag, why)

    def _lost(self, why: str) -> None:
        if why != self.trouble:
            self._tell(why, True)
        self.trouble = why

    def _may_be_crowded(self, bag: _Open) -> bool:
        """A quick look; the folder was gone through when the bag began."""
        s = self._settings
        over = bool(s.quota_gb) and self._others + bag.writer.size > s.quota_gb * GB
        return over or shutil.disk_usage(self.root).free < s.free_gb * GB

    def _make_room(self) -> bool:
        """Delete old recordings if there are too many. False, and the bag ends, when that does not suffice."""
        s, bag = self._settings, self._open
        try:
            deleted, crowded = make_room(self.root, bag.folder if bag else None, s.quota_gb * GB, s.free_gb * GB)
        except OSError as error:
            deleted, crowded = [], said(error)
        if deleted:
            names = ", ".join(run.folder.name for run in deleted)
            self._tell(f"Deleted to make room for recordings: {names}.", False)
        if crowded and bag is not None:
            self._give_up(bag, f"The recording {bag.folder} ends here: {crowded}.")
        elif crowded:
            self._lost(f"Nothing is recorded: {crowded}. Make room, or change the setting.")
        return not crowded

    def _finish(self, why: str) -> None:
        """End the bag. ``why``: if not because the task's end was told."""
        bag, self._open, self._idle_since = self._open, None, None
        if bag is None:
            return
        bag.dropped = self._dropped
        values = self._run(bag, why)
        try:
            bag.writer.note("stvla.end", {k: values[k] for k in ("outcome", "sentence", "images", "dropped_images")})
            bag.writer.close()
        except OSError as error:
            self._give_up(bag, f"The recording {bag.folder} ends here: {said(error)}. Make room on the disk.")
            return
        if self._settings.keep == "failures" and bag.end is not None and bag.end.outcome.ok:
            shutil.rmtree(bag.folder, ignore_errors=True)
            return
        self._write_run(bag, why)
        self._report(bag)

    def _write_run(self, bag: _Open, why: str) -> None:
        try:
            write_run(bag.folder, {**self._run(bag, why), "complete": True})
        except ConfigError as error:
            self._tell(str(error), True)

    def _report(self, bag: _Open) -> None:
        self.kept += 1
        missing, total = bag.images.missing, bag.images.decided
        words = f"Recorded: {bag.folder} ({bag.writer.size / 1e6:.1f} MB)."
        if missing:
            words += f" {missing} of {total} images that were decided on are missing: they did not reach the recorder."
        if bag.dropped:
            words += f" {bag.dropped} images were dropped, because the disk is slower than the camera."
        self._tell(words, bool(missing or bag.dropped))

    def _run(self, bag: _Open, why: str) -> dict[str, Any]:
        """For ``run.json``."""
        end, writer = bag.end, bag.writer
        return {
            "started": bag.started,
            "instruction": bag.instruction,
            "outcome": end.outcome.code.name if end else "",
            "outcome_code": int(end.outcome.code) if end else None,
            "sentence": end.outcome.sentence if end else why,
            "ended": why,
            "complete": False,
            "seconds": round((writer.end_ns - writer.start_ns) / 1e9, 3),
            "start_ns": writer.start_ns,
            "end_ns": writer.end_ns,
            "bytes": writer.size,
            "times_s": dict(end.outcome.times_s) if end else {},
            "keyposes": end.state.keyposes if end else None,
            "images": {"decided": bag.images.decided, "missing": bag.images.missing},
            "dropped_images": bag.dropped,
            "topics": dict(writer.counts),
            **self._facts,
            "parameters": bag.parameters,
        }
