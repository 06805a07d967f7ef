"""How workers share the tests: pure tests on all of them, and then those of the running stack one after another, alone on the machine.

Processes of ROS keep promises in time (heartbeats, ages of images, the moment of a stop), which a busy neighbour would
break for them. So the tests below ``test/system`` wait until every other one has ended.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

SYSTEM = "test/system/"


class PureThenSystem(LoadScopeScheduling):
    """Gives whole files to workers, so that a file's fixtures are made once, and all of ``test/system`` to the last worker."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self._system: dict[str, bool] = {}
        """The tests of the running stack, while they wait: node id -> False."""

    def schedule(self) -> None:
        """Sort the tests once all workers have found the same ones; give work to whoever has none."""
        if self.collection is None:
            if not self._check_nodes_have_same_collection():
                return
            self.collection = list(next(iter(self.registered_collections.values())))
            files: dict[str, dict[str, bool]] = {}
            for test in self.collection:
                files.setdefault(self._split_scope(test), {})[test] = False
            self._system = files.pop(SYSTEM, {})
            self.workqueue.update(reversed(files.items()))  # training, which takes longest, is at the end of the list
        self._look_round()

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        super().mark_test_complete(node, item_index, duration)
        self._look_round()

    def remove_node(self, node: WorkerController) -> str | None:
        crashed = super().remove_node(node)
        self._look_round()
        return crashed

    @property
    def tests_finished(self) -> bool:
        return self.collection_is_completed and not self._system and super().tests_finished

    @property
    def has_pending(self) -> bool:
        return bool(self._system) or super().has_pending

    def _split_scope(self, nodeid: str) -> str:
        return SYSTEM if nodeid.startswith(SYSTEM) else nodeid.partition("::")[0]

    def _look_round(self) -> None:
        for node in self.nodes:
            self._reschedule(node)

    def _reschedule(self, node: WorkerController) -> None:
        """A worker begins a test only when it knows the one after it, or that none comes."""
        if node.shutting_down:
            return
        while self.workqueue and self._left(node) < 2:
            self._assign_work_unit(node)
        if self.workqueue:
            return
        others = [other for other in self.nodes if other is not node]
        if not self._system or not all(other.shutting_down for other in others):
            node.shutdown()
        elif self._left(node) < 2 and not any(map(self._left, others)):
            self.workqueue[SYSTEM], self._system = self._system, {}
            self._assign_work_unit(node)
            node.shutdown()

    def _left(self, node: WorkerController) -> int:
        return self._pending_of(self.assigned_work[node])
