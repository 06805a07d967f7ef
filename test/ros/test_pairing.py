"""Colour and depth of one shot: equal stamps, some milliseconds apart, lost, late, faster, slower, set back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from stvla_ros.ros.pairing import KEPT, Pairing

MS = 1_000_000
START = 1_700_000_000_000_000_000


def pair(events: list[tuple[str, float]], within_ms: float = 5.0) -> tuple[Pairing[float], list[tuple[float, float]]]:
    """The pairs, by their stamps in milliseconds, of messages in order of arrival."""
    pairing: Pairing[float] = Pairing(round(within_ms * MS))
    found: list[tuple[float, float]] = []
    for stream, ms in events:
        found += pairing.add(stream, START + round(ms * MS), ms)  # type: ignore[arg-type]
    return pairing, found


def shots(n: int, frame_ms: float, depth_later_ms: float, order: str = "cd") -> list[tuple[str, float]]:
    names = {"c": "color", "d": "depth"}
    return [(names[o], k * frame_ms + (depth_later_ms if o == "d" else 0.0)) for k in range(n) for o in order]


@pytest.mark.parametrize("order", ["cd", "dc"])
@pytest.mark.parametrize("later_ms", [0.0, 1.0, -1.0, 4.9, -4.9])
@pytest.mark.parametrize("frame_ms", [11.1, 16.7, 33.3, 66.7, 200.0])
def test_every_shot_is_paired_with_itself(order: str, later_ms: float, frame_ms: float) -> None:
    pairing, found = pair(shots(12, frame_ms, later_ms, order))
    assert len(found) >= 11, "the first may wait for the second, the last for none"
    assert all(d - c == pytest.approx(later_ms) for c, d in found)
    assert pairing.dropped == 0


def test_beyond_the_tolerance_nothing_is_paired_and_the_gap_is_told() -> None:
    pairing, found = pair(shots(20, 66.7, 20.0))
    assert found == []
    assert pairing.gap_ns() == 20 * MS
    assert pairing.waiting("color") == pairing.waiting("depth") == KEPT


def test_equal_stamps_win_over_near_ones() -> None:
    _, found = pair([("color", 0), ("depth", 1), ("color", 1), ("depth", 34), ("color", 34)])
    assert found == [(1, 1), (34, 34)]


def test_the_nearest_wins_even_where_frames_follow_each_other_fast() -> None:
    """Frames each 4 ms, depth 3 ms late by its stamp: only then is each depth nearer to the next colour."""
    _, found = pair(shots(10, 4.0, 3.0))
    assert found
    assert {d - c for c, d in found} == {-1.0}


def test_nothing_is_joined_before_it_is_clear() -> None:
    pairing, found = pair([("color", 0), ("depth", 2)])
    assert found == [], "a colour of 3 ms may follow"
    assert pairing.add("color", START + 3 * MS, 3) == [], "so may a depth of 3 ms"
    assert pairing.add("depth", START + 5 * MS, 5) == [(3, 2)]
    pairing, found = pair([("color", 0), ("depth", 2), ("color", 33)])
    assert found == [(0, 2)]
    assert pairing.add("depth", START + 35 * MS, 35) == [(33, 35)], "now the frame time is known"


def test_colour_at_30_and_depth_at_15_hz() -> None:
    events = [(s, k * 33.3 + later) for k in range(20) for s, later in (("color", 0.0), ("depth", 1.0))]
    events = [(s, ms) for i, (s, ms) in enumerate(events) if s == "color" or i % 4 == 1]
    _, found = pair(events)
    assert len(found) >= 9
    assert all(d - c == pytest.approx(1.0) for c, d in found)


def test_depth_that_takes_long_to_compute() -> None:
    """It comes a third of a second after its colour, at 30 Hz."""
    colour = [("color", k * 33.3) for k in range(30)]
    events = [e for k, c in enumerate(colour) for e in ([c] if k < 10 else [c, ("depth", (k - 10) * 33.3)])]
    assert len(pair(events)[1]) == 20


def test_lost_and_repeated_and_late_messages() -> None:
    pairing, found = pair(
        [
            ("color", 0),
            ("color", 33),
            ("depth", 33),
            ("depth", 0),
            ("depth", 33),
            ("color", 33),
            ("color", 66),
            ("depth", 66),
        ]
    )
    assert found == [(33, 33), (66, 66)]
    assert pairing.dropped == 1 + 1 + 2, "the colour without depth, its depth, and what came twice"


def test_one_stamp_of_the_past_is_skipped() -> None:
    _, found = pair([*shots(3, 33, 0), ("color", -9000), ("depth", -9000), ("color", 99), ("depth", 99)])
    assert found == [(0, 0), (33, 33), (66, 66), (99, 99)]


@pytest.mark.parametrize("back_ms", [200.0, 3000.0, 3_600_000.0])
def test_a_clock_that_goes_back_begins_anew(back_ms: float) -> None:
    before, after = shots(5, 33, 1), [(s, ms - back_ms) for s, ms in shots(8, 33, 1)]
    _, found = pair([*before, *after])
    again = [c for c, _ in found if c < 0]
    assert len(again) >= 4
    assert again == sorted(again)


def test_a_repeated_frame_is_no_clock_that_went_back() -> None:
    pairing, found = pair([*shots(2, 33, 0), *[("color", 33), ("depth", 33)] * 10])
    assert found == [(0, 0), (33, 33)]
    assert pairing.paired_ns == START + 33 * MS


def test_pairs_are_nearest_to_each_other_whatever_gets_lost() -> None:
    """Random frame times, offsets and losses: a pair is within the tolerance, of one shot, and younger than the last."""
    rng = np.random.default_rng(7)
    paired = 0
    for _ in range(300):
        frame_ms, later_ms = rng.uniform(11, 100), rng.uniform(-5, 5)
        jitter = rng.normal(0, 0.2, (40, 2))
        events = []
        for k in range(40):
            both = [("color", k, k * frame_ms + jitter[k, 0]), ("depth", k, k * frame_ms + later_ms + jitter[k, 1])]
            events += [both[i] for i in rng.permutation(2) if rng.random() > 0.2]
        pairing: Pairing[tuple[int, float]] = Pairing(5 * MS)
        found = [
            p
            for s, k, ms in events
            for p in pairing.add(s, START + round(ms * MS), (k, ms))  # type: ignore[arg-type]
        ]
        assert all(abs(c[1] - d[1]) <= 5.0 + 1e-6 for c, d in found)
        assert all(a[0][1] < b[0][1] and a[1][1] < b[1][1] for a, b in itertools.pairwise(found))
        if abs(later_ms) < frame_ms / 2 - 1 - 5 and abs(later_ms) < 4:
            assert all(c[0] == d[0] for c, d in found)
            paired += len(found)
    assert paired > 2000
