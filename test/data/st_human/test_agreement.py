"""Two annotations of the same videos: what differs is counted, by how much, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data.st_human.videos import info
from scipy.spatial.transform import Rotation

from stvla_ros import cli
from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.agreement import Agreement, compare
from stvla_ros.data.st_human.info import Action, ContactPoints, VideoInfo, Waypoint
from stvla_ros.data.st_human.info_json import write_info


def with_action(video: VideoInfo, **changes: object) -> VideoInfo:
    """The video with another first action."""
    return replace(video, actions=(replace(video.actions[0], **changes), *video.actions[1:]))


def moved(action: Action, by_m: float, turn_deg: float = 0.0) -> dict[str, object]:
    """The action's points and poses, moved along x and turned about z."""
    turn = Rotation.from_euler("z", turn_deg, degrees=True)

    def pose(w: Waypoint) -> Waypoint:
        quat = (Rotation.from_quat(w.quat_xyzw) * turn).as_quat()
        return replace(w, xyz_m=(w.xyz_m[0] + by_m, *w.xyz_m[1:]), quat_xyzw=tuple(quat))

    points = action.contact_points
    assert points is not None
    px = by_m * info().camera.K[0] / points.initial.xyz_m[2]
    ends = [
        replace(p, xyz_m=(p.xyz_m[0] + by_m, *p.xyz_m[1:]), px=(p.px[0] + px, p.px[1]))
        for p in (points.initial, points.final)
    ]
    return {"trajectory": tuple(map(pose, action.trajectory)), "contact_points": ContactPoints(*ends)}


def one_row(second: VideoInfo) -> dict[str, object]:
    return compare([info()], [second]).rows()["all"]


def test_an_annotation_agrees_with_itself() -> None:
    row = compare([info("a"), info("b")], [info("b"), info("a")]).rows()["all"]
    assert row["both"] == 2 * len(info().actions)
    assert (row["segments_f1"], row["sentence"], row["template"], row["agree"]) == (1.0, 1.0, 1.0, 1.0)
    assert (row["contact_frames"], row["contact_mm"], row["path_rms_mm"]) == (0.0, 0.0, 0.0)
    assert row["turn_deg"] == pytest.approx(0.0, abs=1e-4)


def test_distances_are_those_between_the_points() -> None:
    second = with_action(info(), **moved(info().actions[0], 0.004, 30.0))
    pair = compare([info()], [second]).pairs[0]
    np.testing.assert_allclose(pair.path_mm, 4.0)
    np.testing.assert_allclose(pair.turn_deg, 30.0)
    np.testing.assert_allclose(pair.contact_mm, 4.0)
    assert pair.agrees
    far = with_action(info(), **moved(info().actions[0], 0.006))
    assert not compare([info()], [far]).pairs[0].agrees


def test_frames_count_with_their_sign() -> None:
    action = info().actions[0]
    pair = compare([info()], [with_action(info(), contact_frame=action.contact_frame + 3)]).pairs[0]
    assert pair.frames == (0, 3, 0, 0)
    assert not pair.agrees


def test_an_action_of_one_only_has_no_pair() -> None:
    first = info()
    found = compare([first], [replace(first, actions=first.actions[1:])])
    assert (found.only_first, found.only_second) == ((first.actions[0].template,), ())
    assert found.rows()["all"]["segments_f1"] == pytest.approx(2 * 1 / (2 * 1 + 1))
    none = compare([replace(first, actions=())], [first])
    assert len(none.only_second) == 2
    assert none.rows()["all"]["segments_f1"] == 0.0


def test_actions_meet_by_time_and_not_by_their_place() -> None:
    first = info()
    found = compare([first], [replace(first, actions=first.actions[::-1])])
    assert [(p.first, p.second) for p in found.pairs] == [(a.id, a.id) for a in first.actions]


def test_names_count_and_not_ids() -> None:
    """Another person may give the things other ids."""
    first, second = info("v", "cup_1"), info("v", "cup_9")
    assert all(p.same_sentence for p in compare([first], [second]).pairs)
    other = replace(first, objects=(replace(first.objects[0], name="big mug"), *first.objects[1:]))
    assert not compare([first], [other]).pairs[0].same_sentence


def test_what_has_no_points_does_not_pass() -> None:
    row = one_row(with_action(info(), contact_points=None, trajectory=()))
    assert row["agree"] == 0.5
    bare = replace(info(), actions=tuple(replace(a, contact_points=None, trajectory=()) for a in info().actions))
    row = compare([bare], [bare]).rows()["all"]
    assert (row["contact_mm"], row["path_rms_mm"], row["agree"]) == (None, None, 0.0)


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(ConfigError, match="found none in both: the first has a, the second b"):
        compare([info("a")], [info("b")])
    with pytest.raises(ConfigError, match="v1: wanted annotations of one video, found"):
        compare([info()], [replace(info(), video=replace(info().video, frames=info().video.frames + 1))])
    found = compare([info("a"), info("b")], [info("a"), info("c")])
    assert (found.videos, found.only_in) == (1, (("b",), ("c",)))
    assert isinstance(found, Agreement)


def test_the_command_shows_a_row_per_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second = with_action(info(), **moved(info().actions[0], 0.02))
    for name, video in (("ann", info()), ("bo", second)):
        (tmp_path / name / "v1").mkdir(parents=True)
        write_info(tmp_path / name / "v1" / "info.json", video)
    table = tmp_path / "figures.json"
    assert cli.main(["human", "compare", str(tmp_path / "ann"), str(tmp_path / "bo"), "--json", str(table)]) == 0
    shown = capsys.readouterr().out
    assert "1 videos are in both" in shown
    kept = json.loads(table.read_text())
    assert kept["pairs"][0]["contact_mm"] == [20.0, 20.0]
    assert kept["tasks"]["all"]["agree"] == 0.5
