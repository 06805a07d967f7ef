"""Which steps are done: a stamp holds the hash of all that a step was made from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def files_below(*folders: Path) -> list[Path]:
    """All files below some folders, sorted, without compiled Python."""
    found = (path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return sorted(found)


def digest(*facts: str, files: Iterable[Path] = ()) -> str:
    """Hash of some facts and of the names and contents of files."""
    total = hashlib.sha256("\0".join(facts).encode())
    for path in files:
        total.update(f"\0{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


class Stamp:
    """Remembers in a file what a step was last finished with."""

    def __init__(self, venv: Path, step: str) -> None:
        self._path = venv / "stamps" / step

    def holds(self, key: str) -> bool:
        """The step was finished with exactly this."""
        return self._path.is_file() and self._path.read_text() == key

    def clear(self) -> None:
        """Before the step starts: if it is interrupted, it is not taken for done."""
        self._path.unlink(missing_ok=True)

    def set(self, key: str) -> None:
        """The step is finished."""
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(key)
