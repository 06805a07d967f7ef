"""What cameras and their drivers send: encodings, calibrations, stamps, frames, clocks. No ROS graph, clocks of the test's own."""

from __future__ import annotations

import contextlib
import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from tf2_msgs.msg import TFMessage

from stvla_ros.errors import CancelToken, StageError
from stvla_ros.geometry.cameras import SATURATED_M, calibration_fault
from stvla_ros.geometry.se3 import pose, rotation_z
from stvla_ros.nodes.guidance import GuidanceNode
from stvla_ros.ros import convert, frames
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver
from stvla_ros.ros.freshness import Instant
from stvla_ros.ros.tf import TransformError
from stvla_ros.types import RgbdFrame

START_NS = 1_700_000_000_000_000_000
OPTICAL, BASE = "camera_color_optical_frame", "panda_link0"
T = pose(rotation_z(0.3), (0.1, 0.2, 0.3))
H, W = 24, 32
RGB = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
DEPTH = np.full((H, W), 0.5, np.float32)
K = [30.0, 0.0, 15.5, 0.0, 30.0, 11.5, 0.0, 0.0, 1.0]


class Topic:
    """A topic as its publishers announce it."""

    def __init__(self, kind: str, latched: bool = False) -> None:
        self.topic_type = kind
        self.qos_profile = self
        self.durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE


