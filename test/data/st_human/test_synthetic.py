"""Videos of a synthetic hand: the truth agrees with itself and with the images, and a seed decides every byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stvla_ros import cli
from stvla_ros.data.st_human.synthetic.batch import videos_to_make
from stvla_ros.data.st_human.synthetic.kinds import KINDS
from stvla_ros.data.st_human.synthetic.video import NotShownError, Played, VideoSettings, make_video, played
from stvla_ros.data.st_human.templates import read
from stvla_ros.files import digest, read_json
from stvla_ros.geometry.se3 import inverse
from stvla_ros.sim.human.hand import grip, posed
from stvla_ros.sim.human.rig import CHAINS, read_rig
from stvla_ros.sim.human.stage import Stage
from stvla_ros.types import F64

SMALL = VideoSettings(width_px=160, height_px=120, fps=15)
STILL_M = 1e-9
_HAND = 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synthetic") / "video"
    make_video("put_on", 2, SMALL, path)
    return path


@pytest.fixture(scope="module")
def arrays(folder: Path) -> Any:
    return dict(np.load(folder / "truth.npz"))


@pytest.fixture(scope="module")
def truth(folder: Path) -> Any:
    return json.loads((folder / "truth.json").read_text())


def depth_m(folder: Path, frame: int) -> F64:
    image = cv2.imread(str(folder / f"depth/{frame:06d}.png"), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16
    return image / 1000.0


def pixels(folder: Path, points_m: F64) -> tuple[F64, F64]:
    """Where camera points are in the image."""
    camera = json.loads((folder / "camera.json").read_text())
    x, y, z = points_m.T
    return camera["fx"] * x / z + camera["cx"], camera["fy"] * y / z + camera["cy"]


def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    make_video("put_on", 2, SMALL, tmp_path / "again")
    make_video("put_on", 3, SMALL, tmp_path / "other")
    assert digest(tmp_path / "again") == digest(folder) != digest(tmp_path / "other")


def test_key_points_lie_in_the_hand_and_below_its_skin(folder: Path, arrays: Any, truth: Any) -> None:
    """Where no thing is in front of it, a key point is at a pixel of the hand (or next to one), and behind its surface."""
    total, outside, bare = 0, 0, 0
    for frame in range(truth["start_frame"], truth["end_frame"] + 1):
        points = arrays["hand_points_m"][frame].astype(np.float64)
        u, v = (np.rint(c).astype(int) for c in pixels(folder, points))
        shown = (u >= 1) & (u < 159) & (v >= 1) & (v < 119)
        label, depth = arrays["labels"][frame], depth_m(folder, frame)
        for i, j, z in zip(v[shown], u[shown], points[shown, 2], strict=True):
            if 0 < label[i, j] < _HAND and depth[i, j] < z:
                continue
            total += 1
            outside += not (label[i - 1 : i + 2, j - 1 : j + 2] == _HAND).any()
            bare += bool(label[i, j] == _HAND and depth[i, j] > z)
    assert total > 300
    assert outside < 0.01 * total
    assert bare < 0.02 * total


def test_hand_mask_is_the_labels(arrays: Any) -> None:
    labels = arrays["labels"]
    mask = np.unpackbits(arrays["hand_mask"], axis=1)[:, : labels[0].size].reshape(labels.shape)
    assert np.array_equal(mask.astype(bool), labels == _HAND)


def test_masks_and_poses_of_things_agree(folder: Path, arrays: Any, truth: Any) -> None:
    """Every pixel of a thing, lifted by its depth, lies in the thing's box; in all frames, also while it is carried."""
    camera = json.loads((folder / "camera.json").read_text())
    for frame in range(0, truth["frames"], 7):
        depth = depth_m(folder, frame)
        for number, thing in enumerate(truth["objects"], 1):
            v, u = np.nonzero(arrays["labels"][frame] == number)
            z = depth[v, u]
            rays = np.column_stack(
                [(u - camera["cx"]) / camera["fx"], (v - camera["cy"]) / camera["fy"], np.ones(len(u))]
            )
            T = inverse(arrays["T_camera_object"][frame, number - 1].astype(np.float64))
            local = (rays * z[:, None]) @ T[:3, :3].T + T[:3, 3] - thing["center_m"]
            assert np.all(np.abs(local) < np.array(thing["size_m"]) / 2 + 0.003), (frame, thing["id"])


def test_the_hand_comes_and_goes(arrays: Any, truth: Any) -> None:
    seen = (arrays["labels"] == _HAND).any(axis=(1, 2))
    assert not seen[: truth["start_frame"]].any()
    assert not seen[truth["end_frame"] + 1 :].any()
    assert seen[truth["start_frame"] : truth["end_frame"] + 1].all()
    assert 0 <= truth["clean_frame"] < truth["start_frame"] < truth["contact_frame"] < truth["release_frame"]
    assert truth["release_frame"] < truth["end_frame"] < truth["after_frame"] < truth["frames"]


