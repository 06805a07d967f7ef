"""Rows of parquet files; images are read one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.files import check_file, said
from stvla_ros.types import U8


class Rows:
    """The rows of one file.

    Args:
        path: The file.
        images: Columns that hold images; they are left on disk until asked for.

    Raises:
        ConfigError: pyarrow is not installed, or the file is none of parquet.
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
        """(H, W, 3) RGB images of a cell; none where it is empty.

        Raises:
            ConfigError: The file has no such column, or a cell that is no image.
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
