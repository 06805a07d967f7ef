"""Blosc 1 frames: their header is checked first, because the decompressor trusts it and reads past a truncated end."""

from __future__ import annotations

import struct

MAX_BYTES = 1 << 30
"""Of one unpacked frame; 20 keyposes of 4 cameras have 126 MB."""

_HEADER = struct.Struct("<4B3I")
"""Version, version of the codec, flags, size of an item, unpacked bytes, bytes of a block, bytes of the frame."""

HEADER_BYTES = _HEADER.size


def check_frame(header: bytes, size: int, unpacked_bytes: int | None = None) -> None:
    """Whether a frame is all there and not too large.

    Args:
        header: Its first :data:`HEADER_BYTES`, or more.
        size: How many bytes there are in all.
        unpacked_bytes: How many it must have unpacked; None: any number up to :data:`MAX_BYTES`.

    Raises:
        ValueError: It is not so, or this is no frame.
    """
    if size < HEADER_BYTES or len(header) < HEADER_BYTES:
        raise ValueError(f"{size} bytes, too few for a Blosc frame")
    *_, unpacked, _, packed = _HEADER.unpack_from(header)
    if packed != size:
        raise ValueError(f"a Blosc frame of {packed} bytes in a file of {size}: truncated, or another format")
    if unpacked > MAX_BYTES:
        raise ValueError(f"{unpacked} bytes when unpacked, more than {MAX_BYTES}")
    if unpacked_bytes is not None and unpacked != unpacked_bytes:
        raise ValueError(f"{unpacked} bytes when unpacked, wanted {unpacked_bytes}")


def unpack(data: bytes) -> bytes:
    """The bytes in a frame.

    Raises:
        ValueError: See :func:`check_frame`; or it is damaged.
        ModuleNotFoundError: numcodecs is not installed.
    """
    from numcodecs import blosc

    check_frame(data, len(data))
    try:
        return bytes(blosc.decompress(data))
    except RuntimeError as error:
        raise ValueError(f"a damaged Blosc frame ({error})") from error
