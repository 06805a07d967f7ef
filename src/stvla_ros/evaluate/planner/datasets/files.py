"""Files of published sets: found however the user unpacked them; parquet is read row by row, images one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from stvla_ros import files as stored
from stvla_ros.config import ConfigError
from stvla_ros.files import check_file, read_json, read_json_lines, said
from stvla_ros.types import U8


def find(folder: Path, *patterns: str) -> list[Path]:
    """Files of the first pattern that matches any, at any depth, by name; ``folder`` may itself be such a file.

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
    """The file that a set calls ``name``: below ``folder`` or one of the two above, without leading folders if need be.

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
    """(H, W, 3) RGB of a set's image file. Raises ConfigError when it is missing or not an image."""
    return stored.read_image(resolve(folder, name))


def mask(folder: Path, name: str) -> U8:
    """(H, W) gray of a set's mask file. Raises ConfigError when it is missing or not an image."""
    return stored.read_image(resolve(folder, name), grey=True)


class Rows:
    """The rows of one file.

    Args:
        path: The file.
        images: Columns that hold images; they stay on disk until they are needed.

    Raises:
        ConfigError: pyarrow is not installed, or the file is not parquet.
    """

    def __init__(self, path: Path, images: tuple[str, ...]) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{path}: reading parquet needs the Python package 'pyarrow': install it first."
            ) from error
        check_file(path, "a parquet file")
        self.path, self._wrong = path, (OSError, pa.ArrowException)
        with self._reading():
            self._file: Any = pq.ParquetFile(path)
        self._names = self._file.schema_arrow.names
        self._images = [name for name in images if name in self._names]
        self._groups = np.cumsum(
            [0, *(self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups))]
        )
        self._read_group = lru_cache(maxsize=1)(self._group)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Rows without their images, in order."""
        columns = [name for name in self._names if name not in self._images]
        with self._reading():
            rows = self._file.read(columns=columns).to_pylist()
        yield from rows

    def images(self, row: int, column: str) -> list[U8]:
        """(H, W, 3) RGB images of a cell; an empty cell has none.

        Raises:
            ConfigError: The file has no such column, or a cell is not an image.
        """
        if column not in self._images:
            raise ConfigError(f"{self.path}: wanted a column '{column}', found {', '.join(self._names)}.")
        group = int(np.searchsorted(self._groups, row, side="right")) - 1
        cell = self._read_group(group)[row - int(self._groups[group])][column]
        cells = cell if isinstance(cell, list) else [cell]
        return [self._decoded(c, row, column) for c in cells if c is not None]

    def _group(self, group: int) -> list[dict[str, Any]]:
        with self._reading():
            rows: list[dict[str, Any]] = self._file.read_row_group(group, columns=self._images).to_pylist()
        return rows

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except self._wrong as error:
            raise ConfigError(f"{self.path}: cannot be read as parquet ({said(error)}).") from error

    def _decoded(self, cell: Any, row: int, column: str) -> U8:
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        found = None
        if isinstance(data, bytes) and data:
            found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if found is None:
            raise ConfigError(f"{self.path}: row {row}: wanted an image in '{column}', found none that can be read.")
        return np.asarray(found, np.uint8)
