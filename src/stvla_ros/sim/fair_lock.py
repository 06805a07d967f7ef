"""A lock for a thread that is never done, and others that must get in between."""

from __future__ import annotations

from threading import Lock, get_ident


class FairLock:
    """A reentrant lock, for ``with``: who waits for it gets it before the present owner gets it again.

    :class:`threading.RLock` has no such order. A thread that takes it again at once shuts out all others for as long as
    it likes: a cancel then waited for half a second beside a physics thread that was behind the clock.
    """

    def __init__(self) -> None:
        self._lock, self._door = Lock(), Lock()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        if self._owner != get_ident():
            with self._door:  # whoever waits for the lock holds the door shut behind itself
                self._lock.acquire()
            self._owner = get_ident()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            self._lock.release()
