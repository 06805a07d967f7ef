"""Our encodings against those of cv_bridge, on machines that have it (apt: ros-jazzy-cv-bridge).

The stack decodes by itself all the same. cv_bridge shears colour rows whose padding is no multiple of a pixel, and its
answer to a wrong message is a NumPy error, where an operator needs a sentence. What both can read must be equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from stvla_ros.ros import convert

cv_bridge = pytest.importorskip("cv_bridge")

H, W = 24, 32
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
MM = RNG.integers(0, 4000, (H, W), dtype=np.uint16)
METRES = np.where(MM == 0, np.float32("nan"), MM.astype(np.float32) / 1000)
HEAD = Header(frame_id="lens")


@pytest.fixture
def bridge() -> Any:
    return cv_bridge.CvBridge()


def message(encoding: str, pixels: np.ndarray, pad: int = 0, big: bool = False) -> Image:
    rows = pixels.reshape(H, -1).astype(pixels.dtype.newbyteorder(">" if big else "<")).view(np.uint8).reshape(H, -1)
    rows = np.pad(rows, ((0, 0), (0, pad)))
    return Image(
        header=HEAD,
        height=H,
        width=W,
        encoding=encoding,
        step=rows.shape[1],
        is_bigendian=int(big),
        data=rows.tobytes(),
    )


@pytest.mark.parametrize("padding_px", [0, 3])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_colours_are_read_alike(bridge: Any, encoding: str, padding_px: int) -> None:
    pixels = RGB if encoding.startswith("rgb") else RGB[..., ::-1]
    if encoding.endswith("a8"):
        pixels = np.concatenate([pixels, np.full((H, W, 1), 7, np.uint8)], axis=2)
    image = message(encoding, pixels, pad=padding_px * pixels.shape[2])
    theirs = bridge.imgmsg_to_cv2(image, "rgb8")
    np.testing.assert_array_equal(convert.image_to_rgb(image), theirs)
    np.testing.assert_array_equal(theirs, RGB)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("encoding", "pixels"), [("16UC1", MM), ("mono16", MM), ("32FC1", METRES)])
def test_depths_are_read_alike(bridge: Any, encoding: str, pixels: np.ndarray, big: bool) -> None:
    if big and not hasattr(np.ndarray, "newbyteorder"):
        pytest.skip("this cv_bridge reads big-endian images with a method that NumPy 2 does not have")
    image = message(encoding, pixels, pad=4 * pixels.itemsize, big=big)
    theirs = bridge.imgmsg_to_cv2(image).astype(np.float32)
    if pixels.dtype.kind == "u":
        theirs = np.where(theirs == 0, np.float32("nan"), theirs * np.float32(0.001))
    np.testing.assert_array_equal(convert.image_to_depth(image), theirs)


@pytest.mark.parametrize(
    ("ours", "pixels", "encoding"),
    [
        (convert.rgb_to_image(RGB, HEAD), RGB, "rgb8"),
        (convert.depth_to_image(METRES, HEAD), METRES, "32FC1"),
        (convert.depth_to_image_mm(METRES, HEAD), MM, "16UC1"),
    ],
    ids=["rgb8", "32FC1", "16UC1"],
)
def test_images_are_written_alike(bridge: Any, ours: Image, pixels: np.ndarray, encoding: str) -> None:
    theirs = bridge.cv2_to_imgmsg(pixels, encoding, HEAD)
    for field in ("height", "width", "encoding", "is_bigendian", "step", "header"):
        assert getattr(ours, field) == getattr(theirs, field), field
    assert ours.data.tobytes() == theirs.data.tobytes()


def test_why_the_stack_does_not_call_it(bridge: Any) -> None:
    """A padding of one byte: rows of 97 bytes hold 32 pixels, as their step says."""
    image = message("rgb8", RGB, pad=1)
    np.testing.assert_array_equal(convert.image_to_rgb(image), RGB)
    assert not np.array_equal(bridge.imgmsg_to_cv2(image, "rgb8"), RGB)
