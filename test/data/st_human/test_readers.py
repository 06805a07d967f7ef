"""Readers of other data sets' layouts: the frames that were written come back, and what is wrong is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from data.st_human import layouts
from ray_caster import Scene, block, front_camera, look_at, plate

from stvla_ros import cli
from stvla_ros.data.st_human.info_json import plain_info, read_info
from stvla_ros.data.st_human.process.folder import VideoError, open_video
from stvla_ros.data.st_human.process.video import ProcessSettings, process_video
from stvla_ros.data.st_human.readers.images import FolderHints
from stvla_ros.data.st_human.readers.layouts import LOOKED_FOR, Readers
from stvla_ros.data.st_human.readers.source import VideoSource, import_video
from stvla_ros.data.st_human.synthetic.video import VideoSettings, make_video
from stvla_ros.files import read_json
from stvla_ros.types import RgbdFrame

W, H, FRAMES = 96, 72, 4


def scene() -> Scene:
    return Scene([block("red", 0.45, 0.12), block("blue", 0.55, -0.2), *plate(0.6, 0.1)])


@pytest.fixture(scope="module")
def frames() -> list[RgbdFrame]:
    """A still scene, depth in whole millimetres as far as the table, a hole, and one pixel that tells the frame."""
    frame, _ = scene().render(front_camera(W, H))
    depth = np.rint(frame.depth_m * 1000) / 1000
    depth[(depth > 3.0)] = np.nan
    depth[5:9, 7:15] = np.nan
    made = []
    for i in range(FRAMES):
        moved = depth.astype(np.float32).copy()
        moved[40, 40] = 0.5 + i / 100
        made.append(replace(frame, depth_m=moved, stamp_ns=i * 33_333_333))
    return made


def opened(path: Path, **hints: object) -> VideoSource:
    source = Readers(FolderHints(**hints)).open(path)  # type: ignore[arg-type]
    assert source is not None
    return source


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_frames_come_back(name: str, frames: list[RgbdFrame], tmp_path: Path) -> None:
    path = layouts.LAYOUTS[name](tmp_path, frames)
    readers = Readers()
    assert readers.layout(path) == name
    assert readers.find(tmp_path) == [path]
    source = opened(path)
    read = list(source.read())
    assert source.frames == len(read) == FRAMES
    for was, frame in zip(frames, read, strict=True):
        np.testing.assert_array_equal(np.isnan(frame.depth_m), np.isnan(was.depth_m))
        np.testing.assert_allclose(frame.depth_m, was.depth_m, atol=1e-6)
        np.testing.assert_allclose(frame.camera.K, was.camera.K)
        assert np.abs(frame.rgb.astype(int) - was.rgb).mean() < 6  # lossy colour
        assert abs(frame.rgb.astype(float) - was.rgb).mean() < abs(frame.rgb[..., ::-1].astype(float) - was.rgb).mean()
    if name in ("recording", "DexYCB", "H2O", "TACO"):
        np.testing.assert_allclose(read[0].camera.T_base_camera, frames[0].camera.T_base_camera, atol=1e-9)
    assert source.level == (name in ("recording", "DexYCB"))


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_an_import_is_a_folder_of_ours(name: str, frames: list[RgbdFrame], tmp_path: Path) -> None:
    import_video(opened(layouts.LAYOUTS[name](tmp_path / "set", frames)), tmp_path / "own")
    video = open_video(tmp_path / "own")
    assert video.frames == FRAMES
    assert video.fps == pytest.approx(15.0 if name == "HOI4D" else 30.0, abs=0.01)
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(video.depth_mm(i), layouts.raw(frame, 0.001))
    up = frames[0].camera.T_base_camera[2, :3] if name in ("recording", "DexYCB") else None
    assert (video.up is None) == (up is None)
    if up is not None:
        np.testing.assert_allclose(video.up, up, atol=1e-9)
    assert video.told.hand == ("left" if name == "DexYCB" else None)  # the others do not say


def test_images_that_hoi4ds_own_script_made(frames: list[RgbdFrame], tmp_path: Path) -> None:
    source = opened(layouts.hoi4d(tmp_path, frames, decoded=True))
    np.testing.assert_allclose(next(source.read()).depth_m, frames[0].depth_m, atol=1e-6)
    assert source.id == "ZY20210800004-H4-C8-N14-S71-s03-T2"


def test_ids_tell_the_videos_of_a_set_apart(frames: list[RgbdFrame], tmp_path: Path) -> None:
    said = {name: opened(layouts.LAYOUTS[name](tmp_path / name, frames)) for name in ("DexYCB", "H2O", "TACO")}
    assert said["DexYCB"].id == f"20200709-subject-01-20200709_141841-{layouts.SERIAL}"
    assert said["H2O"].id == "subject1-h1-0-cam0"
    assert said["TACO"].told.instruction == "Stir: spoon, bowl."


def test_any_folder_by_patterns_unit_rate_and_lens(frames: list[RgbdFrame], tmp_path: Path) -> None:
    for i, frame in enumerate(frames):
        layouts.write_color(tmp_path / "left" / f"img{i + 7}.png", frame)
        layouts.write_depth(tmp_path / "range" / f"z{i + 7}.png", layouts.raw(frame, 0.0001))
    K = frames[0].camera.K
    lens = f"{K[0, 0]!r},{K[1, 1]!r},{K[0, 2]!r},{K[1, 2]!r}".replace("np.float64(", "").replace(")", "")
    assert Readers().layout(tmp_path) is None
    source = opened(tmp_path, color="left/*", depth="range/*", depth_unit_m=0.0001, fps=10.0, intrinsics=lens)
    np.testing.assert_allclose(next(source.read()).depth_m, frames[0].depth_m, atol=1e-6)
    assert source.fps == 10.0
    import_video(source, tmp_path / "own")
    with pytest.raises(VideoError, match=r"these look like tenths of a millimetre, multiply by 0\.1"):
        import_video(opened(tmp_path, color="left/*", depth="range/*", fps=10.0, intrinsics=lens), tmp_path / "wrong")
    with pytest.raises(VideoError, match="wanted fps, frames per second: give it with --fps"):
        opened(tmp_path, color="left/*", depth="range/*", intrinsics=lens)


def test_what_is_no_video_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    with pytest.raises(VideoError, match="wanted an RGB-D video or a folder of them, found none") as error:
        Readers().find(tmp_path)
    assert all(name in str(error.value) for name in LOOKED_FOR)


def test_results_in_the_videos_folder_are_no_videos(frames: list[RgbdFrame], tmp_path: Path) -> None:
    path = layouts.open3d(tmp_path / "a", frames)
    import_video(opened(path), tmp_path / "out" / "a")
    assert Readers().find(tmp_path, tmp_path / "out") == [path]


def redraw(frames: list[RgbdFrame], unit_m: float) -> Callable[[Path], None]:
    """Depth of H2O in another unit."""

    def damage(folder: Path) -> None:
        for i, frame in enumerate(frames):
            layouts.write_depth(folder / "depth" / f"{i:06d}.png", layouts.raw(frame, unit_m))

    return damage


def rewrite(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def small_depth(folder: Path) -> None:
    layouts.write_depth(folder / "depth" / "000002.png", np.full((H // 2, W // 2), 900, np.uint16))


def taco_poses(folder: Path) -> Path:
    place = folder.parents[2] / "Egocentric_Camera_Parameters" / Path(*folder.parts[-2:])
    return place / "egocentric_frame_extrinsic.npy"


WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "metres": (
        "H2O", lambda f: redraw([RgbdFrame(np.zeros((H, W, 3), np.uint8), np.full((H, W), 0.9, np.float32),
                                           front_camera(W, H), 0)] * FRAMES, 1.0)(f),
        "wanted millimetres, .* found a median of 1: these look like metres, multiply by 1000",
    ),
    "millimetres as metres": (
        "recording",
        lambda f: [np.save(f / f"{i:06d}.npy", 1000 * np.load(f / f"{i:06d}.npy")) for i in range(FRAMES)],
        "wanted metres, with a median of 0.2 to 3 .*: these look like millimetres, multiply by 0.001",
    ),
    "size": ("H2O", small_depth, "000002.png: wanted depth with the 96x72 pixels of the colour image, found 48x36"),
    "missing depth": ("H2O", lambda f: (f / "depth/000001.png").unlink(), "depth: frame 1 of 0 to 3 is missing"),
    "depth ends early": (
        "H2O", lambda f: (f / "depth/000003.png").unlink(), "wanted depth images for 4 frames, found 3",
    ),
    "no depth": ("H2O", lambda f: shutil.rmtree(f / "depth"), "wanted depth images, found none"),
    "8 bits": (
        "H2O", lambda f: cv2.imwrite(str(f / "depth/000000.png"), np.zeros((H, W), np.uint8)), "wanted one channel of 16 bits",
    ),
    "poses": ("H2O", lambda f: (f / "cam_pose/000003.txt").unlink(), "wanted poses of the camera for 4 frames, found 3"),
    "pose in mm": (
        "H2O", rewrite("cam_pose/000000.txt", "1 0 0 700 0 1 0 0 0 0 1 0 0 0 0 1"),
        "frame 0: wanted the camera's pose in metres, found a camera 700 m away: .* divide by 1000",
    ),
    "mirrored axes": (
        "H2O", rewrite("cam_pose/000000.txt", "1 0 0 0 0 1 0 0 0 0 -1 0 0 0 0 1"), "frame 0: wanted a rigid transform",
    ),
    "intrinsics of another size": (
        "H2O", rewrite("cam_intrinsics.txt", "300 300 320 240 640 480"), "they are those of another size",
    ),
    "intrinsics in another order": (
        "H2O", rewrite("cam_intrinsics.txt", "640 480 300 300 320 240"), "wanted fx, fy, cx, cy, width, height",
    ),
    "too few intrinsics": ("H2O", rewrite("cam_intrinsics.txt", "300 300"), "6 finite numbers, found 2"),
    "frames of meta.yml": (
        "DexYCB",
        lambda f: (f.parent / "meta.yml").write_text((f.parent / "meta.yml").read_text().replace("num_frames: 4", "num_frames: 72")),
        r"wanted colour images \(meta.yml\) for 72 frames, found 4",
    ),
    "no calibration": (
        "DexYCB", lambda f: shutil.rmtree(f.parents[2] / "calibration"), "_640x480.yml: wanted intrinsics of DexYCB, found nothing",
    ),
    "no pose": (
        "DexYCB",
        lambda f: next((f.parents[2] / "calibration").glob("*/extrinsics.yml")).write_text("extrinsics: {}\n"),
        f"wanted the entry extrinsics.{layouts.SERIAL}, found none",
    ),
    "no lens": (
        "HOI4D", lambda f: shutil.rmtree(f.parents[7] / "camera_params"),
        "wanted camera_params/ZY20210800004/intrin.npy in a folder above it",
    ),
    "8-bit film": (
        "HOI4D",
        lambda f: layouts.write_film(f / "align_depth/depth_video.avi", [np.zeros((H, W, 3), np.uint8)] * FRAMES, 15, "gray", "ffv1"),
        r"wanted depth of 16 bits \(gray16le\), found gray:",
    ),
    "film's rate": (
        "HOI4D",
        lambda f: layouts.write_depth_film(f / "align_depth/depth_video.avi", [np.full((H, W), 900, np.uint16)] * FRAMES, 30),
        "wanted 15 images per second, found 30: make images .* with the set's own utils/decode.py",
    ),
    "damaged film": (
        "TACO", lambda f: (f / "color.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)) * 8),
        "color.mp4: wanted a film, found a damaged one",
    ),
    "no depth film": (
        "TACO",
        lambda f: shutil.rmtree(f.parents[2] / "Egocentric_Depth_Videos"),
        "egocentric_depth.avi: wanted a film, found nothing",
    ),
    "poses of TACO": (
        "TACO",
        lambda f: np.save(taco_poses(f), np.tile(np.eye(4), (3, 1, 1))),
        "wanted poses of the camera for 4 frames, found 3",
    ),
    "intrinsics.json": (
        "other folder", rewrite("camera_intrinsic.json", '{"fx": 1, "fps": 30}'), "wanted the entry fy, found none",
    ),
    "a pause": (
        "recording",
        lambda f: (f / "recording.json").write_text(
            json.dumps((index := json.loads((f / "recording.json").read_text()))
                       | {"frames": [e | {"stamp_ns": e["stamp_ns"] + 900_000_000 * (i > 1)} for i, e in enumerate(index["frames"])]})),
        "wanted frames every 0.033 s, found 0.933 s between frames 1 and 2: frames are missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_refused_by_name(name: str, frames: list[RgbdFrame], tmp_path: Path) -> None:
    layout, damage, said = WRONG[name]
    path = layouts.LAYOUTS[layout](tmp_path / "set", frames)
    damage(path)
    with pytest.raises(VideoError, match=said) as error:
        import_video(opened(path), tmp_path / "own")
    assert str(tmp_path / "set") in str(error.value)
    assert not (tmp_path / "own" / "camera.json").exists()


def test_a_moving_camera_is_drawn_from_its_first_pose(frames: list[RgbdFrame], tmp_path: Path) -> None:
    first = frames[0]
    moved = [
        scene().render(
            replace(first.camera, T_base_camera=look_at((1.2, 0.03 * i, 0.7 - 0.02 * i), (0.45, 0.0, 0.05)))
        )[0]
        for i in range(FRAMES)
    ]
    import_video(opened(layouts.taco(tmp_path / "set", moved)), tmp_path / "own")
    video = open_video(tmp_path / "own")
    still = video.depth_m(0)
    for i in range(1, FRAMES):
        off, unmoved = (np.abs(depth - still) for depth in (video.depth_m(i), moved[i].depth_m))
        assert np.isfinite(off).mean() > 0.75
        assert np.nanmedian(off) < 0.005  # a pixel on the table is 8 mm deep
        assert np.nanmedian(unmoved) > 0.008 * i


def test_a_camera_that_turns_away_is_refused(frames: list[RgbdFrame], tmp_path: Path) -> None:
    away = replace(frames[0], camera=replace(frames[0].camera, T_base_camera=look_at((1.2, 0, 0.7), (1.2, 0.8, 0.05))))
    path = layouts.hoi4d(tmp_path / "set", [*frames[:3], away])
    with pytest.raises(VideoError, match="frame 3: wanted a camera that sees what it saw in frame 0, found"):
        import_video(opened(path), tmp_path / "own")


def test_process_takes_any_layout(frames: list[RgbdFrame], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A still scene has no action; what matters is that workers open it."""
    layouts.h2o(tmp_path / "set", [*frames, *frames])
    command = [
        "human",
        "process",
        str(tmp_path / "set"),
        "--output",
        str(tmp_path / "out"),
        "--no-samples",
        "--jobs",
        "1",
    ]
    assert cli.main(command) == 0
    assert "1 of 1 videos, 0 actions" in capsys.readouterr().out
    info = read_info(tmp_path / "out" / "subject1" / "h1" / "0" / "cam0" / "info.json")
    assert (info.video.id, info.video.frames) == ("subject1-h1-0-cam0", 2 * FRAMES)