class Harness:
    """A camera and a receiver without a ROS graph. ``ns`` may be set back, ``s`` may not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns, self.s = START_NS, 100.0
        self.readers: dict[str, list[Any]] = {}
        self.published = {name: [Topic(kind)] for name, kind in self._kinds().items()}
        self.seen: list[int] = []
        monkeypatch.setattr(frames, "now", lambda node: Instant(self.ns, self.s))

    @staticmethod
    def _kinds() -> dict[str, str]:
        c = CameraConfig()
        image, info = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
        return {f"/{c.color}": image, f"/{c.depth}": image, f"/{c.info}": info}

    def receiver(self, place: bool = True, **settings: Any) -> RgbdReceiver:
        config = CameraConfig(**{"timeout_s": 0.0, **settings})
        receiver = RgbdReceiver(self, config, self.seen.append, BASE, keep_s=1.0)  # type: ignore[arg-type]
        if place:
            self.place()
        return receiver

    # what the receiver asks of its node
    def resolve_topic_name(self, name: str) -> str:
        return f"/{name.lstrip('/')}"

    def create_subscription(self, kind: Any, topic: str, callback: Any, profile: Any, **_: Any) -> Any:
        self.readers.setdefault(topic, []).append(callback)
        return callback

    def count_publishers(self, topic: str) -> int:
        return len(self.published[topic])

    def get_publishers_info_by_topic(self, topic: str) -> list[Topic]:
        return self.published[topic]

    def get_name(self) -> str:
        return "receiver"

    # what the camera does
    def wait(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)
        self.s += seconds

    def publish(self, topic: str, message: Any) -> None:
        for callback in self.readers[f"/{topic.lstrip('/')}"]:
            callback(message)

    def place(
        self, child: str = OPTICAL, parent: str = BASE, at: Any = T, topic: str = "/tf_static", ns: int = 0
    ) -> None:
        self.publish(topic, TFMessage(transforms=[convert.matrix_to_transform(at, parent, child, ns)]))

    def messages(self, later_ms: float = 0.0, ahead_s: float = 0.0) -> dict[str, Any]:
        stamp_ns = self.ns + round(ahead_s * 1e9)
        head = convert.header(stamp_ns, OPTICAL)
        info = CameraInfo(header=head, height=H, width=W, distortion_model="plumb_bob", d=[0.0] * 5, k=K)
        depth = convert.depth_to_image_mm(DEPTH, convert.header(stamp_ns + round(later_ms * 1e6), OPTICAL))
        return {"color": convert.rgb_to_image(RGB, copy.deepcopy(head)), "depth": depth, "info": info}

    def send(self, parts: str = "cdi", messages: dict[str, Any] | None = None, **kwargs: Any) -> None:
        messages, config = messages or self.messages(**kwargs), CameraConfig()
        for part in parts:
            name = {"c": "color", "d": "depth", "i": "info"}[part]
            self.publish(getattr(config, name), messages[name])

    def stream(self, n: int, hz: float = 15.0, **kwargs: Any) -> None:
        for _ in range(n):
            self.wait(1 / hz)
            self.send(**kwargs)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(monkeypatch)


def stale(receiver: RgbdReceiver, match: str) -> None:
    with pytest.raises(StageError, match=f"STALE_IMAGE: {match}"):
        receiver.capture()


def with_(messages: dict[str, Any], part: str, **changes: Any) -> dict[str, Any]:
    for name, value in changes.items():
        setattr(messages[part], name, value)
    return messages


# --- encodings ---------------------------------------------------------------------------------------------------

ALPHA = np.full((H, W, 1), 7, np.uint8)


@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", np.concatenate([RGB, ALPHA], axis=2)),
        ("bgra8", np.concatenate([RGB[..., ::-1], ALPHA], axis=2)),
        ("BGR8", RGB[..., ::-1]),
    ],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_colours_that_are_taken(encoding: str, pixels: np.ndarray, padding: int) -> None:
    rows = np.pad(pixels.reshape(H, -1), ((0, 0), (0, padding)))
    image = Image(height=H, width=W, encoding=encoding, step=rows.shape[1], data=rows.tobytes())
    np.testing.assert_array_equal(convert.image_to_rgb(image), RGB)


@pytest.mark.parametrize(
    ("encoding", "sentence"),
    [
        ("8UC3", "does not say whether red or blue comes first"),
        ("8UC4", "does not say whether red or blue comes first"),
        ("mono8", "has no colour: set camera.color"),
        ("mono16", "has no colour: set camera.color"),
        ("16UC1", "has no colour: set camera.color"),
        ("bayer_rggb8", "raw sensor pattern: use the topic of image_proc's debayer node"),
        ("yuv422", "set the colour format of the camera's driver to RGB8"),
        ("yuv422_yuy2", "set the colour format of the camera's driver to RGB8"),
        ("nv12", "set the colour format of the camera's driver to RGB8"),
        ("", "is none of these"),
        ("rgb16", "is none of these"),
    ],
)
def test_colours_that_are_refused_say_what_to_set(encoding: str, sentence: str) -> None:
    image = Image(height=H, width=W, encoding=encoding, step=W * 8, data=bytes(W * 8 * H))
    with pytest.raises(
        ValueError, match=f"got encoding '{encoding}', which {sentence}|got encoding '{encoding}'.*{sentence}"
    ):
        convert.image_to_rgb(image)


@pytest.mark.parametrize(
    ("encoding", "kind", "scale"), [("16UC1", "u2", 1000), ("mono16", "u2", 1000), ("32FC1", "f4", 1)]
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_depths_that_are_taken(encoding: str, kind: str, scale: int, order: str) -> None:
    rows = np.pad((DEPTH * scale).astype(order + kind).view(np.uint8), ((0, 0), (0, 6)))
    image = Image(
        height=H, width=W, encoding=encoding, step=rows.shape[1], is_bigendian=order == ">", data=rows.tobytes()
    )
    np.testing.assert_array_equal(convert.image_to_depth(image), DEPTH)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1", "rgb8", "bgr8", "8UC3"])
def test_a_picture_of_depth_is_no_depth(encoding: str) -> None:
    image = Image(height=H, width=W, encoding=encoding, step=W * 3, data=bytes(W * 3 * H))
    with pytest.raises(ValueError, match=r"has no distances: set camera\.depth"):
        convert.image_to_depth(image)


@pytest.mark.parametrize("mm", [500.0, 21.0, 60_000.0])
def test_millimetres_as_floats_are_told(harness: Harness, mm: float) -> None:
    receiver = harness.receiver()
    depth = np.full((H, W), np.nan, np.float32)
    depth[::2] = mm
    harness.send(
        messages=harness.messages() | {"depth": convert.depth_to_image(depth, convert.header(harness.ns, OPTICAL))}
    )
    stale(receiver, rf".*wanted depth in metres as 32FC1, got {mm:.0f} and more, which are millimetres")


def test_no_depth_at_all_is_no_millimetres(harness: Harness) -> None:
    receiver = harness.receiver()
    for nothing in (np.nan, 0.0, np.inf, -np.inf, -1.0, 65.535, 3.4e38):
        depth = np.full((H, W), nothing, np.float32)
        harness.wait(0.1)
        harness.send(
            messages=harness.messages() | {"depth": convert.depth_to_image(depth, convert.header(harness.ns, OPTICAL))}
        )
        got = receiver.capture()
        assert got.stamp_ns == harness.ns
        assert np.isnan(got.depth_m).all()


# --- calibrations ------------------------------------------------------------------------------------------------

FULL = RegionOfInterest(width=W, height=H)


@pytest.mark.parametrize(
    "changes",
    [
        {"d": []},
        {"d": [0.0] * 4},
        {"d": [0.0] * 8},
        {"distortion_model": "", "d": []},
        {"distortion_model": "none", "d": [0.0] * 5},
        {"distortion_model": "Brown Conrady", "d": [0.0] * 5},
        {"distortion_model": "rational_polynomial", "d": [0.0] * 8},
        {"d": [0.01, 0.0, 0.0, 0.0]},
        {"d": [0.01, 0.0, 0.0, 0.0, 0.001]},
        {"d": [0.01, 0.0, 0.0, 0.0, 0.001, 0.0, 0.0, 0.0]},
        {"distortion_model": "Plumb Bob", "d": [0.01, 0.0, 0.0, 0.0, 0.001]},
        {"distortion_model": "rational_polynomial", "d": [0.01] * 5},
        {"distortion_model": "rational_polynomial", "d": [0.01] * 8},
        {"distortion_model": "rational_polynomial", "d": [0.01] * 8 + [0.0] * 6},
        {"distortion_model": "equidistant", "d": [0.01, 0.0, 0.0, 0.0]},
        {"p": [0.0] * 12, "r": [0.0] * 9},
        {"r": [0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]},
        {"binning_x": 1, "binning_y": 1},
        {"roi": FULL},
    ],
    ids=str,
)
def test_calibrations_that_are_taken(harness: Harness, changes: dict[str, Any]) -> None:
    receiver = harness.receiver()
    harness.send(messages=with_(harness.messages(), "info", **changes))
    got = receiver.capture()
    assert got.camera.K.ravel().tolist() == K
    assert got.depth_m[12, 16] == np.float32(0.5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"k": [0.0] * 9},
            r"wanted a calibrated camera, but CameraInfo has K = \[0.0.*calibrate it, or set camera.info",
        ),
        ({"k": [0.6, 0, 0.5, 0, 0.8, 0.5, 0, 0, 1.0]}, "wanted intrinsics in pixels"),
        ({"width": 64, "height": 48}, "wanted the CameraInfo of the colour image, got one of 64x48 for colour 32x24"),
        ({"width": 0, "height": 0}, "wanted the CameraInfo of the colour image, got one of 0x0"),
        ({"binning_x": 2, "binning_y": 2}, r"wanted full images, but CameraInfo has binning \(2, 2\)"),
        ({"roi": RegionOfInterest(width=16, height=12, x_offset=8)}, r"region of interest \(16x12 at 8, 0\)"),
        ({"distortion_model": "equidistant", "d": [0.0] * 4}, "parameter 'rectified' if its images are"),
        ({"distortion_model": "equidistant", "d": [0.1] * 5}, "wanted 4 coefficients of distortion for equidistant"),
        ({"distortion_model": "fov", "d": [0.0]}, "but CameraInfo has 'fov'"),
        ({"d": [0.1] * 6}, "wanted 4 or 5 or 8 or 12 or 14 coefficients of distortion for plumb_bob"),
    ],
    ids=str,
)
def test_calibrations_that_are_refused(harness: Harness, changes: dict[str, Any], sentence: str) -> None:
    receiver = harness.receiver()
    harness.send(messages=with_(harness.messages(), "info", **changes))
    stale(receiver, f"The camera's images cannot be used: .*{sentence}")


def test_a_rectified_stream_without_projection_has_its_k(harness: Harness) -> None:
    receiver = harness.receiver(rectified=True)
    harness.send()
    assert receiver.capture().camera.K.ravel().tolist() == K
    harness.wait(0.1)
    harness.send("icd", with_(harness.messages(), "info", d=[0.1] * 5))
    assert "wanted the projection of a rectified camera" in receiver.why_skipped


# --- stamps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later_ms", [0.0, 1.0, -1.0, 4.0])
@pytest.mark.parametrize("order", ["cdi", "dci", "icd", "idc"])
def test_stamps_some_milliseconds_apart(harness: Harness, later_ms: float, order: str) -> None:
    receiver = harness.receiver()
    harness.stream(10, parts=order, later_ms=later_ms)
    assert receiver.capture().stamp_ns == harness.ns
    assert len(harness.seen) >= 9
    assert receiver.at(harness.ns, 0.0) is receiver.capture(), "its stamp is that of its colour"


def test_the_gap_of_stamps_is_told(harness: Harness) -> None:
    receiver = harness.receiver()
    harness.stream(10, later_ms=20.0)
    stale(
        receiver,
        r"No camera image: the nearest stamps of colour and depth are 20\.0 ms apart; at most 5 ms .*pair_within_s",
    )
    wide = harness.receiver(pair_within_s=0.025)
    harness.stream(3, later_ms=20.0)
    wide.capture()


def test_depth_by_another_clock_is_told(harness: Harness) -> None:
    receiver = harness.receiver()
    harness.stream(10, later_ms=-3000.0)
    stale(receiver, r"No camera image: .* are 2\d\d\d\.\d ms apart.*stamped by another clock")


def test_colour_twice_as_often_as_depth(harness: Harness) -> None:
    receiver = harness.receiver()
    for k in range(20):
        harness.stream(1, hz=30.0, parts="ci" if k % 2 else "cdi", later_ms=1.0)
    assert len(harness.seen) >= 9
    assert receiver.age_s() < 0.1


@pytest.mark.parametrize("info_stamp_ns", [0, START_NS - 3_600_000_000_000])
def test_an_info_that_came_once_holds(harness: Harness, info_stamp_ns: int) -> None:
    receiver = harness.receiver()
    messages = harness.messages()
    messages["info"].header.stamp = convert.ns_to_time(info_stamp_ns)
    harness.send("i", messages)
    harness.stream(100, parts="cd")
    assert receiver.capture().stamp_ns == harness.ns
    assert len(harness.seen) == 100


def test_an_info_after_the_first_images_completes_them(harness: Harness) -> None:
    receiver = harness.receiver()
    harness.stream(3, parts="cd")
    stale(
        receiver,
        "No camera image: nothing comes on /camera/camera/color/camera_info, which is published, while .* is received",
    )
    harness.send("i")
    assert receiver.capture().stamp_ns == harness.ns


def test_a_latched_info_is_asked_for(harness: Harness) -> None:
    harness.receiver()
    info = f"/{CameraConfig().info}"
    harness.stream(3, parts="cd")
    assert len(harness.readers[info]) == 1, "nobody latches it: a second reader would only make the driver warn"
    harness.published[info] = [Topic("sensor_msgs/msg/CameraInfo", latched=True)]
    harness.stream(3, parts="cd")
    assert len(harness.readers[info]) == 2


def test_the_info_of_an_image_holds_before_the_last_one(harness: Harness) -> None:
    """The camera zooms: its depth comes when the next info is here already."""
    receiver = harness.receiver()
    messages = harness.messages()
    harness.send("ci", messages)
    harness.wait(0.066)
    harness.send("i", with_(harness.messages(), "info", k=[60.0, *K[1:4], 60.0, *K[5:]]))
    harness.send("d", messages)
    assert receiver.capture().camera.K[0, 0] == 30.0


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            "ci",
            "nothing comes on /camera/camera/aligned_depth_to_color/image_raw, which is published, while .*color/image_raw",
        ),
        ("di", "nothing comes on /camera/camera/color/image_raw, which is published, while .*aligned_depth"),
        (
            "i",
            "nothing comes on /camera/camera/color/image_raw, /camera/camera/aligned_depth_to_color/image_raw, which is",
        ),
        ("", "nothing comes on /camera/camera/color/image_raw, .*camera_info, which is published: look"),
    ],
)
def test_a_part_that_never_comes_is_named(harness: Harness, parts: str, sentence: str) -> None:
    receiver = harness.receiver()
    harness.stream(20, parts=parts)
    stale(receiver, f"No camera image: {sentence}")


def test_depth_that_stops_is_named(harness: Harness) -> None:
    receiver = harness.receiver()
    harness.stream(20)
    harness.stream(40, parts="ci")
    stale(receiver, "No camera image: nothing comes on /camera/camera/aligned_depth_to_color/image_raw")
    assert "aligned_depth_to_color" in (receiver.fault(2.0) or "")


def test_a_camera_that_ends_in_the_midst_of_a_frame_is_silent(harness: Harness) -> None:
    receiver = harness.receiver()
    harness.stream(20)
    harness.stream(1, parts="c")
    harness.wait(0.97)
    stale(receiver, r"The newest camera image on /camera/camera/color/image_raw is 1\.04 s old")


def test_a_topic_of_another_type_is_named(harness: Harness) -> None:
    receiver = harness.receiver()
    harness.published[f"/{CameraConfig().color}"] = [Topic("sensor_msgs/msg/CompressedImage")]
    harness.stream(3, parts="di")
    stale(receiver, ".*color/image_raw is a sensor_msgs/msg/CompressedImage, wanted sensor_msgs/msg/Image")


# --- odd frames --------------------------------------------------------------------------------------------------


def odd_depth(harness: Harness) -> dict[str, Any]:
    head = convert.header(harness.ns, OPTICAL)
    return harness.messages() | {"depth": convert.depth_to_image_mm(np.full((20, 30), 0.5, np.float32), head)}


ODD: dict[str, Any] = {
    "unaligned depth": odd_depth,
    "cut off": lambda b: with_(b.messages(), "color", data=b"123"),
    "no pixels": lambda b: with_(with_(b.messages(), "color", width=0), "depth", width=0),
    "grey": lambda b: with_(b.messages(), "color", encoding="mono8"),
    "step": lambda b: with_(b.messages(), "depth", step=3),
    "not calibrated": lambda b: with_(b.messages(), "info", k=np.zeros(9)),
    "NaN": lambda b: with_(b.messages(), "info", k=[np.nan] * 9),
    "folds over": lambda b: with_(b.messages(), "info", d=[-9.0, 0.0, 0.0, 0.0, 0.0]),
    "of the future": lambda b: b.messages(ahead_s=30.0),
    "depth of the future": lambda b: b.messages(later_ms=30_000.0),
    "of the past": lambda b: b.messages(ahead_s=-30.0),
    "without stamp": lambda b: b.messages(ahead_s=-b.ns / 1e9),
}


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_frame_is_skipped(harness: Harness, odd: str) -> None:
    receiver = harness.receiver()
    harness.stream(5)
    good_ns = harness.ns
    harness.wait(1 / 15)
    harness.send("idc", ODD[odd](harness))
    assert receiver.capture().stamp_ns == good_ns
    assert receiver.fault(1.0) is None
    assert receiver.skipped + receiver.dropped > 0
    harness.stream(1)
    assert receiver.capture().stamp_ns == harness.ns
    assert len(harness.seen) == 6


@pytest.mark.parametrize("odd", ["unaligned depth", "grey", "not calibrated", "folds over", "of the future"])
def test_only_odd_frames_are_told(harness: Harness, odd: str) -> None:
    receiver = harness.receiver()
    harness.stream(5)
    for _ in range(30):
        harness.wait(1 / 15)
        harness.send(messages=ODD[odd](harness))
    stale(receiver, r"The camera's images cannot be used: wanted|The clock of the machine .* is 30\.0 s ahead")
    assert receiver.fault(1.0) is not None
    assert receiver.skipped >= 30


def test_silence_after_an_odd_frame_is_told_as_silence(harness: Harness) -> None:
    receiver = harness.receiver()
    harness.stream(5)
    harness.wait(1 / 15)
    harness.send(messages=odd_depth(harness))
    harness.wait(3.0)
    stale(receiver, "The newest camera image on /camera/camera/color/image_raw is 3.07 s old")


# --- clocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead_s", [0.3, 30.0])
def test_a_camera_ahead_is_refused_and_its_silence_is_seen(harness: Harness, ahead_s: float) -> None:
    receiver = harness.receiver()
    harness.stream(10, ahead_s=ahead_s)
    stale(receiver, rf"The clock of the machine that stamps /camera/camera/color/image_raw is {ahead_s} s ahead")
    allowed = harness.receiver(max_ahead_s=60.0)
    harness.stream(10, ahead_s=ahead_s)
    allowed.capture()
    harness.wait(1.1)
    stale(allowed, "The newest camera image .* is 1.10 s old")


def test_a_camera_minutes_behind(harness: Harness) -> None:
    receiver = harness.receiver()
    harness.stream(10, ahead_s=-300.0)
    stale(receiver, r".* 300\.0 s behind \(synchronise the clocks with chrony\)")


@pytest.mark.parametrize("back_s", [0.5, 3.0, 60.0])
def test_the_cameras_clock_goes_back(harness: Harness, back_s: float) -> None:
    """As when its driver starts again: four frames later it is seen as before."""
    receiver = harness.receiver(max_age_s=100.0)
    harness.stream(20)
    harness.stream(4, ahead_s=-back_s)
    assert receiver.capture().stamp_ns == harness.ns - round(back_s * 1e9)


@pytest.mark.parametrize("length_s", [2.0, 8.0, 30.0])
def test_a_looped_bag_with_clock(harness: Harness, length_s: float) -> None:
    """Simulation time, stamps and a moving camera's transforms go back together: the picture goes on, with the place of now."""
    receiver = harness.receiver(place=False)
    for round_ in range(3):
        harness.ns = START_NS
        harness.seen.clear()
        while harness.ns < START_NS + length_s * 1e9:
            harness.wait(1 / 15)
            harness.place(at=pose(np.eye(3), (float(round_), 0, 0)), topic="/tf", ns=harness.ns)
            harness.send()
        assert len(harness.seen) > length_s * 15 - 5
        got = receiver.capture()
        assert got.stamp_ns == harness.ns
        assert got.camera.T_base_camera[0, 3] == pytest.approx(round_)


