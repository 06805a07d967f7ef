"""Finding files of published sets, however the user unpacked them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stvla_ros import files as stored
from stvla_ros.config import ConfigError
from stvla_ros.files import read_json, read_json_lines
from stvla_ros.types import U8


def find(folder: Path, *patterns: str) -> list[Path]:
    """Files of the first pattern that matches any, at any depth, by name; ``folder`` may be such a file itself.

    Raises:
        ConfigError: None matches.
    """
    if folder.is_file():
        return [folder]
    for pattern in patterns:
        found = sorted(path for path in folder.rglob(pattern) if path.is_file())
        if found:
            return found
    raise ConfigError(f"{folder}: wanted {' or '.join(patterns)} in it, found neither." if patterns[1:] else
                      f"{folder}: wanted {patterns[0]} in it, found none.")  # fmt: skip


def records(path: Path) -> list[Mapping[str, Any]]:
    """Objects of a ``.json`` list or of ``.jsonl`` lines.

    Raises:
        ConfigError: Not that.
    """
    content = list(read_json_lines(path)) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise ConfigError(f"{path}: wanted a list of objects, found something else.")
    return content


def value(record: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A field of a record. Raises ConfigError when it is missing or of another type."""
    found = record.get(key)
    if not isinstance(found, kind):
        names = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
        raise ConfigError(f"{where}: wanted '{key}' of type {names}, found {str(found)[:60]!r}.")
    return found


def box(numbers: Any, where: str) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2. Raises ConfigError unless they are four finite numbers in order."""
    try:
        x1, y1, x2, y2 = (float(n) for n in numbers)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: wanted a box of four numbers, found {str(numbers)[:60]}.") from None
    if not (np.isfinite([x1, y1, x2, y2]).all() and x1 <= x2 and y1 <= y2):
        raise ConfigError(f"{where}: wanted a box x1 <= x2, y1 <= y2, found {[x1, y1, x2, y2]}.")
    return x1, y1, x2, y2


def resolve(folder: Path, name: str) -> Path:
    """The file that a set calls ``name``: below ``folder`` or one of the two above it, with leading folders left out as needed.

    Raises:
        ConfigError: There is none.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    for skipped in range(len(parts)):
        for base in (folder, *list(folder.parents)[:2]):
            path = base.joinpath(*[part for part in parts[skipped:] if part != ".."])
            if path.is_file():
                return path
    raise ConfigError(f"{folder}: wanted the file '{name}' below it, found none.")


def image(folder: Path, name: str) -> U8:
    """(H, W, 3) RGB of a set's image file. Raises ConfigError when it is not there or is no image."""
    return stored.read_image(resolve(folder, name))


def mask(folder: Path, name: str) -> U8:
    """(H, W) gray of a set's mask file. Raises ConfigError when it is not there or is no image."""
    return stored.read_image(resolve(folder, name), grey=True)
