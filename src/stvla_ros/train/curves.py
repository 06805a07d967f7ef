"""Curves of a training run: ``curves.csv``, and a picture of it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.files import check_file, said, written

Row = dict[str, str]


class CurveLog:
    """Rows of ``curves.csv``, with a column per figure. Rows after the run's last checkpoint are dropped.

    Args:
        folder: Of the run.
        fields: Names of the columns; the first is a count (steps or scenes), the second is the split.
        done: Count at the checkpoint from which the run resumes.

    Raises:
        ConfigError: ``curves.csv`` is not such a file.
    """

    def __init__(self, folder: Path, fields: Sequence[str], done: int) -> None:
        self._path, self._fields = folder / "curves.csv", tuple(fields)
        empty = dict.fromkeys(self._fields, "")
        self.rows: list[Row] = [empty | row for row in _read(self._path, self._fields, done)]
        with written(self._path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._fields)
            writer.writeheader()
            writer.writerows(self.rows)

    def add(self, done: int, split: str, figures: Mapping[str, float]) -> None:
        """Append figures; fields without one stay empty."""
        new = list(self._rows(str(done), split, {name: f"{value:.6g}" for name, value in figures.items()}))
        self.rows += new
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._fields).writerows(new)

    def series(self, split: str, figure: str) -> tuple[list[int], list[float]]:
        """Counts and values of a figure."""
        found = [(row[self._fields[0]], self._value(row, figure)) for row in self.rows if row["split"] == split]
        return [int(done) for done, value in found if value], [float(value) for _, value in found if value]

    def _rows(self, done: str, split: str, values: Row) -> Iterator[Row]:
        yield dict.fromkeys(self._fields, "") | dict(zip(self._fields, (done, split))) | values

    def _value(self, row: Row, figure: str) -> str:
        return row[figure]


class LongCurveLog(CurveLog):
    """A row per figure, for runs whose data decide which figures there are."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder, ("step", "split", "figure", "value"), step)

    def _rows(self, done: str, split: str, values: Row) -> Iterator[Row]:
        yield from (dict(zip(self._fields, (done, split, figure, value))) for figure, value in values.items())

    def _value(self, row: Row, figure: str) -> str:
        return row["value"] if row["figure"] == figure else ""


def _read(path: Path, fields: Sequence[str], done: int) -> list[Row]:
    """Rows of ``curves.csv`` up to a count; none if there is no file. An incomplete last line is ignored."""
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
            f"{path}: not the curves of a run ({said(error)}): delete it; the run continues without."
        ) from error


@dataclass(frozen=True)
class Panel:
    """One diagram of the picture.

    Attributes:
        title: Shown above.
        lines: Split and figure by label; a single line may have the label "".
        log: Logarithmic scale.
        target: Value of a dotted line; None: no such line.
        line_width: In points.
    """

    title: str
    lines: Mapping[str, tuple[str, str]]
    log: bool = True
    target: float | None = None
    line_width: float = 1.0


def draw(
    path: Path,
    curves: CurveLog,
    panels: Sequence[Panel],
    xlabel: str = "step",
    size_in: tuple[float, float] = (11, 3.6),
) -> None:
    """Draw panels side by side as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(size_in, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for label, (split, name) in panel.lines.items():
            style = {"markersize": 3, "linewidth": panel.line_width} | (
                {"label": label} if label else {"color": "tab:red"}
            )
            axes.plot(*curves.series(split, name), "-" if split == "train" else "o-", **style)
        if panel.target is not None:
            axes.axhline(panel.target, color="gray", linestyle=":", label=f"target {panel.target}")
        axes.set(title=panel.title, xlabel=xlabel, yscale="log" if panel.log else "linear")
        axes.grid(alpha=0.3)
        if "" not in panel.lines:
            axes.legend()
    figure.savefig(path)
