"""Curves of a training run: one CSV that grows, and a picture of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

FIELDS = ("step", "split", "total", "position", "rotation", "open", "within_1cm", "median_mm", "samples_per_s", "lr")


class Curves:
    """Appends rows to ``curves.csv``; what an interrupted run wrote beyond its last checkpoint is dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        self._path = folder / "curves.csv"
        self.rows = [row for row in _read(self._path) if int(row["step"]) <= step]
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(self.rows)

    def add(self, step: int, split: str, figures: Mapping[str, float]) -> None:
        """One row; fields that have no figure stay empty."""
        row = dict.fromkeys(FIELDS, "") | {"step": str(step), "split": split}
        row |= {name: f"{value:.6g}" for name, value in figures.items()}
        self.rows.append(row)
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, FIELDS).writerow(row)

    def draw(self, path: Path) -> None:
        """Loss, its parts, and the error of predicted keyposes over the steps, as PNG."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure((11, 3.6), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        loss, parts, error = figure.subplots(1, 3)
        for split, style in (("train", "-"), ("val", "o-")):
            loss.plot(*self._series(split, "total"), style, label=split, markersize=3, linewidth=1)
        for name in ("position", "rotation", "open"):
            parts.plot(*self._series("val", name), "o-", label=name, markersize=3, linewidth=1)
        error.plot(*self._series("val", "median_mm"), "o-", color="tab:red", markersize=3, linewidth=1)
        for axes, title in ((loss, "loss"), (parts, "validation loss by part"), (error, "median position error [mm]")):
            axes.set(title=title, xlabel="step", yscale="log")
            axes.grid(alpha=0.3)
        loss.legend()
        parts.legend()
        figure.savefig(path)

    def _series(self, split: str, name: str) -> tuple[list[int], list[float]]:
        rows = [row for row in self.rows if row["split"] == split and row[name]]
        return [int(row["step"]) for row in rows], [float(row[name]) for row in rows]


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
