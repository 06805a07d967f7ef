"""Compressed images of image_transport's plugins: JPEG and PNG, and depth as PNG or RVL."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CompressedImage, Image

_PNG = b"\x89PNG"
_ENCODINGS = {("uint8", (3,)): "bgr8", ("uint8", (4,)): "bgra8", ("uint8", ()): "mono8", ("uint16", ()): "16UC1"}
_DEPTH_HEAD = struct.Struct("<iff")
"""compressed_depth_image_transport's ConfigHeader: format, and the two parameters of quantised inverse depth."""

_RVL_HEAD = struct.Struct("<II")
"""Columns and rows, before the stream of RVL (compressed_depth_image_transport, codec.cpp)."""

MAX_PIXELS = 1 << 26
"""Larger images are damage: no camera has 67 million pixels of depth."""


def decompressed(message: CompressedImage) -> Image:
    """The raw image; quantised inverse depth becomes ``32FC1`` (metres, NaN where unknown).

    Raises:
        ValueError: A codec that is not known, or damaged data.
    """
    data, depth = bytes(message.data), "compressedDepth" in message.format
    if depth:
        head, data = data[: _DEPTH_HEAD.size], data[_DEPTH_HEAD.size :]
    pixels = _rvl(data, message.format) if depth and _is_rvl(data, message.format) else _decoded(data, message.format)
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


def _decoded(data: bytes, format: str) -> npt.NDArray[np.generic]:
    """JPEG or PNG. Raises ValueError for anything else."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error as error:
        raise ValueError(f"an image of '{format}' is damaged ({error.err})") from error
    if pixels is None:
        raise ValueError(f"wanted an image in JPEG or PNG, got {len(data)} bytes of '{format}'")
    return pixels


def _is_rvl(data: bytes, format: str) -> bool:
    """Whether depth is packed with RVL; messages of older plugins name no codec and are PNG."""
    return not data.startswith(_PNG) and "rvl" in format.lower()


def _rvl(data: bytes, format: str) -> npt.NDArray[np.generic]:
    """(H, W) uint16 of depth packed with RVL.

    The stream repeats: number of zeros, number of other pixels, their differences to the pixel before them that was
    not zero, with the sign in the lowest bit. Numbers consist of nibbles with three bits each, lowest first; the
    highest bit says that one more follows. (A. D. Wilson, "Fast Lossless Depth Image Compression", ISS 2017.)

    Raises:
        ValueError: Damaged data.
    """
    damage = ValueError(f"an image of '{format}' is damaged (RVL, {len(data)} bytes)")
    if len(data) < _RVL_HEAD.size:
        raise damage
    width, height = _RVL_HEAD.unpack_from(data)
    numbers = _numbers(data[_RVL_HEAD.size :])
    if not 0 < width * height <= MAX_PIXELS:
        raise damage
    depth, places, deltas = np.zeros(width * height, np.uint16), [], []
    pixel, i = 0, 0
    while pixel < depth.size:
        if i + 1 >= len(numbers):
            raise damage
        zeros, others = int(numbers[i]), int(numbers[i + 1])
        first, end, i = pixel + zeros, pixel + zeros + others, i + 2 + others
        if end > depth.size or i > len(numbers) or end == pixel:
            raise damage
        places.append(np.arange(first, end))
        deltas.append(numbers[i - others : i])
        pixel = end
    packed = np.concatenate(deltas)
    depth[np.concatenate(places)] = np.cumsum((packed >> 1) ^ -(packed & 1)).astype(np.uint16)
    return depth.reshape(height, width)


def _numbers(stream: bytes) -> npt.NDArray[np.int64]:
    """All numbers of an RVL stream; the fill at its end may add one."""
    words = np.frombuffer(stream[: len(stream) // 4 * 4], "<u4")
    nibbles = ((words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32)) & 15).ravel().astype(np.int64)
    last = np.flatnonzero(nibbles < 8)  # the nibble that ends each number
    if not len(last):
        return np.zeros(0, np.int64)
    first = np.concatenate([[0], last[:-1] + 1])
    order = np.arange(len(nibbles)) - np.repeat(first, np.diff(np.concatenate([first, [len(nibbles)]])))
    values = (nibbles & 7) << np.minimum(3 * order, 30)
    return np.asarray(np.add.reduceat(values, first))