def test_an_image_of_the_future_is_not_given_instead_of_one_to_come(harness: Harness) -> None:
    receiver = harness.receiver()
    harness.stream(3)
    with pytest.raises(StageError, match=r"60\.0 s newer than now: time was set back"):
        receiver.wait(harness.ns + 60_000_000_000, CancelToken(), 0.0)


@pytest.mark.parametrize("stamp_ns", [START_NS - 20_000_000_000, START_NS + 1])
def test_guidance_goes_on_after_a_clock_went_back(stamp_ns: int) -> None:
    """Every new frame is due, an older one too."""
    node = SimpleNamespace(_frames=SimpleNamespace(stamp_ns=stamp_ns), _done_stamp_ns=START_NS, _next_frame=0.0)
    node._in_use = lambda: True
    assert GuidanceNode._frame_due(node)  # type: ignore[arg-type]
    for none_new in (0, START_NS):
        node._frames.stamp_ns = none_new
        assert not GuidanceNode._frame_due(node)  # type: ignore[arg-type]


# --- frames and transforms ---------------------------------------------------------------------------------------


def in_frames(messages: dict[str, Any], color: str, info: str) -> dict[str, Any]:
    messages["color"].header.frame_id, messages["info"].header = color, copy.deepcopy(messages["info"].header)
    messages["info"].header.frame_id = info
    return messages


