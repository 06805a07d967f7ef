"""Where messages of a bag belong in its replay, whatever the clocks said when it was recorded."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from stvla_ros.ros.bag_replay import APART_NS, DELAY_NS, GAP_NS, BagClocks

START, S, MS = 1_700_000_000_000_000_000, 1_000_000_000, 1_000_000


def played(told: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(when it is due, its new stamp) of messages (record time, stamp), since the replay began."""
    clocks, found = BagClocks(told[0][0]), []
    for recorded_ns, stamp_ns in told:
        shift_ns = clocks.place("camera", recorded_ns, stamp_ns)
        found.append((clocks.position_ns, stamp_ns + shift_ns))
    return found


def test_a_usual_bag_keeps_its_pace_and_its_delays() -> None:
    told = [(START + i * 100 * MS, START + i * 100 * MS - 30 * MS) for i in range(50)]
    assert played(told) == [(i * 100 * MS, i * 100 * MS - 30 * MS) for i in range(50)]


@pytest.mark.parametrize("first_ns", [START, START - 120 * S])
@pytest.mark.parametrize("longest_ns", [1200 * MS, 4 * S])
def test_a_recorder_that_was_kept_waiting_changes_no_distance_of_stamps(first_ns: int, longest_ns: int) -> None:
    """A full machine: for a while all comes late, by more and more, then at once."""
    stamps = [first_ns + i * 100 * MS for i in range(100)]
    due = [max(START + i * 100 * MS, START + 2 * S + longest_ns if 20 <= i < 60 else 0) for i in range(100)]
    found = played(list(zip(due, stamps, strict=True)))
    assert [stamp - found[0][1] for _, stamp in found] == [i * 100 * MS for i in range(100)]


@pytest.mark.parametrize("first_ns", [10 * S, START - 120 * S, START + 3600 * S, START - 20 * 365 * 86400 * S])
def test_another_clock_moves_by_one_constant(first_ns: int) -> None:
    """Simulation time, a camera minutes behind, one ahead, one whose clock was never set."""
    told = [(START + i * 100 * MS + i % 3 * MS, first_ns + i * 100 * MS) for i in range(50)]
    assert played(told) == [(i * 100 * MS, i * 100 * MS) for i in range(50)]


@pytest.mark.parametrize("factor", [0.05, 0.3, 0.9, 2.5])
def test_a_simulation_that_is_slow_or_fast_is_played_in_its_own_time(factor: float) -> None:
    told = [(START + int(i * 100 * MS / factor), 10 * S + i * 100 * MS) for i in range(200)]
    found = played(told)
    assert all(due == stamp for due, stamp in found)
    if factor > 0.1:
        assert found[-1][0] == 199 * 100 * MS


def test_what_came_together_comes_together_although_its_clocks_differ() -> None:
    told, camera = [], []
    for i in range(100):  # arm at 100 Hz with the recorder's clock; every third time a picture, two minutes behind
        at_ns = START + i * 10 * MS
        told.append((at_ns, at_ns - MS))
        if i % 3 == 0:
            camera.append(len(told))
            told += [(at_ns, at_ns - 120 * S - 30 * MS)] * 2  # colour and depth
    found = played(told)
    for k in camera:
        assert found[k] == found[k + 1]
        assert abs(found[k][1] - found[k - 1][1]) <= 10 * MS


@pytest.mark.parametrize(
    "jump_ns",
    [-60 * S, -3 * S, 60 * S],
    ids=["the simulation begins anew", "a short loop", "a clock is set"],
)
def test_a_clock_that_jumps_goes_on(jump_ns: int) -> None:
    told = [(START + i * 100 * MS, 100 * S + i * 100 * MS + (jump_ns if i >= 50 else 0)) for i in range(100)]
    assert played(told) == [(i * 100 * MS, i * 100 * MS) for i in range(100)]


def test_the_recorders_clock_that_jumps_is_not_waited_for() -> None:
    for jump_ns in (3600 * S, -3600 * S):
        times = [START + i * 100 * MS + (jump_ns if i >= 50 else 0) for i in range(100)]
        found = played([(at_ns, at_ns - 10 * MS) for at_ns in times])
        assert all(due - stamp == 10 * MS for due, stamp in found)
        assert found[-1][0] - 99 * 100 * MS in (-100 * MS, GAP_NS - 100 * MS)


def test_a_long_pause_is_cut_short() -> None:
    times = [START, START + 5 * S, START + 1000 * S, START + 1001 * S]
    assert [due for due, _ in played([(at_ns, at_ns) for at_ns in times])] == [0, 5 * S, 5 * S + GAP_NS, 6 * S + GAP_NS]


def test_no_stamp_takes_the_record_time() -> None:
    clocks = BagClocks(START)
    clocks.place("camera", START, START)
    clocks.place("camera", START + S, 0)
    assert clocks.position_ns == S


def test_whatever_comes_nothing_is_old_and_time_goes_on() -> None:
    rng = random.Random(0)
    for _ in range(200):
        recorded_ns, stamp_ns, told = START, rng.choice([START, 10 * S, START - 90 * S]), []
        for _ in range(100):
            recorded_ns += rng.choice([0, MS, 100 * MS, 3 * S, -2 * S, rng.randrange(10**13)])
            stamp_ns += rng.choice([MS, 100 * MS, 100 * MS, 3 * S, -2 * S, rng.randrange(-(10**13), 10**13)])
            stamp_ns = max(1, stamp_ns)
            told.append((recorded_ns, rng.choice([stamp_ns, recorded_ns])))
        found = played(told)
        assert [due for due, _ in found] == sorted(due for due, _ in found)
        assert all(-2 * APART_NS - DELAY_NS <= stamp - due <= APART_NS for due, stamp in found)
        assert all(b[0] - a[0] <= GAP_NS for a, b in pairwise(found))
