"""Curves of a training run: one CSV that grows, and a picture of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.files import check_file, said, written

FIELDS = ("step", "split", "total", "position", "rotation", "open", "within_1cm", "median_mm", "samples_per_s", "lr")


class CurveLog:
    """Rows of figures in ``curves.csv``; what an interrupted run wrote beyond its last checkpoint is dropped.

    Args:
        folder: Of the run.
        fields: Names of the columns; the first counts what was done (steps, scenes), the second is the split.
        done: Count of the checkpoint from which the run goes on.
    """

    def __init__(self, folder: Path, fields: Sequence[str], done: int) -> None:
        self._path, self._fields = folder / "curves.csv", tuple(fields)
        empty = dict.fromkeys(self._fields, "")
        self.rows = [empty | row for row in read_rows(self._path, self._fields, done)]
        write_rows(self._path, self._fields, self.rows)

    def add(self, done: int, split: str, figures: Mapping[str, float]) -> None:
        """One row; fields that have no figure stay empty."""
        row = dict.fromkeys(self._fields, "") | dict(zip(self._fields, (str(done), split)))
        row |= {name: f"{value:.6g}" for name, value in figures.items()}
        self.rows.append(row)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._fields).writerow(row)

    def series(self, split: str, name: str) -> tuple[list[int], list[float]]:
        """Counts and values of a column, where it has any."""
        rows = [row for row in self.rows if row["split"] == split and row[name]]
        return [int(row[self._fields[0]]) for row in rows], [float(row[name]) for row in rows]


class Curves(CurveLog):
    """Those of a policy's run."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder, FIELDS, step)

    def draw(self, path: Path) -> None:
        """Loss, its parts, and the error of predicted keyposes over the steps, as PNG."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure((11, 3.6), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        loss, parts, error = figure.subplots(1, 3)
        for split, style in (("train", "-"), ("val", "o-")):
            loss.plot(*self.series(split, "total"), style, label=split, markersize=3, linewidth=1)
        for name in ("position", "rotation", "open"):
            parts.plot(*self.series("val", name), "o-", label=name, markersize=3, linewidth=1)
        error.plot(*self.series("val", "median_mm"), "o-", color="tab:red", markersize=3, linewidth=1)
        for axes, title in ((loss, "loss"), (parts, "validation loss by part"), (error, "median position error [mm]")):
            axes.set(title=title, xlabel="step", yscale="log")
            axes.grid(alpha=0.3)
        loss.legend()
        parts.legend()
        figure.savefig(path)


def read_rows(path: Path, fields: Sequence[str], done: int) -> list[dict[str, str]]:
    """Rows of ``curves.csv`` up to a count; none where there is no file. A last line that was cut off is no row.

    Raises:
        ConfigError: It is no such file.
    """
    if not path.exists():
        return []
    check_file(path, "curves of a run", text=True)
    try:
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        rows = list(csv.DictReader(whole.splitlines()))
        odd = next((row for row in rows if set(row) - set(fields) or None in row.values()), None)
        if odd is not None:
            raise ValueError(f"a row {list(odd.values())}"[:80])
        return [row for row in rows if int(row[fields[0]]) <= done]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise ConfigError(
            f"{path}: not the curves of a run ({said(error)}): delete it, the run goes on without."
        ) from error


def write_rows(path: Path, fields: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Write ``curves.csv`` anew. Raises ConfigError when it cannot be written."""
    with written(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)