@pytest.mark.parametrize(
    ("color", "info"),
    [
        (OPTICAL, "/" + OPTICAL),
        ("/" + OPTICAL, OPTICAL),
        (OPTICAL, ""),
        ("", OPTICAL),
        (OPTICAL, "rgb_camera"),
        ("x", OPTICAL),
    ],
)
def test_frames_that_mean_one(harness: Harness, color: str, info: str) -> None:
    receiver = harness.receiver()
    harness.send(messages=in_frames(harness.messages(), color, info))
    got = receiver.capture()
    assert got.camera.frame_id == OPTICAL
    np.testing.assert_allclose(got.camera.T_base_camera, T, atol=1e-12)


def test_slashes_in_transforms_and_base(harness: Harness) -> None:
    receiver = RgbdReceiver(harness, CameraConfig(timeout_s=0.0), base_frame="/" + BASE)  # type: ignore[arg-type]
    harness.place("/" + OPTICAL, "/" + BASE)
    harness.send()
    receiver.capture()


def test_frames_that_do_not_say_where(harness: Harness) -> None:
    receiver = harness.receiver()
    harness.send(messages=in_frames(harness.messages(), "", ""))
    stale(receiver, ".*neither the colour image nor its CameraInfo has a frame_id")
    harness.place("camera_link", at=np.eye(4))
    harness.wait(0.1)
    harness.send(messages=in_frames(harness.messages(), "camera_link", OPTICAL))
    stale(
        receiver,
        f".*colour image is in the frame camera_link, its CameraInfo in {OPTICAL}, which have different poses",
    )


