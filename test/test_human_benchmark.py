"""The benchmark of ``stvla human process``: what is right counts as right, what is off by more than the tolerance does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.st_human.videos import info

from benchmarks.human.__main__ import COLUMNS, figures, markdown, write
from benchmarks.human.score import Score, score
from stvla_ros.data.st_human.info import VideoInfo


def one_action() -> VideoInfo:
    whole = info()
    return replace(whole, actions=whole.actions[:1])


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """The truth that agrees with the first action of :func:`data.st_human.videos.info`."""
    (action,) = one_action().actions
    assert action.contact_points is not None
    content: dict[str, Any] = {
        "kind": "put_on", "frames": 70, "sentence": action.sentence, "moved": "cup",
        "start_frame": action.start_frame, "contact_frame": action.contact_frame,
        "release_frame": action.release_frame, "end_frame": action.end_frame,
        "contact_points": {"initial": {"px": list(action.contact_points.initial.px)}},
        "objects": [{"id": "cup", "name": "red cup"}, {"id": "tray", "name": "tray"}],
        "relations": {"after": [{"subject": "cup", "predicate": "on", "objects": ["tray"], "margin": 2.5}]},
    }  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps(content))
    grip = np.full((70, 3), np.nan)
    for waypoint in action.trajectory:
        grip[waypoint.frame] = waypoint.xyz_m
    np.savez(tmp_path / "truth.npz", grip_m=grip)
    return tmp_path


def test_a_right_video_scores_full(truth: Path) -> None:
    row = figures([score(one_action(), {"a1": "audit"}, truth)])
    right = {"segments_f1": 1, "contact": 1, "release": 1, "contact_point": 1, "relations": 1, "sentence": 1}
    assert {name: row[name] for name in right} == right
    assert row["relations_wrong"] == row["routed"] == 0
    assert row["rms_seen_mm"] == pytest.approx(0.0, abs=1e-3)
    assert row["rms_gap_mm"] is None


def test_what_is_off_does_not_count(truth: Path) -> None:
    content = json.loads((truth / "truth.json").read_text())
    content |= {"start_frame": content["start_frame"] - 6, "contact_frame": content["contact_frame"] + 4}
    content |= {"release_frame": content["release_frame"] + 3, "sentence": "Put the red cup in the tray."}
    content["contact_points"]["initial"]["px"][0] += 11.0
    content["relations"]["after"][0]["objects"] = ["cup"]
    (truth / "truth.json").write_text(json.dumps(content))
    grip = np.load(truth / "truth.npz")["grip_m"] + [0.0, 0.003, 0.004]
    np.savez(truth / "truth.npz", grip_m=grip)
    row = figures([score(one_action(), {}, truth)])
    assert (row["segments_f1"], row["contact"], row["release"]) == (0.0, 0.0, 1.0)
    assert (row["contact_point"], row["sentence"], row["relations"]) == (0.0, 0.0, 0.0)
    assert row["relations_wrong"] == 1.0
    assert row["routed"] == 1.0
    assert row["rest_rms_seen_mm"] is None
    assert row["rms_seen_mm"] == pytest.approx(5.0, abs=1e-3)


def test_a_video_without_a_result_counts_as_missed(tmp_path: Path) -> None:
    right = Score("pour", (1, 0, 0), (0, 0), 2.0, np.array([3.0]), exact=True, routed=False)
    write(tmp_path, {"pour-0001": right, "pour-0002": Score("pour"), "wipe-0001": Score("wipe")})
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["tasks"]["pour"]["segments_f1"] == pytest.approx(2 / 3)
    assert report["tasks"]["pour"]["contact"] == report["tasks"]["pour"]["sentence"] == 0.5
    assert report["tasks"]["all"]["routed"] == pytest.approx(2 / 3)
    assert report["videos"]["pour-0001"]["rms_seen_mm"] == 3.0
    lines = markdown(report["tasks"]).splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["task", "---", "pour", "wipe", "all"]
    assert all(line.count("|") == len(COLUMNS) + 2 for line in lines)
    assert (tmp_path / "report.md").read_text().startswith(lines[0])
