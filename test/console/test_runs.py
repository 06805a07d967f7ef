"""The last runs on disk."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from stvla_ros.console import runs
from stvla_ros.console.runs import NEWEST, STORYBOARD, Runs


def make(root: Path, name: str, file: str = "summary.json", **values: object) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / file).write_text(json.dumps(values))
    return folder


def test_runs_and_recordings_newest_first(tmp_path: Path) -> None:
    make(tmp_path, "20260101-100000", instruction="Push it.", outcome="OK", sentence="Done.", times_s={"total": 12.5})
    folder = make(tmp_path, "20260102-100000", "run.json", instruction="Stack 'it'.", outcome="", seconds=3)
    make(tmp_path, "damaged").joinpath("summary.json").write_text("{")
    make(tmp_path, "a-list").joinpath("summary.json").write_text("[]")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").write_text("")
    (tmp_path / "latest").symlink_to(folder)
    recording, run = Runs(tmp_path).newest().values()
    assert recording.command == f"stvla replay {folder}"
    assert (recording.outcome, recording.seconds) == ("", 3.0)
    assert recording.label == "20260102-100000 no outcome: Stack 'it'."
    assert (run.outcome, run.sentence, run.seconds, run.command) == ("OK", "Done.", 12.5, "stvla run 'Push it.'")


def test_no_more_than_the_newest(tmp_path: Path) -> None:
    for number in range(NEWEST + 5):
        make(tmp_path, f"run-{number:02d}", instruction="Push it.")
    labels = list(Runs(tmp_path).newest())
    assert len(labels) == NEWEST
    assert labels[0].startswith(f"run-{NEWEST + 4}")
    assert Runs(tmp_path / "nowhere").newest() == {}


def test_a_storyboard_is_shown_in_its_colours_and_fits(tmp_path: Path) -> None:
    folder = make(tmp_path, "run", instruction="Push it.")
    runs = Runs(tmp_path)
    (run,) = runs.newest().values()
    assert runs.storyboard(run) is None
    cv2.imwrite(str(folder / STORYBOARD), np.full((1000, 1800, 3), (0, 0, 200), np.uint8))
    picture = runs.storyboard(run)
    assert picture is not None
    assert picture.shape == (500, 900, 3)
    assert picture[0, 0].tolist() == [200, 0, 0]
    (folder / STORYBOARD).write_bytes(b"no picture")
    assert runs.storyboard(run) is None
    (folder / STORYBOARD).unlink()
    (folder / STORYBOARD).symlink_to("/etc/passwd")
    assert runs.storyboard(run) is None


def test_a_report_that_is_a_link_or_too_large_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path, "1", file="run.json", instruction="Push.")
    index = Runs(tmp_path)
    run = index.newest().popitem()[1]
    assert index.report(run) is None, "there is none"
    (tmp_path / "secret.html").write_text("secret")
    (folder / "replay").mkdir()
    (folder / "replay" / "report.html").symlink_to(tmp_path / "secret.html")
    assert index.report(run) is None
    (folder / "replay" / "report.html").unlink()
    (folder / "replay" / "report.html").write_text("<p>differs</p>")
    assert index.report(run) == "<p>differs</p>"
    monkeypatch.setattr(runs, "REPORT_BYTES", 5)
    assert index.report(run) is None
    (folder / "replay").rename(tmp_path / "elsewhere")
    (folder / "replay").symlink_to(tmp_path / "elsewhere")
    monkeypatch.undo()
    assert index.report(run) is None