@pytest.mark.parametrize(
    ("place", "aligned"),
    [(T, True), (T @ pose(np.eye(3), (0.015, 0, 0)), False), (None, True)],
    ids=["same", "15 mm", "unknown"],
)
def test_depth_of_another_lens_is_not_aligned(harness: Harness, place: Any, aligned: bool) -> None:
    """Of the same size as colour, it would pass for aligned but for its frame."""
    receiver = harness.receiver()
    if place is not None:
        harness.place("camera_depth_optical_frame", at=place)
    messages = harness.messages()
    messages["depth"].header.frame_id = "camera_depth_optical_frame"
    harness.send(messages=messages)
    if aligned:
        receiver.capture()
    else:
        stale(
            receiver,
            r".*depth image is in the frame camera_depth_optical_frame, .*: it is not aligned\. Turn on align_depth",
        )


def test_a_driver_and_a_calibration_both_place_the_camera(harness: Harness) -> None:
    """The driver's tree does not reach the robot: then the calibration's place holds, whichever came last."""
    receiver = harness.receiver(place=False)
    other = pose(rotation_z(1.0), (5.0, 0, 0))
    harness.place(parent="camera_color_frame", at=other)
    harness.place()
    harness.place(parent="camera_color_frame", at=other)
    harness.send()
    np.testing.assert_allclose(receiver.capture().camera.T_base_camera, T, atol=1e-12)
    harness.place("camera_color_frame", at=np.eye(4))
    harness.wait(0.1)
    harness.send()
    harness.wait(1.5)
    harness.send()
    stale(receiver, f".*the frame {OPTICAL} has two poses .* m apart, by {OPTICAL}-")
    harness.place("camera_color_frame", at=T @ np.linalg.inv(other))
    harness.wait(0.1)
    harness.send()
    receiver.capture()


