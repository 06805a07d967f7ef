"""Nobody sees a picture older than a second without a warning on it, also when the console or the link is silent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stalls
from chromium import chromium, needs_chromium
from console.test_page import Served, wait

from benchmarks.console.browser import Browser, Seen, unmarked_s
from benchmarks.console.link import DELAY_S, Link
from stvla_ros.console.marks import MARGIN_S, left_s, mark
from stvla_ros.console.views import CLOUD, GUIDED, OLD_S, RAW, Cloud, Views

ROOT = Path(__file__).parents[2]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    console = Served(tmp_path)
    yield console
    console.page.close()


def picture(views: Views, age_s: float = 0.0) -> None:
    rng = np.random.default_rng(int(time.monotonic() * 1e3))
    views.put(RAW, rng.integers(0, 255, (480, 640, 3), np.uint8), age_s)


def latency_s(served: Served, number: int) -> float:
    link = served.page.gate.link(number)
    return float("inf") if link is None else link.latency_s


@pytest.mark.parametrize(
    ("age_s", "latency_s", "left"),
    [
        (0.0, 0.0, OLD_S - MARGIN_S),
        (0.3, 0.2, 0.4),
        (5.0, 0.0, 0.0),
        (0.0, float("inf"), 0.0),
        (float("inf"), 0.0, 0.0),
    ],
)
def test_the_time_that_is_left(age_s: float, latency_s: float, left: float) -> None:
    assert left_s(age_s, latency_s) == pytest.approx(left)


def test_a_warning_is_text() -> None:
    assert "&lt;b&gt;" in mark("<b>", 0.5, 1.0, "")


def test_how_old_a_picture_was_without_a_warning() -> None:
    pictures = [Seen(10.0, 9.9, 10.8), Seen(10.2, 10.1, 11.0), Seen(13.0, 9.0, 13.0), Seen(13.1, 13.0, 14.0)]
    assert unmarked_s(pictures) == pytest.approx([0.3, 0.9, 0.0]), "replaced, marked in time, and marked from the first"


def test_each_picture_comes_with_its_own_countdown(served: Served) -> None:
    """Also when the console sends nothing any more: what is drawn then was sent before."""
    person = Browser(served.netloc)
    try:
        wait(lambda: latency_s(served, 0) < 0.5)
        picture(served.views, age_s=0.4)
        seen = wait(lambda: next((p for p in person.pictures if p.marked_s > p.arrived_s), None))
        assert seen.marked_s - seen.taken_s <= OLD_S
        assert seen.marked_s - seen.arrived_s > 0.05
        count = len(person.pictures)
        picture(served.views, age_s=7.0)
        late = wait(lambda: person.pictures[count:])[0]
        assert late.marked_s == late.arrived_s
    finally:
        person.close()
    assert served.page.trouble == ""


def test_over_a_link_that_stalls_nothing_old_stands_there_without_a_warning(served: Served) -> None:
    """1 MB per second, in gusts, 0.3 s late: what arrives was taken up to more than a second ago."""
    link = Link(int(served.netloc.rpartition(":")[2]))
    person = Browser(link.netloc)
    try:
        until = time.monotonic() + 8.0
        while time.monotonic() < until:
            picture(served.views)
            served.views.put(CLOUD, Cloud(np.random.rand(8000, 3).astype(np.float32), np.zeros((8000, 3), np.uint8)))
            time.sleep(0.15)
        assert len(person.pictures) > 3
        assert max(unmarked_s(person.pictures)) < OLD_S
    finally:
        person.close()
        link.close()


def test_over_a_slow_link_a_click_arrives_when_the_click_does(served: Served) -> None:
    """And not when the last pong behind it does, with which the browser answers the console's pings; nor is it held up."""
    link = Link(int(served.netloc.rpartition(":")[2]))
    person = Browser(link.netloc)
    try:
        person.wait("STOP")
        for _ in range(5):
            person.socket.ping()
            time.sleep(0.02)  # it is still on the link
            clicked, begun, stops = time.monotonic(), stalls.clock(), served.stack.stops
            person.click("STOP")
            wait(lambda stops=stops: served.stack.stops > stops)
            stopped, took_s = time.monotonic(), stalls.clock() - begun
            assert person.socket.ping().wait(5.0)
            assert clicked + DELAY_S <= link.arrived_s(clicked) <= stopped
            assert took_s < 1.5 * DELAY_S
    finally:
        person.close()
        link.close()


