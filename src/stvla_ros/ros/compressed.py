"""Raw images of compressed ones, as the plugins of image_transport write them."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

_PNG = b"\x89PNG"
_ENCODINGS = {("uint8", (3,)): "bgr8", ("uint8", (4,)): "bgra8", ("uint8", ()): "mono8", ("uint16", ()): "16UC1"}
_DEPTH_HEAD = struct.Struct("<iff")
"""compressed_depth_image_transport's ConfigHeader: format, and the two parameters of quantised inverse depth."""


def decompressed(message: CompressedImage) -> Image:
    """The raw image; what was quantised inverse depth is ``32FC1`` (metres, NaN where unknown).

    Raises:
        ValueError: A codec that OpenCV does not know, or damaged data.
    """
    data, depth = bytes(message.data), "compressedDepth" in message.format
    if depth:
        head, data = data[: _DEPTH_HEAD.size], data[_DEPTH_HEAD.size :]
        if not data.startswith(_PNG):
            raise ValueError(
                f"wanted compressedDepth as PNG, got '{message.format}': make raw images of it while the bag is played "
                "(ros2 run image_transport republish compressedDepth raw) and record those"
            )
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:
        raise ValueError(f"an image of '{message.format}' is damaged ({error.err})") from error
    if pixels is None:
        raise ValueError(f"wanted an image in JPEG or PNG, got {len(data)} bytes of '{message.format}'")
    encoding = _ENCODINGS.get((pixels.dtype.name, pixels.shape[2:]))
    if encoding is None:
        raise ValueError(f"wanted colour or depth, got {pixels.dtype} {pixels.shape} of '{message.format}'")
    if depth and message.format.startswith("32FC1"):
        _, a, b = _DEPTH_HEAD.unpack(head)
        metres = np.float32(a) / np.maximum(pixels.astype(np.float32) - np.float32(b), np.float32(1e-6))
        pixels, encoding = np.where(pixels == 0, np.float32(np.nan), metres), "32FC1"
    h, w = pixels.shape[:2]
    step = pixels.nbytes // h
    return Image(header=message.header, height=h, width=w, encoding=encoding, step=step, data=pixels.tobytes())
