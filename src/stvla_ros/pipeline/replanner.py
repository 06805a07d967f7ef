"""Draws new plans: in the background during motion, or between keyposes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Protocol, TypeAlias

from stvla_ros.errors import CancelToken
from stvla_ros.types import TracePlan

PlanCall: TypeAlias = Callable[[CancelToken], TracePlan]


class Replanner(Protocol):
    """Draws one plan at a time.

    Attributes:
        concurrent: Time passes while a plan is drawn, and waiting may resolve a failure.
        late: Number of plans that arrived after they were dropped.
    """

    concurrent: bool
    late: int

    @property
    def pending(self) -> bool:
        """Whether a plan is under way, or ready and not taken."""
        ...

    def start(self, plan: PlanCall) -> None:
        """Start a plan."""
        ...

    def ready(self) -> bool:
        """Whether :meth:`take` returns without waiting for the planner's thread."""
        ...

    def take(self) -> TracePlan:
        """Return the plan, or raise its failure."""
        ...

    def drop(self) -> None:
        """Cancel the plan under way without waiting for it."""
        ...


class Inline:
    """Plans when the result is taken, so that a run repeats exactly."""

    concurrent = False
    late = 0

    def __init__(self, cancel: CancelToken) -> None:
        self._cancel = cancel
        self._plan: PlanCall | None = None

    @property
    def pending(self) -> bool:
        return self._plan is not None

    def start(self, plan: PlanCall) -> None:
        self._plan = plan

    def ready(self) -> bool:
        return self.pending

    def take(self) -> TracePlan:
        assert self._plan is not None
        plan, self._plan = self._plan, None
        return plan(self._cancel)

    def drop(self) -> None:
        self._plan = None


class Background:
    """Plans in a thread during motion, one plan at a time."""

    concurrent = True

    def __init__(self, cancel: CancelToken) -> None:
        self._task_cancel = cancel
        self._cancel = CancelToken()
        self._future: Future[TracePlan] | None = None
        self.late = 0

    @property
    def pending(self) -> bool:
        return self._future is not None

    def start(self, plan: PlanCall) -> None:
        token, future = CancelToken(), Future[TracePlan]()
        forget = self._task_cancel.on_cancel(lambda: token.cancel(sentence="The task was canceled."))

        def work() -> None:
            try:
                future.set_result(plan(token))
                self.late += token.is_set()
            except Exception as error:  # noqa: BLE001 - handed to take(), which raises it in the loop
                future.set_exception(error)
            finally:
                forget()

        self._cancel, self._future = token, future
        Thread(target=work, name="replan", daemon=True).start()

    def ready(self) -> bool:
        return self._future is not None and self._future.done()

    def take(self) -> TracePlan:
        assert self._future is not None
        future, self._future = self._future, None
        return future.result()

    def drop(self) -> None:
        self._cancel.cancel(sentence="A newer plan was asked for.")
        future, self._future = self._future, None
        self.late += future is not None and future.done() and future.exception() is None
