"""Training on rendered scenes, as both small planners do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from stvla_ros.planning.heatmap.words import KINDS
from stvla_ros.train.curves import CurveLog, Panel, draw
from stvla_ros.train.run import TrainingRun
from stvla_ros.train.scenes.shards import Scenes

FIELDS = (
    "scenes", "split", "loss", "scenes_per_s", "point_median", "point_15", "point_30", "absent", "meaning",
    "path_rmse_median", "path_rmse_mean", "paths", "refused", "depth_mad_cm", "depth_median_cm", "step_accuracy",
    "action_accuracy", "malformed",
)  # fmt: skip

_FEWER = {"plate": 0.5, "bottle": 0.7, "jar": 0.7, "holder": 0.7, "lamp": 0.7, "cupboard": 0.2}
CELL_WEIGHTS = (0.3, 0.1, *(_FEWER.get(kind, 1.0) for kind in KINDS))
"""Of what cells show in losses: robot, surroundings, kinds. Objects cover few cells, so those count more; some cover many."""


class SceneExperiment(Protocol):
    """What the settings of both planners have in common."""

    @property
    def batch(self) -> int: ...
    @property
    def validate_every(self) -> int: ...
    @property
    def steps(self) -> int: ...


class SceneRun(TrainingRun):
    """A run on rendered scenes; ``done`` counts scenes, repeated ones again.

    Args:
        experiment: What to do.
        load_train: Reads the training scenes; called again after every validation, since more may have been rendered.
        val: Validation scenes by the name of their split.
        folder: Where results go; a run that it holds already is resumed.
        seed: Of weights, batches and wordings.
        writes: False in all but one of several processes.
    """

    log_every = 10

    def __init__(
        self,
        experiment: SceneExperiment,
        load_train: Callable[[], Scenes],
        val: Mapping[str, Scenes],
        folder: Path,
        seed: int,
        writes: bool = True,
    ) -> None:
        identity = {"experiment": repr(experiment), "seed": seed}
        super().__init__(folder, identity, experiment.steps, experiment.validate_every, experiment.batch, writes)
        self.seed, self._load_train, self._val, self._train = seed, load_train, val, load_train()

    def _rng(self, *further: int) -> np.random.Generator:
        """The current step's generator; the same one after resuming."""
        return np.random.default_rng([self.seed, self.step, *further])

    def _train_figures(self, losses: Mapping[str, float], per_s: float) -> Mapping[str, float]:
        return {**losses, "scenes_per_s": per_s}

    def _validate_and_save(self) -> Mapping[str, float]:
        figures = super()._validate_and_save()
        self._train = self._load_train()
        return figures

    def _curve_log(self) -> CurveLog:
        return CurveLog(self.folder, FIELDS, self.done)

    def _draw(self, path: Path, curves: CurveLog) -> None:
        panels = []
        for name, title, target in (
            ("loss", "loss", None),
            ("point_median", "pointing error, median [1/1000]", 15),
            ("path_rmse_median", "path RMSE, median [1/1000]", 30),
        ):
            splits = [s for s in dict.fromkeys(row["split"] for row in curves.rows) if any(curves.series(s, name))]
            panels.append(Panel(title, {split: (split, name) for split in splits}, target=target, line_width=1.5))
        draw(path, curves, panels, "scenes seen")