def test_a_picture_is_encoded_once_for_all_and_reaches_all_alike(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    encoded: list[int] = []
    encode = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda *args: encoded.append(1) or encode(*args))
    people = [Browser(served.netloc) for _ in range(8)]
    try:
        for person in people:
            person.wait("STOP")
        wait(lambda: all(latency_s(served, number) < 5.0 for number in range(8)))
        encoded.clear()
        before = [len(person.pictures) for person in people]
        for _ in range(5):
            count = len(encoded)
            picture(served.views)
            wait(lambda count=count: len(encoded) > count)
        wait(lambda: all(len(p.pictures) - n == 5 for p, n in zip(people, before, strict=True)))
        assert len(encoded) == 5
    finally:
        for person in people:
            person.close()
    assert served.page.trouble == ""


def test_pictures_do_not_wait_for_a_scene_that_takes_long(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight scenes that take longer than there is time: each browser's comes later, its pictures do not."""
    people = [Browser(served.netloc) for _ in range(8)]
    turns: list[int] = []
    try:
        for person in people:
            person.wait("STOP")
        wait(lambda: len(served.page._browsers) == 8 and all(b._ready for b in served.page._browsers.values()))
        for number, browser in served.page._browsers.items():
            refresh = browser._scene.refresh

            def slow(number: int = number, refresh: Any = refresh) -> None:
                turns.append(number)
                time.sleep(0.15)
                refresh()

            monkeypatch.setattr(browser._scene, "refresh", slow)
        before, begun = [len(person.pictures) for person in people], time.monotonic()
        while time.monotonic() < begun + 6.0:
            picture(served.views)
            served.views.put(GUIDED, np.zeros((48, 64, 3), np.uint8))
            time.sleep(0.05)
        rates = [(len(p.pictures) - n) / 6.0 for p, n in zip(people, before, strict=True)]
        assert min(rates) > 1.0, rates  # one after another they took 1.2 s for each picture
        assert max(rates) - min(rates) < 0.4, rates
        counts = [turns.count(number) for number in range(8)]
        assert min(counts) >= max(counts) - 1 > 0, "in turn"
    finally:
        for person in people:
            person.close()


CONSOLE = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from console.test_page import Served
    from stvla_ros.console.views import RAW
    console = Served(Path(sys.argv[1]))
    print(console.page.address, flush=True)
    while True:
        console.views.put(RAW, np.random.randint(0, 255, (48, 64, 3), np.uint8))
        time.sleep(0.1)
"""


@pytest.mark.slow
@needs_chromium
def test_in_a_real_browser_the_warnings_appear_while_the_console_is_frozen(tmp_path: Path) -> None:
    script = (
        "() => [...document.querySelectorAll('stvla-old')].map(e => [e.textContent, getComputedStyle(e).visibility])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "test"), str(ROOT), *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(CONSOLE), str(tmp_path)]
    console = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert console.stdout is not None
        address = next(line.strip() for line in console.stdout if re.match("http://", line))
        with chromium() as browser:
            page = browser.new_page()
            page.goto(address)
            page.wait_for_selector("[data-taken]", timeout=60_000)

            def drawn() -> dict[str, str]:
                return dict(page.evaluate(script))

            wait(lambda: drawn().get("camera: OLD") == "hidden", 60.0)
            assert drawn()["guided: nothing has come yet"] == "visible"
            console.send_signal(signal.SIGSTOP)
            wait(lambda: drawn()["camera: OLD"] == "visible", 60.0)
            wait(lambda: set(drawn().values()) == {"visible"}, 60.0)  # that across the page, too
            console.send_signal(signal.SIGCONT)
            wait(lambda: drawn().get("camera: OLD") == "hidden", 60.0)
    finally:
        console.kill()
        console.wait()
