"""Videos of hands to ``info.json``: a clip with known truth through all stages, and folders that are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from data.st_human.clips import Clip, make_clip
from scipy.spatial.transform import Rotation

from stvla_ros.data.st_human.info import VideoInfo
from stvla_ros.data.st_human.info_json import read_info
from stvla_ros.data.st_human.plain import FormatError
from stvla_ros.data.st_human.process.episode import _acted, _taken_apart, _through, _touched, _turned, _World
from stvla_ros.data.st_human.process.folder import HumanVideo, Told, ToldObject, find_videos, open_video
from stvla_ros.data.st_human.process.grasp import (
    INDEX_M,
    SIDE_M,
    Motion,
    _towards_index,
    arriving,
    fallen,
    grasp_point,
    is_ball,
    knob,
    let_go_before,
    make_motion,
    moved_box,
    settled,
)  # fmt: skip
from stvla_ros.data.st_human.process.hands import DepthHands
from stvla_ros.data.st_human.process.lift import FLESH_M
from stvla_ros.data.st_human.process.scene import (
    Thing,
    _colour_costs,
    _hollow,
    _joined,
    _main_colours,
    _named,
    _Region,
    _with_outline,
    _without_strays,
    backproject,
    box_of,
    to_workspace,
)  # fmt: skip
from stvla_ros.data.st_human.process.segments import Segment, find_segments
from stvla_ros.data.st_human.process.supervision import annotated_samples
from stvla_ros.data.st_human.process.track import (
    Change,
    Surface,
    Track,
    _register_all,
    find_change,
    moments,
    register,
    turning,
)
from stvla_ros.data.st_human.process.video import ProcessSettings, process_video
from stvla_ros.data.st_human.process.words import Seen, fill
from stvla_ros.data.st_human.samples import by_task
from stvla_ros.data.st_human.samples_json import read_samples, write_samples
from stvla_ros.files import read_json, write_image
from stvla_ros.geometry.se3 import inverse, pose
from stvla_ros.tabletop.relations import OrientedBox, SpatialRelation, find_relations
from stvla_ros.tabletop.surface_colours import colour_costs, robust_mean
from stvla_ros.types import F64, U8, Camera

TOLD = {
    "id": "clip", "task": 4, "template": "put_on",
    "objects": [{"name": "red block"}, {"name": "blue block"}, {"name": "plate", "colour": "white", "roles": ["support"]}],
}  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    made = make_clip(tmp_path_factory.mktemp("videos") / "clip", told=TOLD)
    (made.folder / "truth.json").write_text("never read")
    return made


@pytest.fixture(scope="module")
def result(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "clip"
    process_video(clip.folder, folder, ProcessSettings())
    return folder


@pytest.fixture(scope="module")
def info(result: Path) -> VideoInfo:
    return read_info(result / "info.json")


def test_segment_contact_and_release(clip: Clip, info: VideoInfo) -> None:
    (action,) = info.actions
    assert abs(action.start_frame - clip.start) <= 3
    assert abs(action.end_frame - clip.end) <= 3
    assert abs(action.contact_frame - clip.contact) <= 3
    assert abs(action.release_frame - clip.release) <= 3
    assert action.clean_frame < clip.start
    assert action.after_frame > clip.end


def test_words_and_relations(info: VideoInfo, result: Path) -> None:
    (action,) = info.actions
    assert action.sentence == "Put the red block on the plate."
    assert sorted(info.names.values()) == ["blue block", "plate", "red block"]
    said = {(r.subject, r.predicate, *r.objects) for r in action.relations.after}
    assert ("red_block", "on", "plate") in said
    assert ("red_block", "on", "plate") not in {(r.subject, r.predicate, *r.objects) for r in action.relations.before}
    (judged,) = read_json(result / "quality.json")["episodes"]
    assert judged["route"] == "audit", judged


def test_the_held_path_is_that_of_the_block(clip: Clip, info: VideoInfo) -> None:
    (action,) = info.actions
    T = clip.camera.T_base_camera
    held = [w for w in action.trajectory if clip.contact <= w.frame <= clip.release]
    off = [(T @ np.append(w.xyz_m, 1.0))[:3] - clip.block_m[w.frame] for w in held]
    assert len(held) > 0.9 * (clip.release - clip.contact)
    assert np.sqrt((np.square(off).sum(axis=1)).mean()) < 0.012
    assert all(w.gripper == 1 for w in action.trajectory if action.contact_frame <= w.frame <= action.release_frame)


def test_samples_of_all_dimensions(result: Path) -> None:
    groups = by_task(read_samples(result / "samples.json"))
    assert set(groups) >= {"pointing", "trajectory", "depth", "next_action", "previous_action", "progress"}
    assert len(groups["trajectory"]) == 4
    assert groups["next_action"][0].answer == "Put the red block on the plate."
    assert [s.objects.finished for s in groups["progress"]] == [False, True]
    for sample in (s for group in groups.values() for s in group):
        assert sample.turns()


def test_samples_of_corrected_annotations(info: VideoInfo, result: Path, tmp_path: Path) -> None:
    """Images of several videos lie side by side, excluded ones are left out."""
    infos = [info, replace(info, actions=(), excluded="no consent")]
    samples = annotated_samples(infos, result.parent, tmp_path)
    write_samples(tmp_path / "samples.json", samples)
    assert [s.id for s in samples] == [s.id for s in read_samples(result / "samples.json")]
    read = read_samples(tmp_path / "samples.json")
    assert read[0].images[0].startswith("images/clip-")
    assert all(sample.turns() for sample in read)
    with pytest.raises(FormatError, match="wanted the images of the video 'clip'"):
        annotated_samples(infos, tmp_path / "images", tmp_path)


def test_only_what_changed_is_run_again(clip: Clip, result: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(result, folder, symlinks=True)
    assert set(process_video(clip.folder, folder, ProcessSettings()).seconds) == {"read and check"}
    (folder / "info.json").unlink()
    assert set(process_video(clip.folder, folder, ProcessSettings()).seconds) == {"read and check", "assemble"}
    other = process_video(clip.folder, folder, ProcessSettings(template="pour"))
    assert set(other.seconds) == {"read and check", "assemble", "samples"}
    assert other.accepted == 0  # nobody said what is poured
    (judged,) = read_json(folder / "quality.json")["episodes"]
    assert any("'pour' has slots that are not seen" in reason for reason in judged["reasons"])


def test_a_hand_that_ends_elsewhere_than_the_thing_goes_to_a_person(clip: Clip, result: Path, tmp_path: Path) -> None:
    folder = tmp_path / "drifted"
    shutil.copytree(result, folder, symlinks=True)
    arrays = dict(np.load(folder / "track-00.npz"))
    arrays["T_ref"][int(arrays["reference"]) :, 2, 3] += 0.025
    np.savez_compressed(folder / "track-00.npz", **arrays)
    (folder / "info.json").unlink()
    report = process_video(clip.folder, folder, ProcessSettings(samples=False))
    assert set(report.seconds) == {"read and check", "assemble"}
    (judged,) = read_json(folder / "quality.json")["episodes"]
    assert judged["route"] == "person", judged
    assert any("hand and scene disagree about the new place by 2" in reason for reason in judged["reasons"])


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder of three small frames that opens."""
    for i in range(3):
        (tmp_path / "rgb").mkdir(exist_ok=True)
        (tmp_path / "depth").mkdir(exist_ok=True)
        write_image(tmp_path / "rgb" / f"{i:06d}.png", np.zeros((24, 32, 3), np.uint8))
        write_depth(tmp_path, i, np.full((24, 32), 900, np.uint16))
    camera = {"fx": 30.0, "fy": 30.0, "cx": 15.5, "cy": 11.5, "width_px": 32, "height_px": 24, "fps": 30}
    (tmp_path / "camera.json").write_text(json.dumps(camera))
    return tmp_path


