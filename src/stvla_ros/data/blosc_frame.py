"""Blosc 1 frames. Their header is checked first: the decompressor trusts it and reads past a truncated end."""

from __future__ import annotations

import struct

MAX_BYTES = 1 << 30
"""Limit of one unpacked frame; 20 keyposes of 4 cameras have 126 MB."""

_HEADER = struct.Struct("<4B3I")
"""Version, codec version, flags, item size, unpacked bytes, block bytes, frame bytes."""

HEADER_BYTES = _HEADER.size


def check_frame(header: bytes, size: int, unpacked_bytes: int | None = None) -> None:
    """Check that a frame is complete and not too large.

    Args:
        header: Its first :data:`HEADER_BYTES`, or more.
        size: Size of the frame in bytes.
        unpacked_bytes: Size that it must have unpacked; None: any up to :data:`MAX_BYTES`.

    Raises:
        ValueError: It is incomplete, too large, or no Blosc frame.
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
    """Unpack a frame.

    Raises:
        ValueError: See :func:`check_frame`; or the frame is damaged.
        ModuleNotFoundError: numcodecs is not installed.
    """
    from numcodecs import blosc

    check_frame(data, len(data))
    try:
        return bytes(blosc.decompress(data))
    except RuntimeError as error:
        raise ValueError(f"a damaged Blosc frame ({error})") from error
