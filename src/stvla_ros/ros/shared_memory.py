"""Clears away the shared memory of processes that were killed.

Fast DDS gives each participant a segment in ``/dev/shm`` (32 MB with our profile) and removes it when the participant
ends. After ``kill -9`` it stays until the machine is restarted. The owner holds a lock on the file beside it.
"""

from __future__ import annotations

import fcntl
import re
import time
from pathlib import Path

DIRECTORY = Path("/dev/shm")
_LOCK = re.compile(r"(fastrtps_[0-9a-f]{16})_el")


def remove_orphans(directory: Path = DIRECTORY, older_than_s: float = 10.0) -> int:
    """Remove segments whose owner is gone; those of other users are passed over.

    Args:
        directory: Where they are.
        older_than_s: Younger ones stay: their owner may be about to take its lock.

    Returns:
        How many bytes were freed.
    """
    freed = 0
    for lock in directory.glob("fastrtps_*_el"):
        match = _LOCK.fullmatch(lock.name)
        if match and _age_s(lock) >= older_than_s:
            freed += _remove(directory / match[1], lock)
    return freed


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _remove(segment: Path, lock: Path) -> int:
    """Bytes freed: 0 when the lock is held or the files are not ours."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = segment.stat().st_size if segment.exists() else 0
            segment.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
    except OSError:  # in use, gone meanwhile, or another user's
        return 0
    return size
