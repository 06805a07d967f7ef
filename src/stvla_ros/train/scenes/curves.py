"""Curves of the small planners' runs: figures on scenes that were never trained on, over the scenes seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stvla_ros.train.curves import CurveLog

FIELDS = (
    "scenes", "split", "loss", "scenes_per_s", "point_median", "point_15", "point_30", "absent", "meaning",
    "path_rmse_median", "path_rmse_mean", "paths", "depth_mad_cm", "depth_median_cm", "step_accuracy", "action_accuracy", "malformed",
)  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """What a progress bar shows."""

    scenes: int
    loss: float
    scenes_per_s: float
    validation: Mapping[str, float] | None = None


class PilotCurves(CurveLog):
    """Those of a small planner's run."""

    def __init__(self, folder: Path, scenes: int) -> None:
        super().__init__(folder, FIELDS, scenes)

    def draw(self, path: Path) -> None:
        """Loss, pointing error, path error over the scenes seen, as PNG."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure((11, 3.6), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        panels = zip(figure.subplots(1, 3), ("loss", "point_median", "path_rmse_median"), (None, 15, 30), strict=True)
        for axes, name, target in panels:
            for split in dict.fromkeys(row["split"] for row in self.rows):
                if any(self.series(split, name)):
                    axes.plot(*self.series(split, name), "-" if split == "train" else "o-", label=split, markersize=3)
            if target is not None:
                axes.axhline(target, color="gray", linestyle=":", label=f"target {target}")
            title = {"loss": "loss", "point_median": "pointing error, median [1/1000]"}
            axes.set(title=title.get(name, "path RMSE, median [1/1000]"), xlabel="scenes seen", yscale="log")
            axes.grid(alpha=0.3)
            axes.legend()
        figure.savefig(path)