def test_static_transforms_from_whoever_does_not_latch(harness: Harness) -> None:
    harness.receiver()
    assert len(harness.readers["/tf_static"]) == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rotation": (0.0, 0.0, 0.0, 0.0)}, "quaternion: wanted four finite numbers, not all zero"),
        ({"rotation": (np.nan, 0.0, 0.0, 1.0)}, "quaternion: wanted four finite numbers"),
        ({"translation": (np.inf, 0.0, 0.0)}, "wanted finite numbers, got the translation"),
    ],
)
def test_transforms_that_are_none_are_named(harness: Harness, change: dict[str, Any], sentence: str) -> None:
    receiver = harness.receiver(place=False)
    message = convert.matrix_to_transform(T, BASE, OPTICAL, 0)
    for name, values in change.items():
        for axis, value in zip("xyzw", values, strict=False):
            setattr(getattr(message.transform, name), axis, value)
    harness.publish("/tf_static", TFMessage(transforms=[message]))
    harness.send()
    stale(receiver, f".*no transform from {BASE} to {OPTICAL} is known: the transform .* cannot be used: {sentence}")
    harness.place()
    receiver.capture()


def test_a_quaternion_that_is_not_of_unit_length_is_scaled(harness: Harness) -> None:
    receiver = harness.receiver(place=False)
    message = convert.matrix_to_transform(T, BASE, OPTICAL, 0)
    for axis in "xyzw":
        setattr(message.transform.rotation, axis, 2 * getattr(message.transform.rotation, axis))
    harness.publish("/tf_static", TFMessage(transforms=[message]))
    harness.send()
    np.testing.assert_allclose(receiver.capture().camera.T_base_camera, T, atol=1e-12)


