"""Latencies and ages over the last minute."""

from __future__ import annotations

import numpy as np

from stvla_ros.console.trends import EVERY_S, SPAN_S, Trends, drawn
from stvla_ros.console.views import JOINTS, LATENCIES, RAW, Views


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_values_of_the_last_minute_and_no_others() -> None:
    clock = Clock()
    views = Views(clock)
    trends = Trends(views, clock)
    trends.sample()
    assert trends.series() == {}, "nothing has come yet"
    views.put(RAW, "an image")
    for second in range(100):
        clock.now = 100.0 + second
        if second >= 20:
            views.put(LATENCIES, {"planning": 0.25 if second < 99 else 2.5})
        trends.sample()
        trends.sample()  # too early: no sample
    series = trends.series()
    assert set(series) == {"planning", "age of the image"}, "joint states never came"
    ago_s, values = series["age of the image"]
    assert (ago_s[0], ago_s[-1], values[-1]) == (SPAN_S, 0.0, 99.0)
    assert len(ago_s) == 61
    assert series["planning"][1][-2:].tolist() == [0.25, 2.5]
    views.put(JOINTS, "joints")
    clock.now += EVERY_S
    trends.sample()
    assert series.keys() | {"age of the joint states"} == trends.series().keys()


def test_a_line_says_the_newest_and_the_largest_value() -> None:
    page = drawn({"planning": (np.array([60.0, 30.0, 0.0]), np.array([0.1, 2.5, 0.04]))})
    assert "<td>40 ms</td><td>2.5 s</td>" in page
    assert 'points="0,21.1 100,0.0 200,21.6"' in page
    assert drawn({}) == ""