def write_depth(folder: Path, frame: int, depth: np.ndarray) -> None:
    assert cv2.imwrite(str(folder / "depth" / f"{frame:06d}.png"), depth)


def change_camera(folder: Path, **changes: object) -> None:
    path = folder / "camera.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_right_folder_opens(tiny: Path) -> None:
    video = open_video(tiny)
    assert video.frames == 3
    assert video.depth_m(2)[0, 0] == pytest.approx(0.9)
    assert find_videos(tiny) == [tiny]


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing frame": (lambda f: (f / "depth" / "000001.png").unlink(), "depth/000001.png: frame 1 of 0 to 2 is missing"),
    "missing colour": (lambda f: (f / "rgb" / "000002.png").unlink(), "rgb/000002.png: frame 2 of 0 to 2 is missing"),
    "metres": (
        lambda f: write_depth(f, 0, np.ones((24, 32), np.uint16)),
        "depth/000000.png: wanted millimetres, .* found a median of 1: these look like metres, multiply by 1000",
    ),
    "tenths": (
        lambda f: write_depth(f, 0, np.full((24, 32), 9000, np.uint16)),
        "these look like tenths of a millimetre, multiply by 0.1",
    ),
    "8 bits": (
        lambda f: write_depth(f, 0, np.full((24, 32), 90, np.uint8)), "depth/000000.png: wanted one channel of 16 bits",
    ),
    "no depth": (
        lambda f: write_depth(f, 0, np.where(np.arange(32) < 2, 900, 0).astype(np.uint16).repeat(24).reshape(32, 24).T),
        "wanted depth in at least 20 % of the pixels, found it in 6 %",
    ),
    "size": (lambda f: change_camera(f, width_px=64), "rgb/000000.png: wanted 64x24 pixels as camera.json says"),
    "unknown key": (lambda f: change_camera(f, fz=1), "camera.json: unknown key 'fz'"),
    "pose in mm": (
        lambda f: change_camera(f, T_base_camera=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 700], [0, 0, 0, 1]]),
        "camera.json: T_base_camera: wanted metres, .* divide by 1000",
    ),
    "template": (
        lambda f: (f / "video.json").write_text('{"template": "put_onto"}'), "video.json: no template 'put_onto'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_folders_are_refused_by_the_files_name(tiny: Path, name: str) -> None:
    damage, said = WRONG[name]
    damage(tiny)
    with pytest.raises(FormatError, match=said) as error:
        open_video(tiny)
    assert str(tiny) in str(error.value)


def test_a_hand_reaches_in_from_the_border() -> None:
    background = np.full((120, 160), 1.0, np.float32)
    hands, thing, arm = DepthHands(), background.copy(), background.copy()
    thing[50:70, 60:80] = 0.9
    assert hands.find(thing, background) is None
    arm[50:70, 60:] = 0.8
    seen = hands.find(arm, background)
    assert seen is not None
    assert seen.tip_px[0] < 66
    assert 50 <= seen.tip_px[1] < 70
    assert seen.mask.sum() == pytest.approx(20 * 100, rel=0.05)


def test_segments_need_hand_free_frames_on_both_sides() -> None:
    seen = np.zeros(80, bool)
    seen[10:30] = True
    seen[20] = False  # lost for one frame
    seen[45:48] = True  # too short for a hand
    seen[60:] = True
    segments, notes = find_segments(seen)
    assert [(s.start, s.end) for s in segments] == [(10, 29)]
    assert segments[0].before == (4, 5, 6, 7, 8)
    assert segments[0].after == (31, 32, 33, 34, 35)
    assert notes == ["Frames 60 to 79: no hand-free frame after them, so this is no complete action."]


@pytest.mark.parametrize("angle_deg", [5.0, 10.0, 15.0])
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 0, 1), (2, -1, 2)])
def test_registration_finds_a_motion_despite_points_of_another_thing(
    angle_deg: float, axis: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(0)
    half = np.array([0.05, 0.03, 0.02])
    cloud = rng.uniform(-1.0, 1.0, (3000, 3)) * half
    side = rng.integers(3, size=len(cloud))
    cloud[np.arange(len(cloud)), side] = half[side]  # three faces of a box
    turn = Rotation.from_rotvec(np.radians(angle_deg) * np.array(axis) / np.linalg.norm(axis))
    T = pose(turn.as_matrix(), [0.006, -0.004, 0.003])
    other = rng.uniform(0.2, 0.25, (60, 3))
    source = np.vstack([cloud[:500] @ T[:3, :3].T + T[:3, 3] + rng.normal(0, 0.0005, (500, 3)), other])
    found, rms = register(source, Surface.of(cloud[500:]), np.eye(4))
    rest = found @ T
    assert np.degrees(Rotation.from_matrix(rest[:3, :3]).magnitude()) < 1.0
    assert np.linalg.norm(rest[:3, 3]) < 0.001
    assert rms < 0.003


def test_registration_does_not_slide_along_a_single_face() -> None:
    rng = np.random.default_rng(0)
    face = rng.uniform(-0.05, 0.05, (1000, 3)) * [1.0, 1.0, 0.0]
    found, _ = register(face[:400] + np.array([0.0, 0.0, 0.004]), Surface.of(face[400:]), np.eye(4))
    assert found[2, 3] == pytest.approx(-0.004, abs=0.0002)
    assert np.linalg.norm(found[:2, 3]) < 0.002


def no_fingers(n: int) -> F64:
    return np.full((n, 2, 3), np.nan)


def test_a_contact_that_only_a_wrong_measurement_shows_is_none() -> None:
    """The hand is registered wrongly in one frame, lower than ever after, and next in view twelve frames later."""
    n, wrong, again, moving, arrived = 70, 10, 22, 40, 60
    T = np.full((n, 4, 4), np.nan)
    T[again:] = np.eye(4)
    T[again:, 0, 3] = np.interp(np.arange(again, n), [moving - 2, arrived], [0.0, 0.2])
    T[wrong] = pose(np.eye(3), [-0.3, 0.2, -0.1])
    left, missing = (np.arange(n) > moving).astype(float), (np.arange(n) < arrived).astype(float)
    tip = T[:, :3, 3] + [0.5, 0.0, 0.05]
    track = Track(T, np.full(n, 0.001), tip, np.tile([0.0, 1.0, 0.0], (n, 1)), left, missing, 50, no_fingers(n))
    box = OrientedBox(pose(np.eye(3), [0.5, 0.0, 0.02]), np.array([0.04, 0.04, 0.04]), False)
    segment = Segment(0, n - 1, (0,), (n,))
    assert make_motion(track, segment, box, 30.0, True) is None
    T[wrong] = np.nan
    found = make_motion(track, segment, box, 30.0, True)
    assert found is not None
    assert np.isfinite(found.xyz_m[[found.contact, found.release]]).all()
    assert moving - 3 <= found.contact <= moving


def test_one_wrong_registration_is_no_standstill() -> None:
    """A single frame that is registered 10 mm too low, while the hand closes."""
    n, moving, arrived = 70, 40, 60
    point = np.tile([0.5, 0.0, 0.05], (n, 1))
    point[:25, 2] += np.linspace(0.2, 0.0, 25)
    point[:, 0] += np.interp(np.arange(n), [moving - 2, arrived], [0.0, 0.2])
    point[29] += [0.0, 0.01, -0.01]
    left, missing = (np.arange(n) > moving).astype(float), (np.arange(n) < arrived).astype(float)
    eye, zeros = np.tile(np.eye(4), (n, 1, 1)), np.zeros(n)
    found = moments(Track(eye, zeros, point, point, left, missing, 50, no_fingers(len(eye))), point)
    assert found is not None
    assert moving - 3 <= found[0] <= moving


def box_at(x: float, y: float, size_m: tuple[float, float, float], container: bool = False) -> OrientedBox:
    return OrientedBox(pose(np.eye(3), [x, y, size_m[2] / 2]), np.array(size_m), container)


def standing(n: int, turn_deg: np.ndarray) -> Track:
    """A hand that comes down on a place from 0.2 m above, stands, turns about up by these angles, and leaves."""
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, :3, :3] = Rotation.from_euler("z", turn_deg[:, None], degrees=True).as_matrix()
    frames = np.arange(n)
    T[:, 2, 3] = 0.2 * np.maximum(np.clip((20 - frames) / 15, 0.0, 1.0), np.clip((frames - (n - 20)) / 15, 0.0, 1.0))
    T[:3] = np.nan  # the hand comes in: not registered yet
    tip = np.array([0.0, 0.0, 0.05]) + np.stack([np.zeros(n), np.zeros(n), np.nan_to_num(T[:, 2, 3])], axis=1)
    zeros = np.zeros(n)
    return Track(T, np.full(n, 0.001), tip, np.tile([0.0, 0.5, -0.8], (n, 1)), zeros, zeros, n // 2, no_fingers(n))


def test_a_touch_is_found_though_the_hand_is_unknown_at_first() -> None:
    track, box = standing(60, np.zeros(60)), box_at(0.0, 0.0, (0.08, 0.08, 0.05))
    found = make_motion(track, Segment(0, 59, (0,), (60,)), box, 30.0, False, template="press")
    assert found is not None
    assert abs(found.contact - 20) <= 2
    assert abs(found.release - 40) <= 2
    np.testing.assert_allclose(found.xyz_m[30], [0.0, 0.0, 0.05], atol=0.002)


def test_a_turn_lasts_while_the_hand_turns() -> None:
    turn = np.interp(np.arange(80), [30, 50], [0.0, 50.0])
    box = box_at(0.0, 0.0, (0.06, 0.06, 0.04))
    found = make_motion(standing(80, turn), Segment(0, 79, (0,), (80,)), box, 30.0, False, template="turn")
    assert found is not None
    assert abs(found.contact - 30) <= 1
    assert abs(found.release - 50) <= 1
    assert found.width_m[40] == pytest.approx(0.06)


def test_the_touched_thing_is_at_the_hands_end_not_under_the_arm() -> None:
    under, touched = (Thing(name, name, "can", "white", (), box_at(x, 0.0, (0.07, 0.07, 0.12)), k)
                      for k, (name, x) in enumerate((("under", 0.0), ("touched", -0.3)), 1))  # fmt: skip
    world = _World({1: under, 2: touched}, np.zeros((1, 1), np.int32))
    arm = np.linspace([0.2, 0.0, 0.125], [-0.3, 0.0, 0.135], 200)
    assert _touched(world, arm, np.array([-0.28, 0.0, 0.14])) == 2


def test_fingers_take_a_thing_at_their_height() -> None:
    box, tip = box_at(0.0, 0.0, (0.06, 0.06, 0.12)), np.array([0.0, 0.0, 0.1])
    above = np.full((30, 3), [0.0, 0.03, 0.125])
    beside = np.full((30, 3), [0.0, 0.04, 0.07])
    beside[:12, 2] = 0.02  # the little finger
    assert grasp_point(box, tip, np.zeros((0, 3)))[2] == pytest.approx(0.095)
    assert grasp_point(box, tip, above)[2] == pytest.approx(0.095)
    assert grasp_point(box, tip, beside)[2] == pytest.approx(0.07 - SIDE_M)


def test_a_hand_from_the_side_may_take_a_thing_just_below_its_top() -> None:
    box, tip = box_at(0.0, 0.0, (0.07, 0.07, 0.1)), np.array([0.0, 0.0, 0.1])
    beside = np.column_stack([np.zeros(40), np.full(40, 0.04), np.linspace(0.084, 0.098, 40)])
    assert grasp_point(box, tip, beside)[2] == pytest.approx(0.0945 - SIDE_M, abs=1e-3)


def test_a_ball_is_taken_in_its_middle() -> None:
    normals = np.random.default_rng(0).normal(size=(5000, 3))
    ball = box_at(0.0, 0.0, (0.08, 0.08, 0.08))
    points = ball.center_m + 0.04 * normals / np.linalg.norm(normals, axis=1, keepdims=True)
    assert is_ball(ball, points)
    assert grasp_point(ball, np.array([0.0, 0.0, 0.1]), np.zeros((0, 3)), ball=True)[2] == pytest.approx(0.04)
    block = np.random.default_rng(0).uniform(-0.04, 0.04, (5000, 3)) + ball.center_m
    assert not is_ball(ball, block)
    bottle = box_at(0.0, 0.0, (0.06, 0.06, 0.2))
    assert not is_ball(bottle, bottle.center_m + points - ball.center_m)


def test_a_lid_is_taken_by_the_knob_above_it() -> None:
    lid, tip = box_at(0.0, 0.0, (0.15, 0.15, 0.01)), np.array([0.03, 0.0, 0.05])
    fingers = np.random.default_rng(0).uniform([-0.02, -0.02, 0.03], [0.02, 0.02, 0.045], (200, 3))
    np.testing.assert_allclose(grasp_point(lid, tip, fingers), [0.0, 0.0, 0.0315], atol=1e-3)


def test_a_finger_points_with_its_lowest_end() -> None:
    """Its joint is behind the skin that is seen, and the thing hides the end of what pushes it from behind."""
    box, tip = box_at(0.0, 0.0, (0.06, 0.06, 0.04)), np.array([0.1, 0.0, 0.1])
    finger = np.linspace([0.05, 0.02, 0.05], [0.1, 0.02, 0.12], 200)
    end = finger[:12].mean(axis=0)
    np.testing.assert_allclose(grasp_point(box, tip, finger, "press"), end, atol=1e-3)
    above = grasp_point(box, tip, finger, "touch", end + np.array([0.0, 0.0, 0.5]))
    np.testing.assert_allclose(above, end - [0.0, 0.0, FLESH_M], atol=1e-3)
    assert grasp_point(box, tip, finger, "slide")[2] == pytest.approx(0.02)


def test_the_end_of_a_finger_that_touches_a_top_is_on_it() -> None:
    """It is nearer to the top than noise, so that it is no part of the hand's mask: the finger leads there."""
    box, tip = box_at(0.0, 0.0, (0.06, 0.06, 0.04)), np.array([0.1, 0.0, 0.1])
    finger = np.linspace([0.01, 0.02, 0.055], [0.06, 0.02, 0.155], 200)
    for template in ("press", "touch"):
        x, y, z = grasp_point(box, tip, finger, template)
        assert z == pytest.approx(0.04 + FLESH_M)
        assert (x, y) == pytest.approx((0.01 + (z - 0.055) / 2, 0.02), abs=5e-4)
    beside = finger + np.array([0.05, 0.0, 0.0])
    assert grasp_point(box, tip, beside, "touch")[2] == pytest.approx(beside[:12, 2].mean(), abs=1e-3)


def test_thumb_and_index_finger_meet_beside_the_middle() -> None:
    """Index and middle finger together oppose the thumb: of a right hand that comes from the front, left of the middle."""
    arm = np.array([0.0, 0.6, -0.8])
    np.testing.assert_allclose(_towards_index(arm, "right"), [-INDEX_M, 0.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(_towards_index(arm, "left"), [INDEX_M, 0.0, 0.0], atol=1e-9)
    for unknown in (np.array([0.0, 0.0, -1.0]), np.full(3, np.nan)):
        np.testing.assert_array_equal(_towards_index(unknown, "right"), np.zeros(3))


def disc(radius_m: float, z_m: float, inner_m: float = 0.0) -> F64:
    """Points of a flat ring, 1 mm apart."""
    xy = np.mgrid[-100:101, -100:101].reshape(2, -1).T / 1000.0
    far = np.hypot(*xy.T)
    xy = xy[(far <= radius_m) & (far >= inner_m)]
    return np.column_stack([xy, np.full(len(xy), z_m)])


def front(radius_m: float, low_m: float, high_m: float) -> F64:
    """Points of the front half of an upright cylinder."""
    angle, z = np.meshgrid(np.linspace(-np.pi, 0.0, 60), np.arange(low_m, high_m, 0.001))
    return np.column_stack([radius_m * np.cos(angle).ravel(), radius_m * np.sin(angle).ravel(), z.ravel()])


def test_a_tall_thing_is_hollow_only_if_its_rim_is_empty() -> None:
    """Of both, the middle of what is seen is the front, lower than the top."""
    assert not _hollow(np.vstack([disc(0.034, 0.11), front(0.034, 0.0, 0.11)]))
    back = front(0.033, 0.03, 0.11) * [1.0, -1.0, 1.0]
    assert _hollow(np.vstack([disc(0.036, 0.11, 0.033), front(0.036, 0.0, 0.11), back]))


def test_a_lid_with_a_knob_is_taken_by_that() -> None:
    lid = box_at(0.0, 0.0, (0.15, 0.15, 0.04))
    points = np.vstack([disc(0.075, 0.006), disc(0.015, 0.04), front(0.015, 0.006, 0.04)])
    top = knob(lid, points)
    assert top is not None
    np.testing.assert_allclose(top, [0.0, 0.0, 0.02], atol=2e-3)  # more of its front is seen
    taken = grasp_point(lid, np.array([0.05, 0.04, 0.06]), np.zeros((0, 3)), knob_m=top)
    np.testing.assert_allclose(taken, [0.0, 0.0, 0.03], atol=2e-3)
    assert knob(lid, np.vstack([disc(0.075, 0.04), front(0.075, 0.0, 0.04)])) is None


def test_a_flat_lid_was_moved_if_its_knob_is_gone() -> None:
    """The change of depth at its flat part is noise."""
    lid = Thing("lid", "lid", "lid", "white", (), box_at(0.0, 0.0, (0.15, 0.15, 0.04)), 1)
    labels, height, gone = np.ones((40, 40), np.int32), np.full((40, 40), 0.006), np.zeros((40, 40), bool)
    height[18:24, 18:24], gone[18:24, 18:24] = 0.04, True
    still = np.ones((40, 40), np.float32)
    change = Change(still, still, gone, np.zeros_like(gone))
    assert _acted(_World({1: lid}, labels), change, height.ravel()) == (1, 1.0)
    height[:] = 0.04
    assert _acted(_World({1: lid}, labels), change, height.ravel())[0] is None


def test_a_round_thing_on_its_side_lies_flat() -> None:
    can = box_at(0.0, 0.0, (0.066, 0.068, 0.11))
    for roll in (0.0, 30.0, 45.0, 100.0):
        T = pose(Rotation.from_euler("zxz", [20.0, 86.0, roll], degrees=True).as_matrix(), np.array([0.2, 0.1, 0.053]))
        box = moved_box(can, T @ inverse(can.T_workspace_box))
        assert np.ptp(box.corners_m[:, 2]) == pytest.approx(0.067, abs=0.0011)
        np.testing.assert_allclose(box.center_m, [0.2, 0.1, 0.053], atol=1e-9)
        np.testing.assert_allclose(box.T_workspace_box[:3, :3] @ box.T_workspace_box[:3, :3].T, np.eye(3), atol=1e-9)
        assert np.linalg.det(box.T_workspace_box[:3, :3]) == pytest.approx(1.0)
        assert [r.predicate for r in find_relations({"can": box})] == ["on_its_side"]
    leaning = pose(Rotation.from_euler("x", 50, degrees=True).as_matrix(), np.zeros(3))
    assert moved_box(can, leaning).T_workspace_box[2, 2] == pytest.approx(np.cos(np.radians(50)))


def test_what_came_nowhere_near_is_no_agreement() -> None:
    """Registering has no pairs: the motion is the hand's, and nothing speaks for it."""
    points = np.random.default_rng(0).uniform(0.0, 0.05, (400, 3))
    T = pose(np.eye(3), np.array([0.3, 0.0, 0.2]))
    moved, off = settled(points, points, T)
    assert (off, moved.tolist()) == (np.inf, T.tolist())
    there, off = settled(points, points + np.array([0.305, 0.0, 0.2]), T)
    assert off == pytest.approx(0.005, abs=2e-3)
    assert there[0, 3] == pytest.approx(0.305, abs=2e-3)


def test_the_held_path_ends_where_the_thing_was_put() -> None:
    n, first, last = 30, 5, 25
    xyz = np.column_stack([np.interp(np.arange(n), [first, last], [0.0, 0.2]), np.zeros(n), np.full(n, 0.05)])
    drift = np.interp(np.arange(n), [first, last], [0.0, 0.02])
    motion = Motion(first, last, xyz + drift[:, None] * [0.0, 1.0, 0.0], np.full(n, 0.003), np.ones(n, bool),
                    np.tile(np.eye(3), (n, 1, 1)), np.zeros(n), True, np.eye(4))  # fmt: skip
    put = pose(np.eye(3), np.array([0.2, 0.0, 0.0]))
    np.testing.assert_allclose(arriving(motion, put).xyz_m, xyz, atol=1e-9)


def test_a_thing_that_is_let_go_above_a_bin_is_found_in_it() -> None:
    released = box_at(0.3, 0.0, (0.06, 0.08, 0.06))
    released.T_workspace_box[2, 3] = 0.2
    rng = np.random.default_rng(0)
    lying = rng.uniform([0.28, -0.04, 0.0], [0.34, 0.04, 0.06], (400, 3))
    assert fallen(released, lying)[:3, 3] == pytest.approx([0.0, 0.0, -0.17], abs=0.01)
    assert fallen(released, lying + np.array([1.0, 0.0, 0.0])) == pytest.approx(np.eye(4))


def test_a_hand_lets_go_before_the_thing_has_fallen() -> None:
    """By the time of the fall, 4 frames for 0.2 m, but no earlier than it came there."""
    xyz = np.column_stack([np.minimum(np.arange(30), 20) * 0.02, np.zeros(30), np.zeros(30)])
    motion = Motion(2, 26, xyz, np.full(30, 0.003), np.ones(30, bool), np.tile(np.eye(3), (30, 1, 1)), np.zeros(30),
                    True, np.eye(4))  # fmt: skip
    assert let_go_before(motion, 0.2, 20.0).release == 22
    assert let_go_before(motion, 2.0, 20.0).release == 20
    assert let_go_before(motion, 0.0, 20.0).release == 26


def test_a_part_of_a_thing_that_nobody_told_is_none_of_its_own() -> None:
    def thing(label: int, name: str, x: float) -> Thing:
        return Thing(name, name, name, "red", (), box_at(x, 0.0, (0.06, 0.06, 0.1)), label)

    things = {1: thing(1, "can", 0.0), 2: thing(2, "red block", 0.04), 3: thing(3, "red object", 0.2)}
    labels, kept = _without_strays(np.array([[0, 1, 2, 3]], np.int32), things, {"can"})
    assert set(kept) == {1, 3}
    assert labels.tolist() == [[0, 1, 1, 3]]
    assert set(_without_strays(labels, things, set())[1]) == {1, 2, 3}


def test_a_ball_whose_back_is_hidden_is_as_deep_as_wide() -> None:
    T = pose(Rotation.from_euler("x", -135, degrees=True).as_matrix(), np.array([0.0, -0.7, 0.75]))
    normals = np.random.default_rng(0).normal(size=(20000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = np.array([0.1, 0.2, 0.04]) + 0.04 * normals
    points = points[((points - T[:3, 3]) * normals).sum(axis=1) < 0.0]
    ball = _with_outline(box_of(points), points, T, 6000.0)
    np.testing.assert_allclose(ball.center_m, [0.1, 0.2, 0.04], atol=2e-3)
    np.testing.assert_allclose(ball.size_m, 0.08, atol=3e-3)


def test_fingers_before_others_are_part_of_the_hand() -> None:
    """Unknown depth at their outline does not cut them off."""
    background = np.full((120, 160), 1.0, np.float32)
    arm = background.copy()
    arm[50:70, 80:] = 0.8
    arm[56:62, 60:77] = 0.85
    arm[54:64, 77:80] = np.nan
    seen = DepthHands().find(arm, background)
    assert seen is not None
    assert seen.mask.sum() == pytest.approx(20 * 80 + 6 * 17, rel=0.05)
    assert not seen.mask[np.isnan(arm)].any()
    assert seen.tip_px[0] < 75
    assert seen.tip_depth_m == pytest.approx(0.85)
    arm[54:64, 65:80] = np.nan  # too far away
    seen = DepthHands().find(arm, background)
    assert seen is not None
    assert not seen.mask[:, :65].any()


def test_a_box_has_the_pixels_at_its_outline() -> None:
    """Seen from above and the front: one pixel to both sides, and the far edge of its top."""
    T = pose(Rotation.from_euler("x", -135, degrees=True).as_matrix(), np.array([0.0, -0.7, 0.75]))
    inner = np.mgrid[-28:29, -28:29].reshape(2, -1).T / 1000.0
    points = np.column_stack([inner, np.full(len(inner), 0.05)])
    box = _with_outline(
        OrientedBox(pose(np.eye(3), [0.0, 0.0, 0.025]), np.array([0.057, 0.057, 0.05])), points, T, 600.0
    )
    pixel = 0.7 * np.sqrt(2) / 600.0
    np.testing.assert_allclose(box.size_m, [0.057 + 2 * pixel, 0.057 + pixel * np.sqrt(2), 0.05], atol=1e-5)
    np.testing.assert_allclose(box.center_m, [0.0, pixel / np.sqrt(2), 0.025], atol=1e-5)


def test_what_comes_back_was_moved() -> None:
    still = np.full((60, 80), 1.0, np.float32)
    vacated = np.zeros(still.shape, bool)
    assert not find_change(still, still, vacated).gone.any()
    vacated[20:30, 40:50] = True
    vacated[5, 5] = True  # noise
    change = find_change(still, still, vacated)
    assert change.gone.sum() == change.came.sum() == 100


def region(size_m: tuple[float, float, float], rgb: tuple[float, float, float] = (0.9, 0.9, 0.9), fill: float = 0.79,
           hollow: bool = False, x: float = 0.0) -> _Region:  # fmt: skip
    return _Region(box_at(x, 0.0, size_m, hollow), ((np.array(rgb), 1.0),), fill)


def named(found: dict[int, _Region], *names: str) -> list[str]:
    things = _named(found, Told(objects=tuple(ToldObject(name) for name in names)))
    return [things[label].name for label in found]


def test_things_of_one_colour_are_told_apart_by_their_usual_size() -> None:
    found = {1: region((0.07, 0.07, 0.11)), 2: region((0.16, 0.18, 0.02), fill=0.87)}
    for names in (("white can", "white book"), ("white book", "white can")):
        assert named(found, *names) == ["white can", "white book"]


def test_things_of_one_colour_and_size_are_told_apart_by_their_shape() -> None:
    """A cup is hollow, whether or not anything is put in; a box has corners."""
    size = (0.07, 0.07, 0.11)
    for order in (1, -1):
        found = {1: region(size, hollow=True), 2: region(size), 3: region(size, fill=0.97)}
        assert named(found, *["white cup", "white can", "white box"][::order]) == [
            "white cup",
            "white can",
            "white box",
        ]
    found = {1: region((0.045,) * 3, fill=0.97), 2: region((0.045,) * 3)}
    for names in (("white fruit", "white block"), ("white block", "white fruit")):
        assert named(found, *names) == ["white block", "white fruit"]


def test_a_bottle_is_narrower_at_its_top() -> None:
    """A low one and a high can of one colour are told apart by that."""
    found = {1: region((0.06, 0.06, 0.16)), 2: replace(region((0.07, 0.07, 0.12)), narrow=True)}
    for names in (("white can", "white bottle"), ("white bottle", "white can")):
        assert named(found, *names) == ["white can", "white bottle"]


def test_a_patterned_thing_is_known_by_one_of_its_colours() -> None:
    navy, white = np.array([0.1, 0.1, 0.35]), np.array([0.9, 0.9, 0.9])
    rgb = np.rint(255 * np.concatenate([np.tile(white, (500, 1)), np.tile(navy, (400, 1))])).astype(np.uint8)
    colours = _main_colours(rgb)
    assert min(np.abs(colour - navy).max() for colour, _ in colours) < 0.02
    assert _colour_costs(colours)["navy"] < colour_costs(robust_mean(rgb))["navy"] / 2


def test_parts_of_one_bowl_are_joined_until_the_told_number_is_left() -> None:
    """Its wall in front is lower, beside the rest, and of its colour but for the light."""
    bowl, wall = (
        region((0.15, 0.12, 0.065), (0.1, 0.1, 0.5), hollow=True),
        region((0.13, 0.04, 0.06), (0.05, 0.05, 0.25)),
    )
    wall.box.T_workspace_box[1, 3] = -0.075
    cup = region((0.07, 0.07, 0.1), (0.5, 0.1, 0.1), x=0.3)
    labels = np.array([[0, 1, 2, 3]], np.int32)
    found = {1: bowl, 2: wall, 3: cup}
    assert _joined(labels, found, lambda _: bowl, 2).tolist() == [[0, 1, 1, 3]]
    assert set(found) == {1, 3}
    for told in (0, 3):
        found = {1: bowl, 2: wall, 3: cup}
        assert _joined(labels, found, lambda _: bowl, told).tolist() == labels.tolist()
    found = {1: bowl, 2: replace(wall, colours=cup.colours), 3: cup}
    assert _joined(labels, found, lambda _: bowl, 2).tolist() == labels.tolist()


def test_halves_of_one_cup_are_joined() -> None:
    """Its wall in front and the one at the back are apart by what is dark between them."""
    back, front = (region(size, (0.6, 0.3, 0.1)) for size in ((0.075, 0.037, 0.1), (0.074, 0.026, 0.099)))
    front.box.T_workspace_box[1, 3] = -0.046
    can, labels = region((0.07, 0.07, 0.1), (0.6, 0.3, 0.1), x=0.12), np.array([[0, 1, 2, 3]], np.int32)
    found = {1: back, 2: front, 3: can}
    assert _joined(labels, found, lambda _: back, 2).tolist() in ([[0, 1, 1, 3]], [[0, 2, 2, 3]])


def test_a_lid_that_is_taken_off_was_a_thing_of_its_own() -> None:
    """Seen from above: a disc with a knob on a pot of its colour; then the pot's rim and what is in it."""
    K = np.array([[600.0, 0.0, 159.5], [0.0, 600.0, 119.5], [0.0, 0.0, 1.0]])
    T = pose(np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.0]))
    x, y = np.meshgrid((np.arange(320) - 159.5) / 600, (np.arange(240) - 119.5) / 600)
    r = np.hypot(x, y)
    height = np.where(r < 0.07, 0.08, 0.0) + np.where(r < 0.015, 0.03, 0.0)
    opened = np.where((r < 0.075) & (r > 0.06), 0.07, np.where(r < 0.06, 0.005, 0.0))
    height = np.where((r >= 0.07) & (r < 0.075), 0.07, height)
    pixels = np.flatnonzero(height > 0.01)
    before, after = ((1.0 - h).astype(np.float32) for h in (height, opened))
    camera = Camera(K, 320, 240, np.eye(4))
    told = Told(objects=(ToldObject("white pot", roles=("container",)), ToldObject("lid")))

    class Video(HumanVideo):
        def rgb(self, frame: int) -> U8:
            return np.full((240, 320, 3), 230, np.uint8)

    video = Video(Path(), 9, 20.0, camera, None, told)
    points = to_workspace(T, backproject(video, before))[pixels]
    pot = Thing("white_pot", "white pot", "pot", "white", ("container",), box_of(points), 1)
    labels = np.zeros((240, 320), np.int32)
    labels.ravel()[pixels] = 1
    change = find_change(before, after)
    world = _World({1: pot}, labels)
    label = _taken_apart(video, T, world, 1, change, Segment(2, 7, (1,), (8,)))
    lid, lower = world.things[label], world.things[1]
    assert (lid.name, lower.name) == ("lid", "white pot")
    assert lid.box.size_m[:2] == pytest.approx([0.13, 0.13], abs=0.012)
    assert lower.box.container
    assert ("lid", "on", ("white_pot",)) in {(r.subject, r.predicate, r.objects) for r in find_relations(world.boxes())}
    all_told = _World({1: pot}, labels)
    video = replace(video, told=Told(objects=told.objects[:1]))
    assert _taken_apart(video, T, all_told, 1, change, Segment(2, 7, (1,), (8,))) == 1


def _two_boxes(middle_m: tuple[float, float, float], points: int) -> tuple[F64, F64]:
    """(2 N, 3) points and normals of the skin of a hand of two boxes, the palm's middle at a place (3,), N points each."""
    rng = np.random.default_rng(0)
    parts = []
    for half, middle in (((0.05, 0.03, 0.04), middle_m), ((0.015, 0.02, 0.05), (0.04, 0.05, 0.03))):
        inside = rng.uniform(-1.0, 1.0, (points, 3)) * half
        side, sign = rng.integers(3, size=points), rng.choice([-1.0, 1.0], points)
        normal = np.zeros_like(inside)
        normal[np.arange(points), side] = sign
        parts.append((np.where(normal != 0.0, normal * half, inside) + middle, normal))
    cloud, normal = (np.concatenate(both) for both in zip(*parts, strict=True))
    return cloud, normal


def test_a_hand_that_turns_over_is_followed() -> None:
    """In the end little of what the reference shows is in view: the frames between tell the motion."""
    cloud, normal = _two_boxes((0.0, 0.0, 0.0), 3000)
    view = np.array([0.3, -0.6, 0.7])
    angles = np.linspace(0.0, 120.0, 31)
    turns = [Rotation.from_rotvec(np.radians(a) * np.array([0.8, 0.6, 0.0])).as_matrix() for a in angles]
    clouds = [(cloud @ R.T)[(normal @ R.T) @ view > 0.05] for R in turns]
    T, rms = _register_all(clouds, np.zeros((31, 3)), 0)
    off = Rotation.from_matrix(T[-1, :3, :3] @ turns[-1].T).magnitude()
    assert np.degrees(off) < 3.0
    assert rms.max() < 0.003


def test_a_hand_that_turns_on_the_spot_is_followed() -> None:
    """Sides come into view and go out of it; before and after the turn the hand moves as it was registered."""
    cloud, normal = _two_boxes((0.01, 0.0, 0.0), 4000)
    view, middle = np.array([0.3, -0.6, 0.7]), np.array([0.2, 0.1, 0.03])
    angles = np.interp(np.arange(30), [5, 20], [0.0, 50.0])
    turns = Rotation.from_euler("z", angles[:, None], degrees=True).as_matrix()
    clouds = [middle + (cloud @ R.T)[(normal @ R.T) @ view > 0.05] for R in turns]
    away = np.array([0.0, 0.0, 0.2])
    clouds[28:] = [points + away for points in clouds[28:]]
    T = np.tile(np.eye(4), (30, 1, 1))
    T[28:, :3, 3] = away
    zeros = np.zeros(30)
    track = Track(T, zeros, np.zeros((30, 3)), np.zeros((30, 3)), zeros, zeros, 3, no_fingers(30))
    turned, angle = turning(track, middle, lambda i: clouds[i])
    found = turned.T_ref
    assert np.degrees(angle) == pytest.approx(50.0, abs=2.0)
    off = Rotation.from_matrix(found[:, :3, :3] @ np.swapaxes(turns, 1, 2)).magnitude()
    assert np.degrees(off).max() < 2.0
    np.testing.assert_allclose(found[:28, :3, :3] @ middle + found[:28, :3, 3], np.tile(middle, (28, 1)), atol=1e-6)
    np.testing.assert_allclose(found[29, :3, :3] @ middle + found[29, :3, 3], middle + away, atol=1e-6)
    dial, fruit = (
        Thing(
            name,
            name,
            name,
            "orange",
            (),
            replace(box_at(0.0, 0.0, (0.05, 0.05, 0.06)), T_workspace_box=pose(np.eye(3), at)),
            k,
        )
        for k, (name, at) in enumerate((("dial", middle), ("fruit", middle + np.array([0.0, 0.09, 0.0]))), 1)
    )
    track.tip_m[:] = middle + np.array([0.0, 0.045, 0.05])
    assert _turned(_World({1: dial, 2: fruit}, np.zeros((1, 1), np.int32)), 2, track, lambda i: clouds[i])[0] == 1


def seen_of(after: OrientedBox, relations_before: list, relations_after: list, given: dict) -> Seen:
    before = {"a": box_at(0.0, 0.0, (0.05, 0.05, 0.05)), "b": box_at(0.2, 0.0, (0.05, 0.05, 0.05))}
    return Seen(
        "a", {"a": "lid", "b": "pot"}, before, before | {"a": after}, relations_before, relations_after,
        np.zeros((2, 3)), 30.0, 0.0, [], given,
    )  # fmt: skip


def test_slots_that_people_gave_choose_the_form() -> None:
    still = box_at(0.0, 0.0, (0.05, 0.05, 0.05))
    assert fill("turn", seen_of(still, [], [], {})) == {"control": "a", "direction": "counter-clockwise"}
    given = fill("turn", seen_of(still, [], [], {"angle": 60}))
    assert given == {"control": "a", "direction": "counter-clockwise", "angle": 60}


def test_what_is_wiped_is_where_the_tool_is_most_of_the_time() -> None:
    """A longer way to it and back may have its mean at another thing."""
    seen = seen_of(box_at(0.0, 0.0, (0.05, 0.05, 0.05)), [], [], {})
    boxes = seen.before | {"c": box_at(0.8, 0.0, (0.05, 0.05, 0.05))}
    x = np.concatenate([np.full(50, 0.8), np.linspace(0.8, -1.5, 30)])
    path = np.column_stack([x, np.zeros(80), np.zeros(80)])
    wiping = replace(seen, names=seen.names | {"c": "board"}, before=boxes, after=boxes, held_m=path)
    assert fill("wipe", wiping) == {"target": "c", "tool": "a"}
    held = np.array([[0.0, 0.0, 0.0], [np.nan] * 3, [0.4, 0.0, 0.2]])
    np.testing.assert_allclose(_through(held)[1], [0.2, 0.0, 0.1])


def test_a_thing_is_pushed_to_what_is_ahead_of_it() -> None:
    near = [SpatialRelation("a", "near", ("b",), 2.0)]
    ahead = fill("slide", seen_of(box_at(0.12, 0.0, (0.05, 0.05, 0.05)), [], near, {}))
    beside = fill("slide", seen_of(box_at(0.1, 0.1, (0.05, 0.05, 0.05)), [], near, {}))
    assert ahead == {"verb": "push", "object": "a", "target": "b"}
    assert beside is not None
    assert "target" not in beside


def test_a_hand_behind_a_thing_pushes_it_and_one_before_it_pulls_it() -> None:
    """Towards the viewer, from behind the thing and from before it."""
    seen = seen_of(box_at(0.0, -0.1, (0.05, 0.05, 0.05)), [], [], {})
    for start, verb in ((0.03, "push"), (-0.03, "pull")):
        held = np.array([[0.0, start, 0.02], [0.0, start - 0.1, 0.02]])
        slots = fill("slide", replace(seen, held_m=held))
        assert slots is not None
        assert slots["verb"] == verb


def test_a_lid_opens_and_closes_what_it_is_on() -> None:
    on, still = [SpatialRelation("a", "on", ("b",), 2.0)], box_at(0.0, 0.0, (0.05, 0.05, 0.05))
    assert fill("set_state", seen_of(still, [], on, {})) == {"thing": "b", "state": "closed"}
    assert fill("set_state", seen_of(still, on, [], {})) == {"thing": "b", "state": "open"}
    assert fill("set_state", seen_of(still, [], [], {})) is None
