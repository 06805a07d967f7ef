"""Frames from topics: paired by stamp, newest only, refused in words; transforms at the image's stamp."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import stalls
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from stvla_ros.errors import CancelToken, StageError
from stvla_ros.geometry.se3 import pose, rotation_z
from stvla_ros.ros import convert, frames, qos
from stvla_ros.ros.frames import CameraConfig, RgbdReceiver, _measured
from stvla_ros.ros.freshness import OLDER_IN_A_ROW, Instant
from stvla_ros.ros.pairing import KEPT
from stvla_ros.ros.tf import TransformBuffer, TransformError
from stvla_ros.types import Camera, RgbdFrame

K = np.array([[50.0, 0, 15.5], [0, 50.0, 11.5], [0, 0, 1]])
T = pose(rotation_z(0.3), (0.1, 0.2, 0.3))
CONFIG = CameraConfig(timeout_s=1.5)


def frame(value: int = 7) -> RgbdFrame:
    camera = Camera(K, 32, 24, T)
    rgb = np.full((24, 32, 3), value, np.uint8)
    return RgbdFrame(rgb, np.full((24, 32), 0.5, np.float32), camera, 0)


class Source:
    """Publishes the parts of frames as the test says."""

    def __init__(self, ros: Any, profile: Any = qos.IMAGE) -> None:
        self.node = ros.add(Node("source"))
        self._color = self.node.create_publisher(Image, CONFIG.color, profile)
        self._depth = self.node.create_publisher(Image, CONFIG.depth, profile)
        self._info = self.node.create_publisher(CameraInfo, CONFIG.info, profile)
        self._static = self.node.create_publisher(TFMessage, "/tf_static", qos.LATCHED)

    def place(self, child: str = "camera_color_optical_frame") -> None:
        self._static.publish(TFMessage(transforms=[convert.matrix_to_transform(T, "panda_link0", child, 0)]))

    def send(self, stamp_ns: int, parts: str = "cdi", value: int = 7, **changes: Any) -> None:
        head = convert.header(stamp_ns, "camera_color_optical_frame")
        f = frame(value)
        info = convert.camera_to_info(f.camera, head)
        for name, v in changes.items():
            setattr(info, name, v)
        messages = {
            "c": (self._color, convert.rgb_to_image(f.rgb, head)),
            "d": (self._depth, convert.depth_to_image_mm(f.depth_m, head)),
            "i": (self._info, info),
        }
        for part in parts:
            publisher, message = messages[part]
            publisher.publish(message)


@pytest.fixture
def pair(ros: Any) -> tuple[Source, RgbdReceiver]:
    receiver = RgbdReceiver(ros.add(Node("receiver")), CONFIG)
    source = Source(ros)
    _wait(lambda: all(p.get_subscription_count() for p in (source._color, source._depth, source._info)))
    return source, receiver


def _wait(condition: Any, timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_frame_with_its_camera(pair: Any) -> None:
    source, receiver = pair
    source.place()
    now = time.time_ns()
    source.send(now)
    got = receiver.wait(now, CancelToken())
    assert got.stamp_ns == now
    assert (got.rgb == 7).all()
    assert np.allclose(got.depth_m, 0.5)
    np.testing.assert_allclose(got.camera.T_base_camera, T, atol=1e-12)
    assert receiver.wait(now, CancelToken()) is got, "decoded once"


def test_parts_in_any_order_and_late_ones_dropped(pair: Any) -> None:
    source, receiver = pair
    source.place()
    new = time.time_ns()
    old = new - 50_000_000
    source.send(old, "c", 1)
    source.send(new, "idc", 2)
    assert (receiver.wait(new, CancelToken()).rgb == 2).all()
    source.send(old, "id", 1)  # would complete the older frame
    _wait(lambda: receiver.dropped == 2)  # its colour, and its depth
    assert receiver.stamp_ns == new


def test_incomplete_frames_do_not_pile_up(pair: Any) -> None:
    source, receiver = pair
    for _ in range(40):
        source.send(time.time_ns(), "ci")
        time.sleep(0.01)
    _wait(lambda: receiver.dropped > 0)
    assert receiver._pairing.waiting("color") == KEPT
    assert receiver.stamp_ns == 0
    with pytest.raises(
        StageError, match="STALE_IMAGE: No camera image: nothing comes on /camera/camera/aligned_depth_to"
    ):
        receiver.capture()


def test_stale_and_missing(ros: Any) -> None:
    receiver = RgbdReceiver(ros.add(Node("receiver")), CameraConfig(timeout_s=0.3))
    with pytest.raises(
        StageError, match="STALE_IMAGE: No camera image: nobody publishes /camera/camera/color/image_raw"
    ):
        receiver.capture()
    source = Source(ros)
    source.place()
    _wait(lambda: source._color.get_subscription_count() and source._info.get_subscription_count())
    time.sleep(0.3)
    source.send(time.time_ns() - 3_000_000_000)
    _wait(lambda: receiver.stamp_ns > 0)
    with pytest.raises(
        StageError, match=r"with a stamp 3\.\d+ s old; at most 1 s is accepted: the clock .* is [23]\.\d s behind"
    ):
        receiver.capture()


def test_cancel_ends_the_wait(pair: Any) -> None:
    import threading

    _, receiver = pair
    cancel = CancelToken()
    threading.Timer(0.2, cancel.cancel).start()
    start = stalls.clock()
    with pytest.raises(StageError, match="CANCELED"):
        receiver.wait(0, cancel, 10.0)
    assert stalls.clock() - start < 1.0


def test_no_transform(pair: Any) -> None:
    source, receiver = pair
    source.place("another_frame")
    source.send(time.time_ns())
    with pytest.raises(StageError, match="no transform from panda_link0 to camera_color_optical_frame is known"):
        receiver.capture()


# --- frames of the past -------------------------------------------------------------------------------------------


@pytest.fixture
def keeper(ros: Any) -> tuple[Source, RgbdReceiver]:
    """A receiver that keeps the frames of one second; its source has sent one of 10 s ago."""
    receiver = RgbdReceiver(ros.add(Node("keeper")), CONFIG, keep_s=1.0)
    source = Source(ros)
    _wait(lambda: all(p.get_subscription_count() for p in (source._color, source._depth, source._info)))
    source.place()
    return source, receiver


def _send_in_order(source: Source, receiver: RgbdReceiver, stamps_ns: list[int]) -> None:
    """Frames of values 1, 2, ...; each has come before the next is sent."""
    for value, stamp_ns in enumerate(stamps_ns, start=1):
        source.send(stamp_ns, value=value)
        _wait(lambda stamp_ns=stamp_ns: receiver.stamp_ns == stamp_ns)


def test_the_last_frames_are_found_by_their_stamps_and_decoded_once(keeper: Any, monkeypatch: Any) -> None:
    source, receiver = keeper
    decoded: list[int] = []
    plain = RgbdReceiver._frame
    monkeypatch.setattr(RgbdReceiver, "_frame", lambda self, p: (decoded.append(p.stamp_ns), plain(self, p))[1])
    now = time.time_ns()
    stamps = [now - 2_000_000_000, now - 900_000_000, now - 500_000_000, now]
    _send_in_order(source, receiver, stamps)
    assert not decoded, "pixels are decoded when somebody asks for them"
    with pytest.raises(StageError, match=r"STALE_IMAGE: The image of \d+\.\d{3} s did not reach 'keeper' completely"):
        receiver.at(stamps[0], 0.0)
    assert [int(receiver.at(s, 0.0).rgb[0, 0, 0]) for s in stamps[1:]] == [2, 3, 4]
    assert receiver.at(now, 0.0) is receiver.capture()
    assert receiver.at(stamps[1], 0.0) is receiver.at(stamps[1], 0.0)
    assert decoded == stamps[1:]


def test_a_pinned_frame_stays_until_four_others_were_pinned(keeper: Any) -> None:
    source, receiver = keeper
    now = time.time_ns()
    here, to_come, *later = (now - (9 - i) * 1_000_000_000 for i in range(9))
    source.send(here, value=1)
    _wait(lambda: receiver.stamp_ns == here)
    for stamp_ns in (here, to_come, here):  # told twice is pinned once
        receiver.pin(stamp_ns)
    _send_in_order(source, receiver, [to_come, *later[:-1]])
    assert receiver.at(here, 0.0).stamp_ns == here
    assert receiver.at(to_come, 0.0).stamp_ns == to_come
    for stamp_ns in later[-4:-1]:
        receiver.pin(stamp_ns)
    source.send(later[-1])
    _wait(lambda: receiver.stamp_ns == later[-1])
    assert receiver.at(to_come, 0.0).stamp_ns == to_come
    with pytest.raises(StageError, match="STALE_IMAGE"):
        receiver.at(here, 0.0)
    assert len(receiver._kept) <= 4 + 2, "pinned ones, and those of the last second"


def test_a_frame_that_lost_a_part_is_not_waited_for(keeper: Any) -> None:
    """One that is still to come is."""
    import threading

    source, receiver = keeper
    now = time.time_ns()
    source.send(now - 200_000_000, "ci")
    source.send(now - 100_000_000)
    _wait(lambda: receiver.stamp_ns == now - 100_000_000)
    start = time.monotonic()
    with pytest.raises(StageError, match="STALE_IMAGE"):
        receiver.at(now - 200_000_000, 60.0)
    assert time.monotonic() - start < 30.0
    threading.Timer(0.3, source.send, (now,)).start()
    assert receiver.at(now, 60.0).stamp_ns == now


def test_frames_of_a_clock_that_went_back_are_forgotten(keeper: Any) -> None:
    source, receiver = keeper
    now = time.time_ns()
    _send_in_order(source, receiver, [now])
    for tick in range(1, OLDER_IN_A_ROW):
        source.send(now - 20_000_000_000 + tick)
        _wait(lambda tick=tick: receiver.dropped == 2 * tick)
    back_ns = now - 20_000_000_000 + OLDER_IN_A_ROW
    source.send(back_ns)
    _wait(lambda: receiver.stamp_ns == back_ns)
    assert list(receiver._kept) == [back_ns]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"distortion_model": "fov"}, "wanted the distortion model plumb_bob or rational_polynomial"),
        ({"d": [-9.0, 0.0, 0.0, 0.0, 0.0]}, "wanted a distortion that can be removed"),
        ({"d": [0.1, 0.0, 0.0]}, "wanted 4 or 5 or 8 or 12 or 14 coefficients of distortion"),
        ({"k": [50.0, 0.0, float("nan"), 0.0, 50.0, 11.5, 0.0, 0.0, 1.0]}, "wanted intrinsics with positive focal"),
        ({"width": 64}, "wanted the CameraInfo of the colour image, got one of 64x24 for colour 32x24"),
        ({"k": np.zeros(9)}, "wanted a calibrated camera"),
    ],
)
def test_unusable_cameras_are_refused(pair: Any, changes: dict[str, Any], sentence: str) -> None:
    source, receiver = pair
    source.place()
    source.send(time.time_ns(), **changes)
    with pytest.raises(StageError, match=f"STALE_IMAGE: The camera's images cannot be used: {sentence}"):
        receiver.capture()


def test_distortion_is_undone(pair: Any) -> None:
    source, receiver = pair
    source.place()
    source.send(time.time_ns(), d=[0.9, 0.0, 0.0, 0.0, 0.0])
    got = receiver.capture()
    np.testing.assert_array_equal(got.camera.K, K)
    assert np.isnan(got.depth_m[0, 0])
    assert (got.rgb[0, 0] == 0).all()
    assert got.depth_m[12, 16] == np.float32(0.5)
    assert (got.rgb[12, 16] == 7).all()


def test_what_is_no_measurement_is_unknown() -> None:
    depth = np.full((24, 32), 0.5, np.float32)
    bad = [0.0, -1.0, 65.535, np.inf, np.nan]
    depth[0, :5] = bad
    f = frame()
    head = convert.header(1, "camera_color_optical_frame")
    messages = (
        convert.rgb_to_image(f.rgb, head),
        convert.depth_to_image(depth, head),
        convert.camera_to_info(f.camera, head),
    )
    got = _measured(convert.frame_from_msgs(*messages, T))
    assert np.isnan(got.depth_m[0, :5]).all()
    assert (got.depth_m[1:] == np.float32(0.5)).all()
    assert _measured(f) is f


def test_best_effort_camera_is_heard(ros: Any) -> None:
    receiver = RgbdReceiver(ros.add(Node("receiver")), CONFIG)
    source = Source(ros, qos.IMAGE_BEST_EFFORT)
    source.place()
    end = time.monotonic() + 5.0
    while receiver.stamp_ns == 0 and time.monotonic() < end:
        source.send(time.time_ns())
        time.sleep(0.05)
    assert receiver.capture().rgb.shape == (24, 32, 3)


def test_an_info_and_a_transform_that_were_sent_once_before_we_came(ros: Any) -> None:
    """Both latched, the info by a publisher of its own; images go on without an info of their stamp."""
    source = Source(ros)
    latched = source.node.create_publisher(CameraInfo, CONFIG.info, qos.LATCHED_NEWEST)
    info = convert.camera_to_info(frame().camera, convert.header(0, "/camera_color_optical_frame"))
    latched.publish(info)
    source.place()
    receiver = RgbdReceiver(ros.add(Node("receiver")), CONFIG)
    _wait(lambda: source._color.get_subscription_count() and source._depth.get_subscription_count())

    def seen() -> bool:
        source.send(time.time_ns(), "cd")
        time.sleep(0.05)
        return receiver.stamp_ns > 0

    _wait(seen, 20.0)
    assert (receiver._newest.messages["info"].k == info.k).all()


def test_static_transforms_of_who_does_not_latch(pair: Any) -> None:
    source, receiver = pair
    volatile = source.node.create_publisher(TFMessage, "/tf_static", qos.EVENT)
    _wait(volatile.get_subscription_count)
    source._static = volatile
    source.place()
    _wait(lambda: receiver.transforms.connects("panda_link0", "camera_color_optical_frame"))


def test_a_camera_whose_clock_is_ahead_is_refused(pair: Any) -> None:
    source, receiver = pair
    source.place()
    source.send(time.time_ns() + 30_000_000_000)
    with pytest.raises(
        StageError, match=r"STALE_IMAGE: The clock of the machine .*image_raw is (30\.0|29\.\d) s ahead"
    ):
        receiver.capture()
    assert "ahead" in (receiver.fault(2.0) or "")
    source.send(time.time_ns())
    receiver.capture()
    assert receiver.fault(60.0) is None


def test_a_silent_camera_is_stale_whatever_its_clock_says(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source, receiver = pair
    source.place()
    source.send(time.time_ns())
    receiver.capture()
    came = receiver._newest.arrival.at
    monkeypatch.setattr(frames, "now", lambda node: Instant(came.ns - 5_000_000_000, came.monotonic_s + 1.5))
    assert receiver.age_s() == 1.5
    assert (
        receiver.fault(1.0)
        == "The newest camera image on /camera/camera/color/image_raw is 1.50 s old; at most 1 s is accepted."
    )


def test_our_clock_set_back_does_not_deafen(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source, receiver = pair
    source.place()
    stamp_ns = time.time_ns()
    source.send(stamp_ns)
    receiver.capture()
    back_ns = stamp_ns - 3_000_000_000
    monkeypatch.setattr(frames, "now", lambda node: Instant(back_ns, time.monotonic()))
    source.send(back_ns, value=9)
    _wait(lambda: receiver.stamp_ns == back_ns)
    assert (receiver.capture().rgb == 9).all()


def test_a_moving_camera_is_waited_for(pair: Any) -> None:
    """Transforms come later than images, as from a robot's state publisher: the frame is given out when it is placed."""
    source, receiver = pair
    moving = source.node.create_publisher(TFMessage, "/tf", 10)
    _wait(moving.get_subscription_count)
    stamp_ns = time.time_ns()
    camera = "camera_color_optical_frame"

    def place(at_ns: int, x_m: float) -> None:
        moving.publish(
            TFMessage(
                transforms=[convert.matrix_to_transform(pose(np.eye(3), (x_m, 0, 0)), "panda_link0", camera, at_ns)]
            )
        )

    place(stamp_ns - 50_000_000, 0.1)
    for number in (1, 2):  # one after the other: a best-effort reader may lose images that come at one moment
        source.send(stamp_ns + (number - 1) * 40_000_000, value=number)
        _wait(lambda number=number: len(receiver._unplaced) == number)
    assert receiver.stamp_ns == 0
    with pytest.raises(
        StageError, match=r"STALE_IMAGE: The camera's images cannot be used: the transform .* is not known at"
    ):
        receiver.wait(0, CancelToken(), 0.1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(receiver.wait, 0, CancelToken(), 5.0)
        place(stamp_ns + 10_000_000, 0.7)
        got = waiting.result()
    assert got.stamp_ns == stamp_ns, "the newer one is still ahead of its transform"
    assert got.camera.T_base_camera[0, 3] == pytest.approx(0.6)
    place(stamp_ns + 50_000_000, 0.7)
    assert (receiver.wait(stamp_ns + 1, CancelToken()).rgb == 2).all()


# --- transforms --------------------------------------------------------------------------------------------------


def edge(parent: str, child: str, matrix: np.ndarray, stamp_ns: int = 0) -> TFMessage:
    return TFMessage(transforms=[convert.matrix_to_transform(matrix, parent, child, stamp_ns)])


@pytest.fixture
def buffer(ros: Any) -> TransformBuffer:
    return TransformBuffer(ros.add(Node("transforms")))


def test_chains_in_both_directions(buffer: TransformBuffer) -> None:
    A, B = pose(rotation_z(0.5), (1, 2, 3)), pose(rotation_z(-1.0), (0, 0, 1))
    buffer.add(edge("base", "mount", A), static=True)
    buffer.add(edge("mount", "camera", B), static=True)
    np.testing.assert_allclose(buffer.lookup("base", "camera", 5), A @ B, atol=1e-12)
    np.testing.assert_allclose(buffer.lookup("camera", "base", 5), np.linalg.inv(A @ B), atol=1e-12)
    np.testing.assert_allclose(buffer.lookup("mount", "mount", 5), np.eye(4))
    with pytest.raises(TransformError, match="no transform from base to nowhere"):
        buffer.lookup("base", "nowhere", 5)


def test_the_root_of_a_cameras_frames_is_what_a_calibration_places(buffer: TransformBuffer) -> None:
    buffer.add(edge("camera_link", "colour", np.eye(4)), static=True)
    buffer.add(edge("colour", "optical", np.eye(4)), static=True)
    assert buffer.root("base", "optical") == "camera_link"  # nobody has placed it yet
    buffer.add(edge("world", "base", np.eye(4)), static=True)
    buffer.add(edge("world", "camera_link", np.eye(4)), static=True)
    assert buffer.root("base", "optical") == "camera_link"
    assert buffer.root("base", "alone") == "alone"


def test_interpolation_at_the_image_stamp(buffer: TransformBuffer) -> None:
    """A camera in the hand: half way in time is half way on the arc."""
    for stamp, angle, x in ((1000, 0.0, 0.0), (3000, 3.0, 0.2), (2000, 1.0, 0.1)):  # the last came late
        buffer.add(edge("base", "camera", pose(rotation_z(angle), (x, 0, 0)), stamp), static=False)
    np.testing.assert_allclose(buffer.lookup("base", "camera", 2000), pose(rotation_z(1.0), (0.1, 0, 0)), atol=1e-12)
    np.testing.assert_allclose(buffer.lookup("base", "camera", 2500), pose(rotation_z(2.0), (0.15, 0, 0)), atol=1e-12)
    for stamp in (900, 3100):
        with pytest.raises(TransformError, match="not known at the image's stamp"):
            buffer.lookup("base", "camera", stamp)


def test_stamp_zero_is_the_newest(buffer: TransformBuffer) -> None:
    for stamp, x in ((1000, 0.1), (3000, 0.2)):
        buffer.add(edge("base", "camera", pose(np.eye(3), (x, 0, 0)), stamp), static=False)
    assert buffer.lookup("base", "camera", 0)[0, 3] == 0.2


def test_old_samples_are_forgotten(buffer: TransformBuffer) -> None:
    for i in range(30):
        buffer.add(edge("base", "camera", np.eye(4), i * 1_000_000_000), static=False)
    with pytest.raises(TransformError):
        buffer.lookup("base", "camera", 5_000_000_000)
    buffer.lookup("base", "camera", 25_500_000_000)


def test_transform_without_rotation_is_skipped(buffer: TransformBuffer) -> None:
    broken = edge("base", "camera", np.eye(4))
    broken.transforms[0].transform.rotation.w = 0.0
    buffer.add(broken, static=True)
    with pytest.raises(TransformError):
        buffer.lookup("base", "camera", 0)
    broken.transforms += edge("base", "lamp", np.eye(4)).transforms
    buffer.add(broken, static=True)
    buffer.lookup("base", "lamp", 0)


def test_loops_end(buffer: TransformBuffer) -> None:
    buffer.add(edge("a", "b", np.eye(4)), static=True)
    buffer.add(edge("b", "a", np.eye(4)), static=True)
    with pytest.raises(TransformError):
        buffer.lookup("a", "x", 0)
