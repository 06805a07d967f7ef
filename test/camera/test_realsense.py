"""The camera on recordings: genuine librealsense from the recorder to the pipeline; plugging in is its own, too."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from camera.recordings import scene, settings, watching

from benchmarks.camera.recorder import BASELINE_M, RATE_HZ, SERIAL, H, Rig, W, record, shots
from stvla_ros.camera import device, realsense
from stvla_ros.camera.settings import DepthFilterConfig
from stvla_ros.config import ConfigError
from stvla_ros.errors import StageError
from stvla_ros.types import RgbdFrame

OTHER = "999999999999"


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of a camera without faults."""
    return record(tmp_path_factory.mktemp("grey") / "a.db3", shots(30))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of another camera, which is redder."""
    red = np.zeros((H, W, 3), np.uint8)
    red[..., 0] = 200
    return record(tmp_path_factory.mktemp("other") / "b.db3", shots(30, red), Rig(serial=OTHER))


def stale(watched: Any, match: str) -> None:
    """Nothing is given, and the reason is the one of the diagnostics."""
    watched.until(lambda: re.search(match, watched.camera.trouble))
    with pytest.raises(StageError, match=f"STALE_IMAGE: .*{match}"):
        watched.camera.capture()


# --- values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rig", [Rig(), Rig(units_m=0.0001, color="bgr8")], ids=["D435", "D405"])
def test_values(tmp_path: Path, rig: Rig) -> None:
    """Colour exactly; depth in metres where the colour lens sees it; intrinsics; NaN for no depth."""
    frame, depth = scene(rig)
    depth[:20, :20] = 0
    rgb = frame.rgb if rig.color == "rgb8" else np.ascontiguousarray(frame.rgb[..., ::-1])
    path = record(tmp_path / "a.db3", shots(10, rgb, depth), rig)
    with watching(settings(file=str(path)), T_base_camera=frame.camera.T_base_camera, frame_id="lens") as seen:
        seen.until(lambda: len(seen.frames) >= 5)
        got = seen.frames[-1]
    np.testing.assert_array_equal(got.rgb, frame.rgb)
    np.testing.assert_allclose(got.camera.K, frame.camera.K, rtol=1e-6)
    np.testing.assert_array_equal(got.camera.T_base_camera, frame.camera.T_base_camera)
    assert (got.camera.width_px, got.camera.height_px, got.camera.frame_id) == (W, H, "lens")
    assert np.isnan(got.depth_m[:20, : 20 - int(BASELINE_M * 500)]).all()
    error, unaligned = (np.abs(d - frame.depth_m) for d in (got.depth_m, depth * rig.units_m))
    assert np.nanmedian(error) < 0.001
    assert np.isnan(error).mean() < 0.05
    assert np.mean(error > 0.02) < 0.2 * np.mean(unaligned[20:] > 0.02), "edges are where colour has them"


@pytest.mark.parametrize("model", ["inverse_brown_conrady", "modified_brown_conrady"])
def test_a_lens_is_straightened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """librealsense aligns depth to the pinhole, or to the image as the lens bends it; both come out as the pinhole's."""
    rig = Rig(model=model, coefficients=(0.25, -0.3, 0.006, -0.004, 0.06))
    frame, depth = scene(rig)
    y, x = np.mgrid[0:H, 0:W].astype(np.float64)
    waves = np.uint8(127 + 120 * np.sin(x / 5) * np.sin(y / 5))
    frame = replace(frame, rgb=np.stack([waves] * 3, axis=2))
    straight = cv2.undistortPoints(
        np.stack([x.ravel(), y.ravel()], 1)[:, None], frame.camera.K, np.array(rig.coefficients), P=frame.camera.K
    )
    u, v = straight.reshape(H, W, 2).astype(np.float32).transpose(2, 0, 1)
    bent = cv2.remap(frame.rgb, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    path = record(tmp_path / "a.db3", shots(10, bent, depth), rig)

    def off() -> tuple[RgbdFrame, float, float]:
        """A frame; mean error of colour and of depth away from the border."""
        with watching(settings(file=str(path))) as seen:
            seen.until(lambda: len(seen.frames) >= 3)
            got, inner = seen.frames[-1], np.s_[15:-15, 15:-15]
        error = np.minimum(np.abs(got.depth_m - frame.depth_m)[inner], 0.05)
        return got, np.abs(got.rgb.astype(int) - frame.rgb)[inner].mean(), float(np.nanmean(error))

    got, color_off, depth_off_m = off()
    np.testing.assert_allclose(got.camera.K, frame.camera.K, rtol=1e-6)
    monkeypatch.setattr(device, "lens_maps", lambda K, lens: None)
    _, color_bent, depth_bent_m = off()
    assert color_off < 0.15 * color_bent
    if model == device.BENDS_DEPTH:
        assert depth_off_m < 0.5 * depth_bent_m
    else:
        assert depth_off_m == pytest.approx(depth_bent_m, abs=2e-4), "depth was the pinhole's already"
    assert depth_off_m < 0.0025


def test_filters(tmp_path: Path) -> None:
    """Each of them changes depth as its name says."""
    rng = np.random.default_rng(0)
    depth = (1000 + rng.normal(0, 4, (H, W))).astype(np.uint16)
    depth[:, :100], depth[100:110, 200:210] = 3000, 0
    path = record(tmp_path / "a.db3", shots(20, depth=depth))

    def filtered(**filters: Any) -> np.ndarray:
        config = settings(file=str(path), filters=replace(DepthFilterConfig(spatial=False), **filters))
        with watching(config) as seen:
            seen.until(lambda: len(seen.frames) >= 6)
            return seen.frames[5].depth_m

    plain, hole, flat = filtered(), np.s_[102:108, 198:200], np.s_[10:90, 150:400]
    assert np.isnan(plain[hole]).all()
    assert np.nanmax(plain) == pytest.approx(3.0)
    assert np.nanmax(filtered(max_m=2.0)) < 1.1
    assert np.nanmin(filtered(min_m=2.0)) == pytest.approx(3.0)
    assert not np.isnan(filtered(hole_filling="nearest")[hole]).any()
    assert np.nanstd(filtered(spatial=True)[flat]) < 0.7 * np.nanstd(plain[flat])
    both = filtered(spatial=True, temporal=True)
    assert np.isnan(both[hole]).all(), "no depth is invented"
    assert np.nanmedian(both[flat]) == pytest.approx(1.0, abs=0.003)


# --- what recordings can hold --------------------------------------------------------------------------------------


def test_frames_with_faults_are_dropped_and_those_after_them_come(tmp_path: Path) -> None:
    """Without depth, without colour, depth of another moment, numbers that are skipped: never a wrong pair."""
    sent = shots(80)
    for k in range(80):
        if 20 <= k < 26:
            sent[k] = replace(sent[k], depth=None)
        elif 30 <= k < 36:
            sent[k] = replace(sent[k], rgb=None)
        elif 40 <= k < 46:
            sent[k] = replace(sent[k], depth_late_ms=8.0)
        elif k >= 50:
            sent[k] = replace(sent[k], number=k + 6)  # five are lost on the wire
    path = record(tmp_path / "a.db3", sent)
    with watching(settings(file=str(path), repeat=False, pair_within_s=0.004)) as seen:
        stale(seen, "played to its end")
        counts = seen.camera.counts
    wrong = {*range(20, 26), *range(30, 36), *range(40, 46)}
    assert not wrong & set(seen.levels())
    assert {*range(50, 78)} & set(seen.levels())
    for frame, level in zip(seen.frames, seen.levels(), strict=True):
        assert np.nanmedian(frame.depth_m) == pytest.approx(1.0 - 0.001 * level, abs=2e-4), "depth of the same moment"
    assert seen.levels() == sorted(set(seen.levels())), "none twice"
    assert counts.unpaired >= 8
    assert counts.mixed >= 12
    assert counts.lost >= 5
    assert counts.frames == len(seen.frames)
    assert str(counts) == f"{counts.lost} lost, {counts.unpaired} without depth, 0 with a wrong stamp"


def test_a_recording_is_repeated(grey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stamps begin anew in each round; those of the frames never go back. It stops between rounds, for a while."""
    monkeypatch.setattr(device.Streams, "ended", lambda streams: True)
    with watching(settings(file=str(grey))) as seen:
        seen.until(lambda: len(seen.frames) > 60)
        assert 0.1 * RATE_HZ < seen.camera.rate_hz < 1.5 * RATE_HZ
        ns = [frame.stamp_ns for frame in seen.frames]
        assert seen.camera.capture().stamp_ns >= ns[-1]
    assert (np.diff(ns) > 0).all()
    assert abs(ns[-1] - time.time_ns()) < 5e9


@pytest.mark.parametrize(("name", "match"), [("none.db3", "found no file"), ("junk.db3", "cannot be played")])
def test_no_recording(tmp_path: Path, name: str, match: str) -> None:
    (tmp_path / "junk.db3").write_text("This is no recording.")
    with pytest.raises(ConfigError, match=f"realsense.file: wanted a recording of librealsense.*{match}"):
        watching(settings(file=str(tmp_path / name))).__enter__()


# --- stamps --------------------------------------------------------------------------------------------------------


def test_a_counters_stamps_keep_the_cameras_rhythm(grey: Path) -> None:
    """Not that of the arrivals: the counter of the recording began anywhere."""
    with watching(settings(serial=SERIAL)) as seen:
        seen.plug(grey)
        seen.until(lambda: len(seen.frames) >= 25)
        frames = list(seen.frames)
        assert seen.camera.diagnostics()["drift of its clock [ppm]"] == "0.0"
    steps_ms = np.diff([f.stamp_ns for f in frames]) / 1e6
    skipped = np.diff([int(f.rgb[0, 0, 0]) for f in frames])
    assert np.median(np.abs(steps_ms - skipped * 1e3 / RATE_HZ)) < 0.1
    assert 0 <= (time.time_ns() - frames[-1].stamp_ns) / 1e9 < 5


@pytest.mark.parametrize("domain", ["system_time", "global_time"])
def test_stamps_by_this_computers_clock_are_taken_or_refused(tmp_path: Path, domain: str) -> None:
    """The test's clock says when it is: at the time of the recording, three seconds later, three seconds earlier."""
    path = record(tmp_path / "a.db3", shots(60), Rig(domain=domain))
    clock = {"zero": None, "ahead_s": 0.0}

    def now_ns() -> int:
        """The recording's time from its first frame on."""
        clock["zero"] = clock["zero"] or time.monotonic()
        return round((5.05 + time.monotonic() - clock["zero"] + clock["ahead_s"]) * 1e9)

    with watching(settings(serial=SERIAL, first_s=1.0), now_ns=now_ns) as seen:
        seen.plug(path)
        seen.until(lambda: len(seen.frames) >= 20)
        assert all(f.stamp_ns == round((5000 + 1e3 / RATE_HZ * int(f.rgb[0, 0, 0])) * 1e6) for f in seen.frames)
        for ahead_s, where in ((3.0, r"got one \d.\d s behind it"), (-30.0, r"got one \d+.\d s ahead of it")):
            clock["zero"], clock["ahead_s"] = None, ahead_s
            seen.unplug(path)
            seen.until(lambda n=ahead_s: sum("unplugged" in line for line in seen.said) == (1 if n > 0 else 2))
            before = len(seen.frames)
            seen.camera._newest = None
            seen.plug(path)
            seen.until(lambda: "stamps" in seen.camera._trouble)
            stale(seen, f"dropped for their stamps: .*as their domain {domain} says, {where}")
            assert len(seen.frames) == before
            assert seen.camera.counts.wrong_stamp > 0


def test_a_counter_that_is_set_back(tmp_path: Path) -> None:
    """A camera's counter wraps, or is reset: three frames are lost, not the camera."""
    sent = shots(60)
    sent[30:] = [replace(s, stamp_ms=s.stamp_ms - 4000.0) for s in sent[30:]]
    path = record(tmp_path / "a.db3", sent)
    with watching(settings(serial=SERIAL)) as seen:
        seen.plug(path)
        seen.until(lambda: seen.levels() and max(seen.levels()) > 50)
        ns = [frame.stamp_ns for frame in seen.frames]
        levels = seen.levels()
    after = [n for n in levels if n >= 30]
    assert after[0] <= 30 + 8
    at = levels.index(after[0])
    assert abs((ns[at] - ns[at - 1]) / 1e9 - (after[0] - levels[at - 1]) / RATE_HZ) < 0.25, "its time goes on"


# --- plugging in and unplugging, silence --------------------------------------------------------------------------


def test_unplugged_and_plugged_in_again(grey: Path, other: Path) -> None:
    """Only the camera with the same serial number counts; how long the frames were interrupted is measured."""
    with watching(settings(serial=SERIAL, max_age_s=0.3, retry_s=30.0)) as seen:
        stale(seen, f"Wanted RealSense camera {SERIAL}, found none: check its cable")
        seen.plug(other)
        seen.until(lambda: OTHER in seen.camera.trouble)
        stale(seen, f"Wanted RealSense camera {SERIAL}, found {OTHER}")
        for round_ in range(3):
            plugged = time.monotonic()
            seen.plug(grey)
            seen.until(lambda: not seen.camera.trouble)
            back_s = next(t for t in seen.times if t > plugged) - plugged
            assert back_s < 5.0, "long before retry_s: librealsense reports new devices"
            assert seen.camera.capture().rgb[0, 0, 0] < 100
            seen.unplug(grey)
            stale(seen, f"Wanted RealSense camera {SERIAL}, found {OTHER}")
            assert seen.said.count(f"Intel RealSense D435 {SERIAL} was unplugged: plug it in again.") == round_ + 1
            if round_:
                assert 0.0 < seen.camera.outage_s < 30.0
                assert any("sends images again, after" in line for line in seen.said)
        assert seen.camera.counts.starts == 3


def test_a_silent_camera_is_started_again(grey: Path) -> None:
    """The streams run, and nothing comes: as with a hung firmware."""
    with watching(settings(serial=SERIAL, silent_s=0.3, max_age_s=0.3)) as seen:
        playback = seen.plug(grey)
        seen.until(lambda: len(seen.frames) > 5)
        playback.pause()
        paused = time.monotonic()
        seen.until(lambda: any("has sent no images for" in line for line in seen.said))
        assert time.monotonic() - paused > 0.25
        seen.until(lambda: seen.camera.counts.starts == 2)
        before = len(seen.frames)
        seen.until(lambda: len(seen.frames) > before + 3)
        assert seen.camera.outage_s > 0.3


def test_a_camera_that_never_sends_is_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline waits for both streams, and one does not come. A recording cannot be reset: only the call is seen."""
    path = record(tmp_path / "a.db3", [replace(s, depth=None) for s in shots(30)])
    resets: list[str] = []
    monkeypatch.setattr(realsense, "reset", lambda rs, context, serial: resets.append(serial) or True)
    with watching(settings(serial=SERIAL, silent_s=0.2, first_s=0.3, reset_after=2)) as seen:
        seen.plug(path)
        seen.until(lambda: resets)
        stale(seen, "has sent no images for .*started again")
        assert resets[0] == SERIAL
        assert "The RealSense camera was reset after 2 starts without an image." in seen.said


def test_which_camera_is_reset() -> None:
    """The seam: devices that are no recordings exist only as hardware."""
    done: list[str] = []

    def one(serial: str, playback: bool = False) -> Any:
        return SimpleNamespace(
            is_playback=lambda: playback,
            supports=lambda _: True,
            get_info=lambda _: serial,
            hardware_reset=lambda: done.append(serial),
        )

    context = SimpleNamespace(query_devices=lambda: [one("1"), one("2"), one("3", playback=True)])
    assert not device.reset(device.library(), context, "")
    assert not device.reset(device.library(), context, "3")
    assert device.reset(device.library(), context, "2")
    assert done == ["2"]


def test_two_cameras(grey: Path, other: Path) -> None:
    """Each by its serial number, both on one bus."""
    with watching(settings(serial=SERIAL)) as one, watching(settings(serial=OTHER), frame_id="wrist") as two:
        for seen in (one, two):
            seen.plug(grey)
            seen.plug(other)
        for seen in (one, two):
            seen.until(lambda seen=seen: len(seen.frames) > 10)
            assert seen.camera.counts.starts == 1, "the other one's coming does not disturb it"
        assert {int(f.rgb[0, 0, 0]) for f in two.frames} == {200}
        assert max(one.levels()) < 60
        assert two.frames[0].camera.frame_id == "wrist"
    with watching(settings()) as seen:
        seen.plug(grey)
        seen.until(lambda: seen.frames)
    with watching(settings(retry_s=30.0)) as seen:
        seen.camera._device = "none yet"
        seen.plug(grey)
        seen.plug(other)
        seen.camera._changed.set()
        stale(seen, rf"2 cameras are connected \({SERIAL}, {OTHER}\): set realsense.serial")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"size": "1280x720"}, "has no colour and depth of 1280x720 at 60 Hz .*: set realsense.size"),
        ({"rate_hz": 15}, "has no colour and depth of 424x240 at 15 Hz .*USB 3"),
    ],
)
def test_streams_that_a_camera_does_not_have(grey: Path, changes: dict[str, Any], match: str) -> None:
    with watching(settings(serial=SERIAL, **changes)) as seen:
        seen.plug(grey)
        seen.until(lambda: "colour and depth of" in seen.camera.trouble)
        stale(seen, match)


# --- the library ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (ModuleNotFoundError("No module named 'pyrealsense2'"), "install it with pip"),
        (ImportError("libusb-1.0.so.0: cannot open shared object file"), "the system package libusb-1.0-0: install it"),
        (ImportError("libudev.so.1: cannot open shared object file"), r"libudev.so.1.*another library"),
    ],
)
def test_without_the_library(monkeypatch: pytest.MonkeyPatch, error: ImportError, match: str) -> None:
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)

    def fail(name: str) -> Any:
        raise error

    monkeypatch.setattr(device, "import_module", fail)
    with pytest.raises(ConfigError, match=match):
        device.library()
