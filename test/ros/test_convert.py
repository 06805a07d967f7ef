"""Every value survives the way to a message and back."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from stvla_msgs.msg import Outcome as OutcomeMsg

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.pipeline import TaskState
from stvla_ros.ros import convert, task_state
from stvla_ros.ros.robot_state import state_from_msg, state_to_msg
from stvla_ros.types import Camera, Guidance, Instance, Keypose, Outcome, RgbdFrame, RobotState, Trace3d, TracePlan

rng = np.random.default_rng(3)


def over_the_wire(message: Any) -> Any:
    """What a subscriber in another process gets."""
    return deserialize_message(serialize_message(message), type(message))


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Bit-equal, except (4, 4) poses, which went through a quaternion."""
    assert type(a) is type(b), where
    if dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, tuple) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, np.ndarray) and a.shape == (4, 4):
        np.testing.assert_allclose(a, b, atol=1e-12, err_msg=where)
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), where
    else:
        assert a == b or (a != a and b != b), where


def rotation() -> np.ndarray:
    Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return Q * np.linalg.det(Q)


def pose() -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = rotation(), rng.normal(size=3)
    return T


def camera(w: int = 64, h: int = 48) -> Camera:
    return Camera(np.array([[60.5, 0, 31.5], [0, 61.25, 23.5], [0, 0, 1]]), w, h, pose(), "camera_color_optical_frame")


def frame() -> RgbdFrame:
    cam = camera()
    depth = rng.uniform(0.2, 3, (48, 64)).astype(np.float32)
    depth[:5] = np.nan
    return RgbdFrame(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), depth, cam, 1_764_000_000_123_456_789)


def plan(**changes: Any) -> TracePlan:
    values: dict[str, Any] = {
        "instruction": "Put the red block in the plate.",
        "sub_instruction": "pick up the red block and put it in the plate",
        "uv": rng.uniform(0, 1000, (8, 2)),
        "start_depth_m": float("nan"),
        "depth_offset_m": rng.normal(size=8),
        "step_index": 2,
        "finished": False,
        "planner": "colour",
        "raw_reply": "{\n}",
        "image_stamp_ns": 1_764_000_000_999_999_999,
        "plan_id": "a1",
    }
    return TracePlan(**{**values, **changes})


def trace(points: int = 17) -> Trace3d:
    xyz = rng.normal(size=(points, 3)).astype(np.float32)
    return Trace3d(xyz, rng.integers(0, 4, points, dtype=np.uint8), "a1", "push the blue button", ("lifted 2 mm",))


def test_keypose() -> None:
    for opened, touch in ((True, False), (False, True)):
        value = Keypose(pose(), opened, touch, 12_000_000_345)
        assert_same(value, convert.keypose_from_msg(over_the_wire(convert.keypose_to_msg(value, "base")), "base"))


def test_a_keypose_in_another_frame_is_refused() -> None:
    message = convert.keypose_to_msg(Keypose(np.eye(4), True), "world")
    with pytest.raises(ValueError, match="wanted a pose in the frame fr3_link0, got one in 'world'"):
        convert.keypose_from_msg(message, "fr3_link0")
    with pytest.raises(StageError, match="INVALID_GOAL: The history has a keypose that cannot be used"):
        convert.history_from_msg([message], "fr3_link0")


def test_plan() -> None:
    for value in (plan(), plan(start_depth_m=0.734, finished=True, sub_instruction="", raw_reply="", step_total=3)):
        assert_same(value, convert.plan_from_msg(over_the_wire(convert.plan_to_msg(value))))


def test_task_state() -> None:
    told = TaskState(
        "Push both.", "push one", 1, 2, False, ("a", "b"), "p", 4, 3, 2, 1, "Too low.", (0.5, 1.5), "the lime block"
    )
    for value in (told, TaskState("Push.")):
        message = over_the_wire(task_state.state_to_msg(value, "moving", 7_000_000_001))
        assert task_state.state_from_msg(message) == value
        assert (message.phase, convert.time_to_ns(message.header.stamp)) == ("moving", 7_000_000_001)
    assert np.isnan(message.plan_p50_s)
    assert task_state.state_to_msg(told, "idle", 0).plan_p50_s == 1.0


def test_trace() -> None:
    for value in (trace(), replace(trace(1), notes=())):
        assert_same(value, convert.trace_from_msg(over_the_wire(convert.trace_to_msg(value, 5, "base"))))


def test_guidance() -> None:
    f = frame()
    thing = Instance(4, rng.normal(size=3), rng.uniform(size=3))
    for value in (
        Guidance(trace(), 0.0123456789, (1, 4), (), f, "off"),
        Guidance(trace(), 0.05, (4,), (7,), f, "full", (thing,), 0.123, ("The camera moved.",)),
    ):
        message = over_the_wire(convert.guidance_to_msg(value, "base"))
        assert_same(value, convert.guidance_from_msg(message))


def test_guidance_of_an_unknown_mode_is_refused() -> None:
    message = convert.guidance_to_msg(Guidance(trace(), 0.05, (), (), frame(), "off"), "base")
    message.mode = ""
    with pytest.raises(ValueError, match="wanted one of full, mask_only, off, got ''"):
        convert.guidance_from_msg(message)