def test_nothing_moves_by_itself(arrays: Any, truth: Any) -> None:
    """Only the taken thing moves, only between contact and release, and then rigidly with the hand."""
    ids = [thing["id"] for thing in truth["objects"]]
    poses, hand = arrays["T_camera_object"].astype(np.float64), arrays["T_camera_hand"].astype(np.float64)
    taken = ids.index(truth["moved"])
    first, last = truth["contact_frame"], truth["release_frame"]
    assert np.ptp(np.delete(poses, taken, axis=1), axis=0).max() < STILL_M
    assert np.ptp(poses[: first + 1, taken], axis=0).max() < STILL_M
    assert np.ptp(poses[last:, taken], axis=0).max() < STILL_M
    in_hand = inverse(hand[first : last + 1]) @ poses[first : last + 1, taken]
    assert np.ptp(in_hand, axis=0).max() < 1e-5
    assert np.ptp(poses[:, taken], axis=0).max() > 0.05


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_played_as_its_sentence_says(kind: str) -> None:
    """Contact, release and relations are judged where they are made: here, that they are right where it says so."""
    with played(kind, 5, SMALL) as video:
        check_played(video)


def check_played(video: Played) -> None:
    truth, gap = video.truth, video.arrays["finger_gap_m"]
    names = {thing["id"]: thing["name"] for thing in truth["objects"] if thing["part_of"] is None}
    template, slots = read(truth["sentence"], names)
    assert (template, {k: list(v) if isinstance(v, tuple) else v for k, v in slots.items()}) == (
        truth["template"], truth["slots"],
    )  # fmt: skip
    first, last = truth["contact_frame"], truth["release_frame"]
    assert gap[[first, last]].min(axis=1) == pytest.approx(0.0, abs=0.001)
    assert (gap[:first] > 0.0).all()
    if truth["template"] not in ("slide", "press", "touch"):
        assert np.abs([gap[first, 0], gap[first, 1:3].min()]).max() < 0.001, "held from both sides"
    assert (gap[last + 1 :] > 0.0).all()
    assert gap[last + 6 :].min() > 0.002
    assert gap.min() > -0.001, "no finger is in what it holds"
    steps = np.linalg.norm(np.diff(video.arrays["hand_points_m"][:, 0], axis=0), axis=1) * SMALL.fps
    assert steps.max() < 2.0, "no hand reaches faster at ease"
    assert 3.0 < truth["frames"] / SMALL.fps < 15.0


def test_finger_lengths_and_both_hands() -> None:
    """No posture stretches a finger, the left hand mirrors the right one, and a grip is as wide as asked for."""
    for width in (0.0, 0.03, 0.06, 0.085):
        points = {}
        for side in ("left", "right"):
            rig = read_rig(side)
            joints = posed(rig, grip(rig, width))[:, :3, 3]
            for chain in CHAINS:
                rest, now = (np.diff(p[list(chain)], axis=0) for p in (rig.joints_m, joints))
                assert np.allclose(np.linalg.norm(rest, axis=1), np.linalg.norm(now, axis=1), atol=1e-9)
            points[side] = joints
            thick = rig.radius_m(*CHAINS[1][-2:]) + rig.radius_m(*CHAINS[0][-2:])
            between = np.linalg.norm(joints[4] - 0.6 * joints[9] - 0.4 * joints[14])
            assert between - thick == pytest.approx(width, abs=0.004)
        assert np.allclose(points["left"], points["right"] * [1, 1, -1], atol=0.001)


def test_a_batch_resumes_and_keeps_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    todo = videos_to_make(tmp_path, ("touch", "press"), 2, 7, SMALL)
    assert [(s.task, s.seed) for s in todo] == [("touch", 7), ("press", 7), ("touch", 8), ("press", 8)]
    (tmp_path / "videos" / "touch-0007").mkdir()
    (tmp_path / "videos" / "press-0007.x.part").mkdir()
    assert [(s.task, s.seed) for s in videos_to_make(tmp_path, ("touch", "press"), 1, 7, SMALL)] == [("press", 7)]
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["touch-0007"]
    assert read_json(tmp_path / "settings.json")["fps"] == 15
    assert cli.main(["human", "synthesise", "--tasks", "touch", "--output", str(tmp_path)]) == 2
    assert "holds videos made with other settings (fps, height_px, width_px)" in capsys.readouterr().err
    assert cli.main(["human", "synthesise", "--tasks", "put_onn", "--output", str(tmp_path / "new")]) == 2
    assert "--tasks: 'put_onn' is not known. Did you mean 'put_on'?" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stvla_ros.data.st_human.synthetic.kinds.X_M", (0.40, 0.42))
    monkeypatch.setattr("stvla_ros.data.st_human.synthetic.kinds.Y_M", (-0.01, 0.01))
    fault = r"^take_out 0: 60 scenes drawn, none fits: no place for something of"
    with pytest.raises(NotShownError, match=fault), played("take_out", 0, SMALL):
        pass


def test_two_processes_may_draw_the_same_video(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker whose command was killed goes on while the next command begins: whoever ends first has made the video."""
    draw, begun = Stage.photo, []

    def photo(stage: Stage, stamp_ns: int) -> Any:
        if not begun:
            begun.append(True)
            make_video("put_on", 2, SMALL, tmp_path / "video")
        return draw(stage, stamp_ns)

    monkeypatch.setattr(Stage, "photo", photo)
    make_video("put_on", 2, SMALL, tmp_path / "video")
    assert digest(tmp_path / "video") == digest(folder)
    assert list(tmp_path.iterdir()) == [tmp_path / "video"]
