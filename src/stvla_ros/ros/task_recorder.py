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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rclpy.serialization import deserialize_message
from stvla_msgs.msg import TaskEnd as TaskEndMsg
from stvla_msgs.msg import TaskState as TaskStateMsg

from stvla_ros.config import ConfigError, param
from stvla_ros.files import said
from stvla_ros.record.runs import GB, make_room, read_runs
from stvla_ros.ros import task_state
from stvla_ros.ros.convert import time_to_ns
from stvla_ros.ros.decisions import task_end_from_msg
from stvla_ros.ros.recorded_topics import TASK_END, TASK_STATE, Topic
from stvla_ros.ros.recording import Recording

FLUSH_S = 0.25
"""So much is lost at most when the recorder is killed, besides what still waits for it."""

LOOK_S = 1.0
"""How often the room on the disk is looked at."""

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
    free_gb: float = param(2.0, "a recording ends early when less is free on the disk [GB]", ge=0.0)
    memory_mb: float = param(
        256.0,
        "limit of what waits for the disk, after which images are dropped, and of what before_s keeps [MB]",
        ge=1.0,
    )


class _Item(NamedTuple):
    """A serialized message."""

    topic: str
    data: bytes
    stamp_ns: int
    arrived: float  # monotonic


class TaskRecorder:
    """Writes bags in a thread of its own.

    Args:
        settings: See :class:`RecordSettings`.
        topics: All topics; what :meth:`take` gets is on one of them.
        facts: For the recordings: versions and the like, as JSON values.
        tell: Receives sentences for the operator, with True for what is wrong.
        pair_within_ns: Largest difference of the stamps of colour and depth of one exposure.

    Attributes:
        trouble: Why nothing is recorded, or too little; empty: all is well.
        begun: Number of recordings that were begun.
        kept: Number of those that ended and were kept.
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
        self._root = Path(settings.root).expanduser().absolute()
        self._limit = settings.memory_mb * 1e6
        self._inbox: queue.SimpleQueue[_Item | Mapping[str, Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = self._dropped = 0  # bytes in the inbox; images
        self._ring, self._ring_size = deque[_Item](), 0
        self._latched: dict[str, deque[_Item]] = {}
        self._open: Recording | None = None
        self._until: float | None = None  # when the recording ends, monotonic
        self._ended_ns = 0  # when the last task ended
        self._refused = False  # the present goal's recording could not be begun
        self._others = 0  # bytes of older recordings
        self._flush_at = self._look_at = 0.0
        self.trouble = ""
        self.begun = self.kept = 0
        self._thread = threading.Thread(target=self._work, name="bag", daemon=True)

    def start(self) -> None:
        """Start the thread; with ``when: now`` the bag begins here."""
        self._thread.start()

    def take(self, topic: str, data: bytes, stamp_ns: int) -> None:
        """Take one serialized message, received at ``stamp_ns``. Returns at once, in any thread."""
        with self._lock:
            if self._waiting + len(data) > self._limit and self._topics[topic].is_image:
                self._dropped += 1
                return
            self._waiting += len(data)
        self._inbox.put(_Item(topic, data, stamp_ns, time.monotonic()))

    def know(self, parameters: Mapping[str, Any]) -> None:
        """Node -> its parameters, for the present recording."""
        self._inbox.put(parameters)

    def close(self, timeout_s: float) -> bool:
        """Complete the recording; False when that takes longer."""
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def folder(self) -> Path | None:
        """Of the present recording."""
        recording = self._open
        return recording.folder if recording else None

    # --- the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        if self._settings.when == "now":
            self._begin("")
        while True:
            try:
                item = self._inbox.get(timeout=FLUSH_S / 2)
            except queue.Empty:
                self._tick(time.monotonic())
                continue
            if item is None:
                break
            if isinstance(item, _Item):
                self._tick(item.arrived)
                self._message(item)
            elif self._open is not None:
                self._open.know(item)
        self._finish("The recorder ended.")

    def _message(self, item: _Item) -> None:
        with self._lock:
            self._waiting -= len(item.data)
        kept = self._topics[item.topic].latched
        known = self._latched.setdefault(item.topic, deque(maxlen=kept))
        if any(item.data == old.data for old in known):
            return  # from the topic's second reader
        if item.topic == TASK_STATE:
            self._task_state(item)
        elif item.topic == TASK_END:
            self._task_end(item)
        known.append(item)
        self._remember(item)
        if self._open is not None:
            self._open.write(*item[:3])
            self._look_for_trouble()

    def _remember(self, item: _Item) -> None:
        """Keep the last seconds."""
        ring = self._ring
        ring.append(item)
        self._ring_size += len(item.data)
        while ring and (item.arrived - ring[0].arrived > self._settings.before_s or self._ring_size > self._limit):
            self._ring_size -= len(ring.popleft().data)

    def _task_state(self, item: _Item) -> None:
        if self._settings.when == "now":
            return
        message = deserialize_message(item.data, TaskStateMsg)
        if time_to_ns(message.header.stamp) <= self._ended_ns:
            return  # of the last task: its end was read before this
        if message.phase == task_state.IDLE:
            self._until = self._until or item.arrived + END_WAIT_S
            return
        if self._until is not None:  # the next task begins within the seconds after the last one
            self._finish("")
        if self._open is None and not self._refused:
            self._begin(message.instruction)

    def _task_end(self, item: _Item) -> None:
        end = task_end_from_msg(deserialize_message(item.data, TaskEndMsg))
        self._ended_ns = end.ended_ns
        if self._open is None and not self._refused:  # the task node refused the goal before it began
            self._begin(end.state.instruction)
        if self._open is not None:
            self._open.end = end
        if self._settings.when == "goals":
            self._until = item.arrived + self._settings.after_s

    def _tick(self, now: float) -> None:
        """Do what is due; ``now`` is when the next message arrived."""
        if self._until is not None and now > self._until:
            self._finish("")
        if self._open is not None and now > self._flush_at:
            self._flush_at = now + FLUSH_S
            self._open.flush()
            self._look_for_trouble()
        if self._open is not None and now > self._look_at:
            self._look_at = now + LOOK_S
            self._look_for_room()

    # --- the recording ----------------------------------------------------------------------------------------------

    def _begin(self, instruction: str) -> None:
        self.begun += 1
        self._until, self._refused = None, True
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._others = sum(run.size for run in read_runs(self._root))
            if why := self._crowded(0):
                self._say(f"Nothing is recorded: {why}. Make room, or change the setting.", True)
                return
            self._open = Recording(self._root, self._topics.values(), self._facts, instruction, self._pair_within_ns)
        except (OSError, ConfigError) as error:
            self._say(f"Nothing is recorded in {self._root}: {said(error)}.", True)
            return
        self.trouble, self._dropped, self._refused = "", 0, False
        before = [item for known in self._latched.values() for item in known if item not in self._ring]
        for item in before:
            self._open.write(item.topic, item.data, (self._ring or before)[0].stamp_ns)
        for item in self._ring:
            self._open.write(*item[:3])

    def _look_for_room(self) -> None:
        recording = self._open
        assert recording is not None
        try:
            why = self._crowded(recording.size)
        except OSError as error:
            why = said(error)
        if why and not recording.trouble:
            recording.give_up(why)
        self._look_for_trouble()

    def _crowded(self, size: int) -> str:
        """Why there is no room for more, after deleting old recordings; empty: there is. Raises OSError."""
        quota, free = self._settings.quota_gb * GB, self._settings.free_gb * GB
        if quota and self._others + size > quota:
            deleted, self._others = make_room(self._root, self.folder, quota - size)
            if deleted:
                self._say(f"Deleted to make room for recordings: {', '.join(f.name for f in deleted)}.", False)
            if self._others + size > quota:
                return f"the recordings in {self._root} take all of {quota / GB:g} GB (record.quota_gb)"
        left = shutil.disk_usage(self._root).free
        return f"only {left / GB:.2f} GB are free on the disk of {self._root} (record.free_gb)" if left < free else ""

    def _look_for_trouble(self) -> None:
        if self._open is not None and self._open.trouble:
            self._say(self._open.trouble, True)

    def _say(self, sentence: str, wrong: bool) -> None:
        """Tell the operator; what is wrong only once."""
        if not wrong or sentence != self.trouble:
            self._tell(sentence, wrong)
        if wrong:
            self.trouble = sentence

    def _finish(self, why: str) -> None:
        """End the recording. ``why``: if not because a task ended."""
        recording, self._open, self._until, self._refused = self._open, None, None, False
        if recording is None:
            return
        if self._settings.keep == "failures" and recording.end is not None and recording.end.outcome.ok:
            recording.discard()
            return
        goals = self._settings.when == "goals"
        self._say(*recording.finish(why or ("" if recording.end or not goals else NOT_SAID), self._dropped))
        self.kept += 1
