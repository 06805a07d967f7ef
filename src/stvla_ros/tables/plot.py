"""A table as a picture: success with Wilson's interval, a panel per group of columns, a colour per row."""

from __future__ import annotations

from pathlib import Path

from stvla_ros.evaluate.report import wilson
from stvla_ros.files import written
from stvla_ros.tables.report import Figures, limited


def draw(figures: Figures, path: Path) -> None:
    """Draw as PNG; rows that were not run are counted below the picture, and are not in it.

    Raises:
        ConfigError: The file cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    protocol, rows = figures.table.protocol, list(figures.cells)
    figure = Figure((max(7.0, 3.2 * len(protocol.groups) + 3), 4.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    colours = colormaps["tab20"]
    for axes, group in zip(figure.subplots(1, len(protocol.groups), squeeze=False, sharey=True)[0], protocol.groups):
        columns = figures.columns(group)
        for k, row in enumerate(rows):
            for i, column in enumerate(columns):
                results = figures.cells[row][column.key].results
                share, (low, high) = sum(results) / len(results), wilson(sum(results), len(results))
                x = i + 0.7 * ((k + 0.5) / len(rows) - 0.5)
                off = [[100 * (share - low)], [100 * (high - share)]]
                label = row.name if i == 0 and group == protocol.groups[0] else None
                axes.errorbar(x, 100 * share, yerr=off, fmt="o", markersize=4, color=colours(k % 20), label=label)
        axes.set(title=group, ylim=(-3, 103), xlim=(-0.6, max(len(columns), 1) - 0.4))
        axes.set_xticks(range(len(columns)), [column.name for column in columns], rotation=15)
        axes.grid(axis="y", alpha=0.3)
        if not rows or not columns:
            axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center")
    figure.axes[0].set_ylabel("success, %, 95 % interval")
    said = limited(figures.table)
    figure.suptitle(f"{protocol.title}\n{said or f'{figures.scenes} scenes a cell'}", color="tab:red" if said else None)
    figure.supxlabel(f"{len(figures.reasons)} of {len(figures.reasons) + len(rows)} rows were not run", fontsize=8)
    if rows:
        figure.legend(loc="outside right upper", fontsize=7)
    with written(path) as part:
        figure.savefig(part, format="png")