def test_a_moving_transform_without_stamp_is_told(harness: Harness) -> None:
    receiver = harness.receiver(place=False)
    harness.place(topic="/tf", ns=0)
    harness.send()
    stale(receiver, r".*on /tf cannot be used: it has no stamp \(0\): publish it on /tf_static")


def test_static_transforms_on_tf(harness: Harness) -> None:
    """As ROS 1's publisher sends them: again and again, stamped a little ahead."""
    receiver = harness.receiver(place=False)
    for _ in range(10):
        harness.wait(0.1)
        harness.place(topic="/tf", ns=harness.ns + 100_000_000)
        harness.send()
    assert receiver.capture().stamp_ns == harness.ns


@pytest.mark.parametrize(("late_ms", "frames_seen"), [(40, 50), (800, 10)])
def test_a_camera_on_the_hand_at_20_hz(harness: Harness, late_ms: int, frames_seen: int) -> None:
    """Images at 30 Hz, transforms at 20 Hz that come later than images: those are placed between two samples."""
    receiver = harness.receiver(place=False)
    for tick in range(300):
        harness.wait(0.01)
        if tick % 3 == 0:
            harness.send()
        if tick % 5 == 0:
            ns = harness.ns - late_ms * 1_000_000
            harness.place(at=pose(np.eye(3), ((ns - START_NS) / 1e9, 0, 0)), topic="/tf", ns=ns)
    assert receiver.age_s() < late_ms / 1000 + 0.15
    got = receiver.capture()
    assert got.camera.T_base_camera[0, 3] == pytest.approx((got.stamp_ns - START_NS) / 1e9, abs=1e-6)
    assert len(harness.seen) > frames_seen


def test_a_stray_transform_is_no_new_time(harness: Harness) -> None:
    receiver = harness.receiver(place=False)
    for k in range(20):
        harness.wait(0.05)
        harness.place(topic="/tf", ns=harness.ns - (5_000_000_000 if k == 15 else 0))
    harness.send()
    receiver.capture()
    assert receiver.transforms.lookup(BASE, OPTICAL, harness.ns - 200_000_000) is not None
    with pytest.raises(TransformError, match="newer"):
        receiver.transforms.lookup(BASE, OPTICAL, harness.ns - 5_000_000_000)


def test_where_a_chain_breaks_is_told(harness: Harness) -> None:
    """The camera is on the hand, and nobody publishes the arm's frames; or the robot is another one."""
    receiver = harness.receiver(place=False)
    harness.place("camera_link", "panda_hand")
    harness.place(OPTICAL, "camera_link")
    harness.send()
    stale(
        receiver,
        rf".*no transform from {BASE} to {OPTICAL} is known \({OPTICAL} hangs on panda_hand, no transform has {BASE}\)",
    )
    harness.place("panda_link1", BASE)
    stale(
        receiver,
        rf".*no transform from {BASE} to {OPTICAL} is known \({OPTICAL} hangs on panda_hand\): publish the missing transform",
    )
    harness.place("panda_hand", "fr3_link0")
    stale(receiver, rf".*\({OPTICAL} hangs on fr3_link0\)")


def test_a_transform_that_came_once_on_tf(harness: Harness) -> None:
    receiver = harness.receiver(place=False)
    harness.place(topic="/tf", ns=harness.ns)
    harness.stream(30)
    stale(
        receiver,
        r".*\(the nearest sample is \d\.\d+ s older\): it came only once on /tf; publish it on /tf_static if it is fixed",
    )


def test_loops_and_frames_in_themselves_end(harness: Harness) -> None:
    receiver = harness.receiver(place=False)
    for parent, child in (("a", OPTICAL), (OPTICAL, "a"), ("b", "b"), ("", "c"), ("d", "")):
        harness.place(child, parent)
    harness.send()
    stale(receiver, f".*no transform from {BASE} to {OPTICAL} is known")
    harness.place("a")
    harness.wait(0.1)
    harness.send()
    receiver.capture()


# --- fuzz --------------------------------------------------------------------------------------------------------

NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, 30.0, 1e-9, 1e-300, 1e300, 3.4e38, np.inf, -np.inf, np.nan]
SIZES = [0, 1, 2, 3, H, W, W - 1, W + 1, 4 * W, 32767, 65535, 2**31, 2**32 - 1]
WORDS = [
    "",
    "rgb8",
    "bgra8",
    "8UC4",
    "16UC1",
    "32FC1",
    "mono8",
    "plumb_bob",
    "equidistant",
    "rational_polynomial",
    "none",
    "ü/",
]


