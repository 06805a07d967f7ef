"""The cell's lock: physics that never pauses shuts out no cancel."""

from __future__ import annotations

import time
from threading import Event, Thread

from stvla_ros.sim.fair_lock import FairLock


def test_a_thread_that_never_pauses_shuts_out_nobody() -> None:
    lock, over, taken = FairLock(), Event(), 0

    def step() -> None:
        nonlocal taken
        while not over.is_set():
            with lock:
                taken += 1
                time.sleep(0.002)

    physics = Thread(target=step)
    physics.start()
    try:
        for _ in range(20):
            time.sleep(0.003)
            asked = taken
            with lock:
                waited = taken - asked
            assert waited <= 2
    finally:
        over.set()
        physics.join()


def test_its_owner_may_take_it_again() -> None:
    lock, inside = FairLock(), Event()

    def other() -> None:
        with lock:
            inside.set()

    with lock:
        waiting = Thread(target=other)
        waiting.start()
        with lock:
            assert not inside.wait(0.05)
        assert not inside.wait(0.05)
    assert inside.wait(20.0)
    waiting.join()
