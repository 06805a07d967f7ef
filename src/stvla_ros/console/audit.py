"""Who said, approved, refused, stopped and released what: a file of JSON lines that only grows."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from stvla_ros.config import ConfigError


class AuditLog:
    """Appends one line per act. Thread safe.

    Args:
        path: The file; made with mode 600 if it is missing, with its folder.

    Raises:
        ConfigError: It cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"console.audit: {path}: cannot be written ({error.strerror}).") from error

    def write(self, **fields: str) -> bool:
        """Append a line with the time and these fields; False when that fails (a full disk)."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = f"{json.dumps({'time': now, **fields})}\n".encode()
        with self._lock:
            try:
                return os.write(self._fd, line) == len(line)
            except OSError:
                return False

    def close(self) -> None:
        """Close the file; later lines are not written."""
        with self._lock:
            os.close(self._fd)
            self._fd = -1
