"""``stvla human`` on folders with videos that are right and wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data.st_human.clips import make_clip
from data.st_human.videos import info, plain

from stvla_ros import cli
from stvla_ros.data.st_human.info_json import write_info
from stvla_ros.data.st_human.process import hand_models
from stvla_ros.data.st_human.tables import read_tables
from stvla_ros.files import read_json


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for number in range(3):
        (folder / f"v{number}").mkdir(parents=True)
        write_info(folder / f"v{number}" / "info.json", info(f"v{number}", f"cup_{number}"))
    return folder


def test_right_videos(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["human", "check", str(videos)]) == 0
    assert (
        "3 of 3 videos are right, 0 of them excluded; 6 actions: put_on 3, put_relative 3." in capsys.readouterr().out
    )
    assert cli.main(["human", "tables", str(videos), str(tmp_path / "tables")]) == 0
    assert list(read_tables(tmp_path / "tables")) == [info(f"v{n}", f"cup_{n}") for n in range(3)]


def test_wrong_videos_are_named_and_the_others_counted(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (videos / "v1" / "info.json").write_text(json.dumps(plain("v1") | {"actions": 3}))
    (videos / "v2" / "info.json").write_text(json.dumps(plain("v0")))
    assert cli.main(["human", "check", str(videos)]) == 1
    said = capsys.readouterr().out
    assert "v1/info.json.actions: wanted a list, found 3." in said
    assert f"v2/info.json: video.id: {videos}/v0/info.json has the same id 'v0'." in said
    assert "1 of 3 videos are right" in said
    assert cli.main(["human", "tables", str(videos), str(tmp_path / "tables")]) == 2
    assert "`stvla human check` names all 2 that are wrong" in capsys.readouterr().err
    assert not (tmp_path / "tables").exists()


def test_a_folder_without_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["human", "check", str(tmp_path)]) == 2
    assert "wanted the info.json of at least one video in it, found none" in capsys.readouterr().err


def test_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["human", "plan", "500"]) == 0
    said = capsys.readouterr().out
    assert "Look at 54 of 500 episodes; accept the batch with at most 0 defective ones" in said
    assert cli.main(["human", "plan", "500", "--usual", "0.9"]) == 2
    assert "usual: wanted more than the share to prove" in capsys.readouterr().err


def test_hands_are_chosen_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the networks' files the default needs none; asked for by name, it is refused before any work."""
    monkeypatch.setenv("STVLA_CACHE", str(tmp_path / "cache"))
    make_clip(tmp_path / "videos" / "clip")
    process = ["human", "process", str(tmp_path / "videos"), "--output", str(tmp_path / "out"), "--jobs", "1"]
    assert cli.main([*process, "--no-samples"]) == 0
    said = capsys.readouterr().out
    assert (
        f"Hands by depth, as {tmp_path}/cache/hands has no files of mediapipe: `stvla human fetch-hands` gets them."
        in said
    )
    (episode,) = read_json(tmp_path / "out" / "clip" / "quality.json")["episodes"]
    assert (episode["grasp"], episode["without_keypoints"]) == ("depth", None)
    assert cli.main([*process, "--hands", "mediapipe"]) == 2
    assert "wanted a network that finds hands, found nothing: run `stvla human fetch-hands`" in capsys.readouterr().err


def test_fetched_hands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(hand_models, "fetch_models", lambda folder: not asked.append(folder))
    assert cli.main(["human", "fetch-hands", "--to", str(tmp_path)]) == 0
    assert f"{tmp_path}: 4 files of mediapipe==0.10.21, fetched (Apache License 2.0)." in capsys.readouterr().out
    monkeypatch.setenv("STVLA_CACHE", str(tmp_path))
    assert cli.main(["human", "fetch-hands"]) == 0
    assert asked == [tmp_path, tmp_path / "hands"]
