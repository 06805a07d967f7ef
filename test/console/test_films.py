"""Films of past runs, made by the project's own recorder."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stalls

from stvla_ros.config import ConfigError
from stvla_ros.console.films import FILM_PX, PERIOD_S, Film, Player
from stvla_ros.console.runs import FILM, PastRun, Runs
from stvla_ros.record.recorder import Recorder
from stvla_ros.record.video import VideoWriter
from stvla_ros.types import U8


def grey(n: int) -> int:
    return 10 + 5 * n % 240


def make_film(folder: Path, frames: int = 40, every_s: float = 0.25) -> Path:
    """Frame n is of ``grey(n)``."""
    folder.mkdir(parents=True, exist_ok=True)
    film = VideoWriter(folder / FILM, 1272, 344)
    for n in range(frames):
        film.write(np.full((344, 1272, 3), grey(n), np.uint8), n * every_s)
    film.close()
    return folder / FILM


def run_in(folder: Path) -> PastRun:
    return PastRun(folder, "Push it.", "OK", "Done.", 1.0, False)


def wait(condition: Callable[[], Any]) -> None:
    until = stalls.clock() + 20.0
    while not condition():
        assert stalls.clock() < until
        time.sleep(0.01)


def shows(picture: U8, n: int) -> bool:
    return bool(abs(float(picture.mean()) - grey(n)) < 2.5)  # neighbours differ by 5


def test_any_moment_forwards_and_backwards(tmp_path: Path) -> None:
    film = Film(make_film(tmp_path))
    assert film.seconds == pytest.approx(39 * 0.25, abs=0.3)
    for t_s, n in (
        (0.0, 0),
        (0.24, 0),
        (0.26, 1),
        (5.1, 20),
        (9.6, 38),
        (0.6, 2),
        (7.6, 30),
        (7.3, 29),
        (99.0, 39),
        (-1, 0),
    ):
        picture = film.at(t_s)
        assert picture.shape == (208, FILM_PX, 3)
        assert shows(picture, n), (t_s, picture.mean())
    film.close()


def test_a_recorders_film(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "Push it.")
    recorder.show("camera", np.full((480, 640, 3), (200, 0, 0), np.uint8))
    for n in range(8):
        recorder.tick(100.0 + 0.125 * n)
    recorder.finish("OK: done", 101.0)
    film = Runs(tmp_path.parent).film(run_in(tmp_path))
    assert film is not None
    middle = film.at(film.seconds)[100, 100]
    assert middle[0] > 150
    assert middle[1:].max() < 60
    film.close()


def test_what_is_no_film_of_the_run(tmp_path: Path) -> None:
    runs, folder = Runs(tmp_path), tmp_path / "run"
    whole = make_film(tmp_path / "other").read_bytes()
    folder.mkdir()
    assert runs.film(run_in(folder)) is None
    (folder / FILM).symlink_to(tmp_path / "other" / FILM)
    assert runs.film(run_in(folder)) is None
    (folder / FILM).unlink()
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/other/{FILM}\n#EXT-X-ENDLIST\n".encode()
    for content in (b"", b"no film", whole[:2000], playlist, os.urandom(5000)):
        (folder / FILM).write_bytes(content)
        with pytest.raises(ConfigError, match=r"run.mp4: the film cannot be shown \("):
            runs.film(run_in(folder))


def test_a_film_that_is_damaged_in_the_middle_is_said_to_be_and_the_rest_is_shown(tmp_path: Path) -> None:
    file = make_film(tmp_path, 300)
    content = bytearray(file.read_bytes())
    content[-len(content) // 3 :] = bytes(len(content) // 3 + 1)[: len(content[-len(content) // 3 :])]
    file.write_bytes(content)
    shown, told = list[float](), list[str]()
    player = Player(Film(file), lambda _, t_s: shown.append(t_s), told.append)
    wait(lambda: shown == [0.0])
    player.seek(74.0)
    wait(lambda: told)
    assert "the film cannot be shown" in told[0]
    player.seek(0.5)
    wait(lambda: shown[-1] == 0.5)
    player.close(5.0)


def test_a_film_plays_to_its_end_pauses_and_begins_again(tmp_path: Path) -> None:
    now, shown = [0.0], list[tuple[float, float]]()

    def clock() -> float:
        now[0] += 0.5
        return now[0]

    player = Player(Film(make_film(tmp_path)), lambda rgb, t_s: shown.append((t_s, rgb.mean())), pytest.fail, clock)
    wait(lambda: shown)
    player.toggle()
    wait(lambda: len(shown) > 4)
    player.toggle()
    paused = len(shown)
    time.sleep(4 * PERIOD_S)
    assert len(shown) <= paused + 1  # the one that was decoded just then
    player.seek(8.5)
    wait(lambda: shown[-1][0] == 8.5)
    player.toggle()
    wait(lambda: shown[-1][0] == player._film.seconds)
    times = [t_s for t_s, _ in shown]
    assert times == sorted(times)
    assert all(abs(mean - grey(min(int(t_s / 0.25), 39))) < 2.5 for t_s, mean in shown)
    player.toggle()
    wait(lambda: shown[-1][0] < 2.0)
    player.close(5.0)
    assert not player._thread.is_alive()


def test_of_many_moments_the_newest_is_shown(tmp_path: Path) -> None:
    hold, shown = threading.Event(), list[float]()

    def show(_: U8, t_s: float) -> None:
        shown.append(t_s)
        hold.wait(20.0)

    player = Player(Film(make_film(tmp_path)), show, pytest.fail)
    wait(lambda: shown)
    for n in range(1000):
        player.seek(n / 200)
    hold.set()
    wait(lambda: shown[-1] == 999 / 200)
    assert len(shown) == 2
    player.close(5.0)


def test_few_frames_are_in_memory(tmp_path: Path) -> None:
    """150 frames are 197 MB, and 72 MB in the size that they are shown in."""
    film = Film(make_film(tmp_path, 150))

    def rss_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    film.at(1.0)
    before = rss_mb()
    for t_s in np.linspace(1.0, 37.0, 200):
        film.at(t_s)
    assert rss_mb() - before < 30.0
    film.close()