def test_robot_state() -> None:
    from stvla_ros.description.kinematics import tcp_pose

    q = rng.uniform(-1, 1, 7)
    value = RobotState(q, rng.normal(size=7), tcp_pose(q), 0.0625, 7_000_000_001)
    message = over_the_wire(state_to_msg(value))
    assert_same(value, state_from_msg(message, 2 * message.position[7]))


@pytest.mark.parametrize("code", list(OutcomeCode))
def test_outcome(code: OutcomeCode) -> None:
    value = Outcome(code, "Wanted x, found y: do z.", {"plan": 0.25, "motion": 1.5})
    assert_same(value, convert.outcome_from_msg(over_the_wire(convert.outcome_to_msg(value))))
    assert getattr(OutcomeMsg, code.name) == code


def test_message_has_no_other_codes() -> None:
    constants = {n: getattr(OutcomeMsg, n) for n in dir(OutcomeMsg) if n.isupper() and not n.startswith("_")}
    assert {n: v for n, v in constants.items() if isinstance(v, int)} == {c.name: c.value for c in OutcomeCode}


def test_failures_are_raised_by_readers() -> None:
    error = StageError(OutcomeCode.LIFT_NO_DEPTH, "No depth near (10, 20).")
    with pytest.raises(StageError, match="No depth near") as caught:
        convert.trace_from_msg(over_the_wire(convert.failed_trace_msg(plan(), error, "base")))
    assert caught.value.code is OutcomeCode.LIFT_NO_DEPTH
    failed = convert.failed_guidance_msg("a1", StageError(OutcomeCode.MASK_EMPTY, "Nothing."), 5)
    with pytest.raises(StageError, match="MASK_EMPTY"):
        convert.guidance_from_msg(over_the_wire(failed))


def test_frame_as_camera_messages() -> None:
    value = frame()
    head = convert.header(value.stamp_ns, value.camera.frame_id)
    messages = (
        convert.rgb_to_image(value.rgb, head),
        convert.depth_to_image(value.depth_m, head),
        convert.camera_to_info(value.camera, head),
    )
    assert_same(value, convert.frame_from_msgs(*map(over_the_wire, messages), value.camera.T_base_camera))


def test_depth_in_millimetres() -> None:
    depth = np.array([[0.0, np.nan, 0.001, 1.2345, 65.535, 70.0, -1.0, np.inf]], np.float32)
    back = convert.image_to_depth(over_the_wire(convert.depth_to_image_mm(depth, Header())))
    expected = np.array([[np.nan, np.nan, 0.001, 1.234, 65.535, np.nan, np.nan, np.nan]], np.float32)
    np.testing.assert_allclose(back, expected, atol=1e-6)
    again = convert.image_to_depth(convert.depth_to_image_mm(back, Header()))
    assert np.array_equal(back, again, equal_nan=True), "millimetres must survive a second round trip exactly"


def test_padding_bgr_and_big_endian() -> None:
    image = convert.rgb_to_image(frame().rgb, Header())
    padded = np.zeros((48, 200), np.uint8)
    padded[:, :192] = np.frombuffer(image.data, np.uint8).reshape(48, 192)
    image.step, image.data = 200, padded.tobytes()
    plain = convert.image_to_rgb(image)
    image.encoding = "bgr8"
    assert np.array_equal(convert.image_to_rgb(image), plain[..., ::-1])
    depth = convert.depth_to_image_mm(np.full((2, 3), 0.5, np.float32), Header())
    depth.is_bigendian, depth.data = 1, np.full((2, 3), 500, ">u2").tobytes()
    assert np.allclose(convert.image_to_depth(depth), 0.5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"encoding": "mono8"}, "rgb8, bgr8, rgba8, bgra8, got encoding 'mono8'"),
        ({"data": b"123"}, "got 3 bytes"),
        ({"step": 10}, "with step 10"),
        ({"width": 32}, "depth aligned to colour, got colour 32x48, depth 64x48"),
    ],
)
def test_bad_images_are_refused_in_words(change: dict[str, Any], sentence: str) -> None:
    value = frame()
    color = convert.rgb_to_image(value.rgb, Header())
    for name, v in change.items():
        setattr(color, name, v)
    with pytest.raises(ValueError, match=sentence):
        convert.frame_from_msgs(
            color,
            convert.depth_to_image(value.depth_m, Header()),
            convert.camera_to_info(value.camera, Header()),
            np.eye(4),
        )


def test_distorted_camera_is_refused() -> None:
    info = convert.camera_to_info(camera(), Header())
    info.d = [0.1, -0.2, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"distortion D = \[0\.1, -0.2"):
        convert.info_to_camera(info, np.eye(4))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions(xyzw: list[float]) -> None:
    x, y, z, w = np.array(xyzw) / np.linalg.norm(xyzw)
    R = convert.quaternion_to_matrix(convert.Quaternion(x=x, y=y, z=z, w=w))
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-14)
    again = convert.quaternion_to_matrix(convert.matrix_to_quaternion(R))
    np.testing.assert_allclose(R, again, atol=1e-14)


def test_filling_an_image_is_fast() -> None:
    """From a NumPy view the message setter would take 84 ms for 640x480."""
    import time

    rgb = np.zeros((480, 640, 3), np.uint8)
    best = min(_seconds(lambda: convert.rgb_to_image(rgb, Header()), time.thread_time) for _ in range(5))
    assert best < 0.01


def _seconds(work: Any, clock: Any) -> float:
    start = clock()
    work()
    return float(clock() - start)
