"""How workers share the tests: one has those of the running stack, one after another; the others have the pure ones meanwhile.

Processes of ROS keep promises in time (heartbeats, ages of images, the moment of a stop), which a busy neighbour would
break for them. So pure tests run in the scheduler's idle class: they get the time that nobody else wants; in a session of
their own, the last of all sessions, because among sessions that class counts nothing (``stvla_ros.priority``). Those with
genuine libfranka cannot: it gives up a robot that it has not heard for a second. They come first, while their worker is
still in the normal class. So do the light ones of the running stack, whose nodes are in the test's own process and mostly
wait: they take no processor from the others.
"""

from __future__ import annotations

import os

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from stvla_ros.priority import run_when_idle

SYSTEM = "test/system/"
LIGHT = "test/system/light/"
PROMPT = ("test/sim/fci/", "test/robot/franka/")


def may_wait(nodeid: str) -> bool:
    """Whether a test may be held up for seconds by others."""
    return not nodeid.startswith((SYSTEM, *PROMPT))


def step_back() -> None:
    """Let this worker, and what it starts from now on, run only when nobody else wants to (Linux)."""
    if hasattr(os, "SCHED_IDLE") and os.sched_getscheduler(0) != os.SCHED_IDLE:
        os.setsid()
        run_when_idle(os.getpid())


class SystemBesidePure(LoadScopeScheduling):
    """Gives ``test/system`` without the light ones to the first worker, and whole files to the others, so that a file's
    fixtures are made once."""

    def schedule(self) -> None:
        """Sort the tests once all workers have found the same ones; give work to whoever has none."""
        if self.collection is None:
            if not self._check_nodes_have_same_collection():
                return
            self.collection = list(next(iter(self.registered_collections.values())))
            files: dict[str, dict[str, bool]] = {}
            for test in self.collection:
                files.setdefault(self._split_scope(test), {})[test] = False
            last_first = list(reversed(files.items()))  # training, which takes longest, is at the end of the list
            self.workqueue.update(sorted(last_first, key=lambda file: may_wait(file[0])))
        for node in self.nodes:
            self._reschedule(node)

    def _split_scope(self, nodeid: str) -> str:
        heavy = nodeid.startswith(SYSTEM) and not nodeid.startswith(LIGHT)
        return SYSTEM if heavy else nodeid.partition("::")[0]

    def _reschedule(self, node: WorkerController) -> None:
        """A worker begins a test only when it knows the one after it, or that none comes. One that replaces a dead worker is
        known before it has found its tests; it gets work then."""
        if node.shutting_down or node not in self.registered_collections:
            return
        if SYSTEM in self.workqueue:  # also when the worker that had them has died: the next idle one is a new one
            self.workqueue.move_to_end(SYSTEM, last=False)
        while self.workqueue and self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()