@pytest.mark.slow
def test_a_synthetic_video_as_h2o_gives_the_same_episode(tmp_path: Path) -> None:
    """``stvla human synthesise`` -> H2O's files -> the same actions as from our own folder; a second run does nothing."""
    own = tmp_path / "own"
    make_video("put_on", 2, VideoSettings(width_px=320, height_px=240, fps=30), own)
    (own / "video.json").write_text(json.dumps({"id": "video", "template": "put_on"}))
    video, camera = open_video(own), read_json(own / "camera.json")
    view = replace(video.camera, T_base_camera=np.array(camera["T_base_camera"]))
    made = [RgbdFrame(video.rgb(i), video.depth_m(i), view, 0) for i in range(video.frames)]
    path = layouts.h2o(tmp_path / "set", made)
    results = {}
    for name, source in (("own", own), ("h2o", path)):
        settings = ProcessSettings(template="put_on", samples=False)
        process_video(source, tmp_path / "results" / name, settings)
        results[name] = plain_info(read_info(tmp_path / "results" / name / "info.json"))
        again = process_video(source, tmp_path / "results" / name, settings)
        assert set(again.seconds) == {"read and check"}
    assert len(results["own"]["actions"]) == 1
    assert results["own"]["actions"] == results["h2o"]["actions"]
    assert results["own"]["objects"] == results["h2o"]["objects"]