def mutate(rng: np.random.Generator, messages: dict[str, Any]) -> None:  # noqa: C901 - a list of what may go wrong
    """Change one to three things of three good messages."""

    def pick(values: list[Any]) -> Any:
        return values[int(rng.integers(len(values)))]

    def numbers(n: int, of: list[float]) -> list[float]:
        return [pick(NUMBERS) if rng.random() < 0.3 else v for v in (of * n)[:n]]

    color, depth, info = messages["color"], messages["depth"], messages["info"]
    for _ in range(int(rng.integers(1, 4))):
        image = pick([color, depth])
        kind = int(rng.integers(13))
        if kind == 0:
            setattr(image, pick(["width", "height", "step"]), pick(SIZES))
        elif kind == 1:
            image.encoding = pick(WORDS)
        elif kind == 2:
            image.data = bytes(image.data)[: int(rng.integers(len(image.data) + 1))]
        elif kind == 3:
            image.data = rng.bytes(len(image.data))
        elif kind == 4:
            image.is_bigendian = int(rng.integers(256))
        elif kind == 5:
            values = rng.choice(np.array([n for n in NUMBERS if n != 1e300], np.float32), (H, W))
            depth.encoding, depth.step, depth.data = "32FC1", 4 * W, values.tobytes()
        elif kind == 6:
            info.k = numbers(9, K)
        elif kind == 7:
            info.distortion_model = pick(WORDS)
        elif kind == 8:
            info.d = [float(v) for v in rng.normal(0, 10.0 ** rng.integers(-4, 2), int(rng.integers(16)))]
        elif kind == 9:
            info.d = numbers(int(rng.integers(16)), [0.01])
        elif kind == 10:
            info.p, info.r = numbers(12, [30.0, 0, 15.5, 0, 0, 30.0, 11.5, 0, 0, 0, 1.0, 0]), numbers(9, [1.0, 0, 0, 0])
        elif kind == 11:
            setattr(info, pick(["width", "height", "binning_x", "binning_y"]), pick(SIZES))
            info.roi = RegionOfInterest(
                width=pick(SIZES), height=pick(SIZES), x_offset=pick(SIZES), y_offset=pick(SIZES)
            )
        else:
            message = pick([color, depth, info])
            message.header = convert.header(START_NS, pick([OPTICAL, "/" + OPTICAL, "", "nowhere", "é" * 40]))
            message.header.stamp.sec = int(pick([0, -1, -(2**31), 2**31 - 1, message.header.stamp.sec]))
            message.header.stamp.nanosec = int(pick([0, 2**32 - 1, message.header.stamp.nanosec]))


def check_rules(frame: RgbdFrame) -> None:
    """What every frame promises."""
    camera = frame.camera
    assert (frame.rgb.dtype, frame.rgb.shape) == (np.uint8, (camera.height_px, camera.width_px, 3))
    assert (frame.depth_m.dtype, frame.depth_m.shape) == (np.float32, (camera.height_px, camera.width_px))
    assert camera.width_px > 0
    assert camera.height_px > 0
    assert calibration_fault(camera) is None, "finite intrinsics, and a pose that is one"
    assert np.isfinite(np.linalg.inv(camera.K)).all()
    depth = frame.depth_m[~np.isnan(frame.depth_m)]
    assert ((depth > 0) & (depth < SATURATED_M)).all(), "NaN is no depth, and nothing else is"
    assert camera.frame_id == OPTICAL
    assert frame.stamp_ns > 0


def fuzz(harness: Harness, n: int, seed: int) -> dict[str, int]:
    """Mutated messages, each between two good ones. Returns how many became frames and how many were passed over."""
    rng = np.random.default_rng(seed)
    found = {"taken": 0, "passed over": 0}
    for rectified in (False, True):
        harness.readers.clear()
        receiver = harness.receiver(rectified=rectified, max_age_s=3600.0)
        harness.stream(2)
        for _ in range(n // 2):
            harness.wait(1 / 15)
            before = receiver.stamp_ns
            messages = harness.messages()
            mutate(rng, messages)
            for read, part in ((convert.image_to_rgb, "color"), (convert.image_to_depth, "depth")):
                with contextlib.suppress(ValueError):  # the documented error
                    read(messages[part])
            harness.send("".join(rng.permutation(list("cdi"))), messages)
            if receiver.stamp_ns not in (before, 0):
                check_rules(receiver.capture())  # a StageError here would be a frame that counted and cannot be used
                found["taken"] += 1
            else:
                found["passed over"] += 1
            harness.wait(1 / 15)
            harness.send()
            assert receiver.stamp_ns == harness.ns, "the good one after it counts"
    return found


def test_mutated_messages_never_make_a_frame_that_breaks_its_rules(harness: Harness) -> None:
    found = fuzz(harness, 2000, 12)
    assert found["taken"] > 200
    assert found["passed over"] > 500
