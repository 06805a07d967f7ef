"""Episodes: exact both ways, and anything else in the folder is refused in words."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_plans import make_plan
from ray_caster import Scene, block, front_camera, home_robot, plate

from stvla_ros.data.episode import Episode, EpisodeError, EpisodeWriter, Verdict, find_episodes
from stvla_ros.data.recording import RecordingError
from stvla_ros.errors import OutcomeCode
from stvla_ros.types import Keypose, RgbdFrame, TracePlan

LOOKS = (0, 0, None, 1, 1, 1, None, 2, 2)
"""Plan in use at each look that a keypose came of; None: nothing came of it."""

PRESSED = (1, 4, 6)


def frame(i: int) -> RgbdFrame:
    scene, _ = Scene([block("red", 0.5, 0.02 * i), *plate(0.4, -0.2)]).render(front_camera(64, 48), stamp_ns=100 * i)
    depth = scene.depth_m.copy()
    depth[i] = np.nan
    depth[i + 1, 0] = -np.float32(0.0)
    depth[i + 1, 1] = np.nextafter(np.float32(1.0), np.float32(2.0))
    return replace(scene, depth_m=depth)


def plan(i: int) -> TracePlan:
    drawn = make_plan(np.random.default_rng(i).uniform(0, 1000, (8, 2)), np.linspace(0, -0.1 / 3, 8))
    return replace(
        drawn,
        instruction="Push the red button, then push the lime button, then push the red button.",
        sub_instruction=f"push the {('red', 'lime', 'red')[min(i, 2)]} button",
        plan_id=f"p{i}",
        step_index=i,
        start_depth_m=float("nan") if i else 1 / 3,
        raw_reply='{"ä": "\\n"}',
        finished=i == 3,
    )


def keypose(step: int) -> Keypose:
    T = np.eye(4)
    T[:3, 3] = 0.1 * step + 1e-17, 1 / 3, np.pi
    return Keypose(T, bool(step % 2), step in PRESSED, 1000 + step)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "push_buttons-7"
    writer, step, drawn = EpisodeWriter(path), 0, -1
    for i, number in enumerate(LOOKS):
        using = drawn if number is None else number
        while drawn < using:
            drawn += 1
            writer.add_plan(plan(drawn), frame(10 + drawn))
        writer.add_frame(plan(using), frame(i), home_robot(0.01 * i, stamp_ns=i))
        if number is not None:
            writer.add_keypose(keypose(step), 5000 + step)
            step += 1
    writer.add_plan(plan(3), frame(13))
    writer.close("push_buttons", 7, plan(0).instruction, Verdict(OutcomeCode.OK, "Done.", True, "Fine."))
    return path


def same(a: Any, b: Any) -> bool:
    """Bit for bit, NaN included."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if hasattr(a, "__dataclass_fields__"):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return a == b or (a != a and b != b)


def test_round_trip_is_exact(folder: Path) -> None:
    episode = Episode(folder)
    assert (episode.task, episode.seed, episode.instruction) == ("push_buttons", 7, plan(0).instruction)
    assert episode.outcome == Verdict(OutcomeCode.OK, "Done.", True, "Fine.")
    assert len(episode) == 7
    looks = [i for i, number in enumerate(LOOKS) if number is not None]
    for step, (found, look) in enumerate(zip(episode, looks, strict=True)):
        assert same(found.frame, frame(look))
        assert same(found.robot, home_robot(0.01 * look, stamp_ns=look))
        assert same(found.plan, plan(LOOKS[look] or 0))
        assert same(found.plan_frame, frame(10 + (LOOKS[look] or 0)))
        assert same(found.keypose, keypose(step))
        before = [replace(keypose(k), stamp_ns=5000 + k) for k in range(max(step - 3, 0), step)]
        assert len(found.history) == len(before)
        assert all(map(same, found.history, before))
    assert all(map(same, episode.plans, [plan(i) for i in range(4)]))
    assert same(episode[-1].keypose, episode.keyposes[-1])
    assert len(episode[2:4]) == 2
    with pytest.raises(IndexError):
        episode[7]


def test_guided_frames_are_all_frames_that_were_guided(folder: Path) -> None:
    guided = list(Episode(folder).guided_frames())
    assert [g.step for g in guided] == [0, 1, None, 2, 3, 4, None, 5, 6]
    assert [g.plan for g in guided] == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert all(same(g.frame, frame(i)) for i, g in enumerate(guided))


def test_an_unfinished_episode_is_none(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "a")
    writer.add_plan(plan(0), frame(0))
    writer.add_frame(plan(0), frame(1), home_robot())
    with pytest.raises(EpisodeError, match=r"wanted an episode \(episode.json\), found no such file"):
        Episode(tmp_path / "a")
    writer.close("t", 0, "w", Verdict(OutcomeCode.OK, ""))
    with pytest.raises(EpisodeError, match="no keypose was executed"):
        Episode(tmp_path / "a")
    with pytest.raises(EpisodeError, match="found no such folder"):
        Episode(tmp_path / "b")


def change(folder: Path, **values: Any) -> None:
    file = folder / "episode.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": "other-2"}, "wanted format 'stvla-episode-1', found 'other-2'"),
        ({"plans": []}, "damaged .*plan 0 of 0"),
        ({"plans": [{"uv": 1}]}, "damaged"),
        ({"looks": [{"plan": 0}]}, "damaged"),
        ({"looks": [{"plan": -1, "keypose": None}]}, "plan -1 of 4"),
        ({"looks": [{"plan": 0, "keypose": {"T_base_tcp": [[1]]}}]}, "damaged"),
        ({"looks": [{"plan": 0, "keypose": None}]}, "wanted 1 frames as in episode.json, found 9"),
        ({"outcome": {"code": "FINE"}}, "damaged .*FINE"),
        ({"seed": None}, "damaged"),
    ],
)
def test_a_damaged_index_is_refused(folder: Path, values: dict[str, Any], words: str) -> None:
    change(folder, **values)
    with pytest.raises(EpisodeError, match=words):
        Episode(folder)


def test_damaged_files_are_refused(folder: Path) -> None:
    (folder / "000001.npz").write_bytes((folder / "000001.npz").read_bytes()[:-40])
    episode = Episode(folder)
    with pytest.raises(RecordingError, match=r"000001.npz: wanted depth as a NumPy array"):
        episode[1]
    (folder / "plans" / "000000.png").unlink()
    with pytest.raises(RecordingError, match=r"plans/000000.png: wanted a PNG image, found nothing"):
        episode[0]
    index = json.loads((folder / "recording.json").read_text())
    del index["frames"][3]["q_rad"]
    (folder / "recording.json").write_text(json.dumps(index))
    with pytest.raises(EpisodeError, match="frame 000003 lacks the state of the arm"):
        Episode(folder)[2]
    (folder / "episode.json").write_text("{")
    with pytest.raises(EpisodeError, match="not valid JSON"):
        Episode(folder)


def test_episodes_are_found(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "half.part").mkdir()
    (tmp_path / "data" / "half.part" / "episode.json").write_text("{")
    assert [e.folder.name for e in find_episodes(tmp_path / "data")] == ["push_buttons-7"]
    with pytest.raises(EpisodeError, match="wanted a folder with episodes"):
        find_episodes(tmp_path)
