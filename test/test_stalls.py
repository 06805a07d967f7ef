"""The measure of the machine's stalls."""

import os
import signal
import time

import stalls


def test_the_clock_stands_still_during_a_stall_and_goes_on_after_it() -> None:
    """As if the machine did not run the sleeper for a while."""
    stalls.clock()
    pid = stalls._sleeper()._process.pid
    start, noted, began = stalls.clock(), stalls.stalled_s(), time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.5)
    during, seen = stalls.clock() - start, stalls.stalled_s() - noted
    os.kill(pid, signal.SIGCONT)
    assert during < 0.1
    assert seen > 0.4
    stalls.pause(0.1)
    assert stalls.stalled_s() - noted >= seen, "it was noted, too"
    assert 0.1 <= stalls.clock() - start <= time.monotonic() - began - seen
