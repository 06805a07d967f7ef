"""PSS over a run: table rows, JSON, picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stvla_ros.files import written
from stvla_ros.train.pss.probe import BETWEEN, COMPARED, FIRST, SECOND, SHUFFLED, Measurement
from stvla_ros.train.pss.subspaces import COLUMN, Similarity


@dataclass(frozen=True)
class PssCurve:
    """PSS of two losses over the checkpoints of a run.

    Attributes:
        losses: Names of both.
        weight: Where gradients were compared.
        samples: Per batch, at most.
        seed: Of samples, noise and permutations.
        measured: Measurement by steps (or scenes), in order.
    """

    losses: tuple[str, str]
    weight: str
    samples: int
    seed: int
    measured: Mapping[int, Measurement]

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain values."""
        checkpoints = [
            {
                "done": done,
                "cosine": dict(measurement.cosine),
                "pss": [
                    {"space": row.space, "energy": row.energy, "size": row.size}
                    | {name: _plain(row.compared[name]) for name in COMPARED}
                    for row in measurement.rows
                ],
            }
            for done, measurement in self.measured.items()
        ]
        head = {"losses": list(self.losses), "weight": self.weight, "samples": self.samples, "seed": self.seed}
        return {**head, "checkpoints": checkpoints}

    def write(self, path: Path) -> None:
        """Write the JSON. Raises ConfigError when that is not possible."""
        with written(path) as part:
            part.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")

    @property
    def size(self) -> int:
        """Dimensions of the column space."""
        return next(row.size for m in self.measured.values() for row in m.rows if row.space == COLUMN)

    def table(self) -> list[tuple[str, ...]]:
        """The column spaces as text, under :data:`HEADINGS`: a row per checkpoint and energy."""
        return [
            (
                str(done),
                f"{row.energy:g}",
                "{:g}, {:g}".format(*row.compared[BETWEEN].ranks),
                f"{row.compared[BETWEEN].value:.3f}",
                f"{row.compared[BETWEEN].chance:.3f}",
                _signed(row.compared[BETWEEN].corrected),
                _signed(row.compared[SHUFFLED].corrected),
                f"{_signed(row.compared[FIRST].corrected)}, {_signed(row.compared[SECOND].corrected)}",
                f"{measurement.cosine[BETWEEN]:+.3f}",
            )
            for done, measurement in self.measured.items()
            for row in measurement.rows
            if row.space == COLUMN
        ]

    def draw(self, path: Path) -> None:
        """Draw the column spaces as PNG, a diagram per energy."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        energies = [row.energy for row in next(iter(self.measured.values())).rows if row.space == COLUMN]
        figure = Figure((3.6 * len(energies), 3.6), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        for axes, energy in zip(figure.subplots(1, len(energies), squeeze=False)[0], energies, strict=True):
            for label, style, values in self._lines(energy):
                axes.plot(list(self.measured), values, style, label=label, markersize=3)
            axes.set(title=f"energy {energy:g}", xlabel="done", ylim=(-0.02, 1.02))
        figure.axes[0].set_ylabel("PSS")
        figure.axes[-1].legend(fontsize=8)
        with written(path) as part:
            figure.savefig(part, format="png")

    def _lines(self, energy: float) -> Sequence[tuple[str, str, list[float]]]:
        first, second = self.losses
        rows = [row for m in self.measured.values() for row in m.rows if (row.space, row.energy) == (COLUMN, energy)]
        names = {f"{first} and {second}": (BETWEEN, "o-"), "targets shuffled": (SHUFFLED, "s:")}
        names |= {f"{first}, ceiling": (FIRST, "^--"), f"{second}, ceiling": (SECOND, "v--")}
        lines = [(label, style, [row.compared[key].value for row in rows]) for label, (key, style) in names.items()]
        return [*lines, ("chance", "k-", [row.compared[BETWEEN].chance for row in rows])]


def _plain(found: Similarity) -> dict[str, Any]:
    return {"value": found.value, "chance": found.chance, "corrected": found.corrected, "ranks": list(found.ranks)}


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


HEADINGS = ("done", "energy", "ranks", "PSS", "chance", "corrected", "shuffled", "ceilings", "cosine")
"""Of :meth:`PssCurve.table`. From ``corrected`` on, all similarities are corrected for chance, which their ranks decide."""
