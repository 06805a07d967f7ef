"""Curves of a fine-tuning: a CSV with a row per figure, and a picture of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from stvla_ros.train.curves import read_rows, write_rows

FIELDS = ("step", "split", "figure", "value")
PANELS = 4
"""Validation figures that are drawn, beside the loss."""


class SftCurves:
    """Appends to ``curves.csv``; what an interrupted run wrote beyond its last checkpoint is dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        self._path = folder / "curves.csv"
        self.rows = read_rows(self._path, FIELDS, step)
        write_rows(self._path, FIELDS, self.rows)

    def add(self, step: int, split: str, figures: Mapping[str, float]) -> None:
        """One row per figure."""
        new = [{"step": str(step), "split": split, "figure": n, "value": f"{v:.6g}"} for n, v in figures.items()]
        self.rows += new
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, FIELDS).writerows(new)

    def series(self, split: str, figure: str) -> tuple[list[int], list[float]]:
        """Steps and values of a figure."""
        rows = [row for row in self.rows if (row["split"], row["figure"]) == (split, figure)]
        return [int(row["step"]) for row in rows], [float(row["value"]) for row in rows]

    def draw(self) -> None:
        """``curves.png``: the loss, and the validation's first figures, over the steps."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        names = list(dict.fromkeys(row["figure"] for row in self.rows if row["split"] == "val"))
        others = [name for name in names if name != "loss"][:PANELS]
        figure = Figure((3.6 * (1 + len(others)), 3.4), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        loss, *panels = figure.subplots(1, 1 + len(others), squeeze=False)[0]
        for split, style in (("train", "-"), ("val", "o-")):
            loss.plot(*self.series(split, "loss"), style, label=split, markersize=3, linewidth=1)
        loss.set(title="loss per answered token", xlabel="step", yscale="log")
        loss.legend()
        for axes, name in zip(panels, others):
            axes.plot(*self.series("val", name), "o-", color="tab:red", markersize=3, linewidth=1)
            axes.set(title=name, xlabel="step")
        for axes in (loss, *panels):
            axes.grid(alpha=0.3)
        figure.savefig(self._folder / "curves.png")
