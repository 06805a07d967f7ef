"""Statistics of paired binary results: McNemar's test, Holm's correction, intervals of macro averages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stvla_ros.evaluate.report import wilson

RESAMPLES = 4000
_SEED = 20


@dataclass(frozen=True)
class Pairs:
    """Two rows on the same scenes.

    Attributes:
        scenes: How many.
        only_first: Scenes in which only the first row succeeds.
        only_second: Scenes in which only the second one does.
    """

    scenes: int
    only_first: int
    only_second: int

    def __add__(self, other: Pairs) -> Pairs:
        """Both together: McNemar's test of the sum is the one stratified by column."""
        return Pairs(
            self.scenes + other.scenes, self.only_first + other.only_first, self.only_second + other.only_second
        )

    @property
    def p(self) -> float:
        """Two-sided p of the exact test (McNemar 1947): a fair coin decides every scene that tells the rows apart."""
        from scipy.stats import binomtest

        differing = self.only_first + self.only_second
        return float(binomtest(self.only_first, differing).pvalue) if differing else 1.0


def pairs(first: Sequence[bool], second: Sequence[bool]) -> Pairs:
    """Count. Raises ValueError for rows of different lengths."""
    if len(first) != len(second):
        raise ValueError(f"pairs: wanted as many scenes in both rows, got {len(first)} and {len(second)}")
    both = list(zip(first, second, strict=True))
    return Pairs(len(both), both.count((True, False)), both.count((False, True)))


def holm(ps: Sequence[float]) -> list[float]:
    """The p values of a family of tests, corrected (Holm 1979), in their order."""
    corrected, largest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = largest
    return corrected


def macro(columns: Sequence[Sequence[bool]]) -> tuple[float, float, float]:
    """Mean of the columns' success rates, and its 95 % interval over scenes.

    The interval combines Wilson's of the columns (MOVER: Zou and Donner 2008, after Newcombe 1998). Unlike a bootstrap it
    has a width where every scene succeeds.
    """
    rates = np.array([sum(column) / len(column) for column in columns])
    low, high = np.array([wilson(sum(column), len(column)) for column in columns]).T
    mean, below, above = (float(np.mean(rates)), *(float(np.hypot.reduce(d)) for d in (rates - low, high - rates)))
    return mean, mean - below / len(rates), mean + above / len(rates)


def macro_over_trainings(trainings: Sequence[Sequence[Sequence[bool]]]) -> tuple[float, float, float]:
    """Mean of the macro averages of several trainings, and its 95 % interval.

    The interval is the percentile bootstrap's in two levels: trainings are drawn, then scenes within each column. The
    trainings run the same scenes, so a draw of scenes serves all of them. It repeats exactly.

    Args:
        trainings: For each training and column, the successes by scene.
    """
    results = [[np.asarray(column, dtype=float) for column in training] for training in trainings]
    mean = float(np.mean([[column.mean() for column in training] for training in results]))
    rng = np.random.default_rng(_SEED)
    drawn = rng.integers(len(results), size=(RESAMPLES, len(results)))
    total = np.zeros(RESAMPLES)
    for columns in zip(*results, strict=True):
        scenes = rng.integers(len(columns[0]), size=(RESAMPLES, len(columns[0])))
        rates = np.stack([column[scenes].mean(axis=1) for column in columns])  # (training, resample)
        total += np.take_along_axis(rates, drawn.T, axis=0).mean(axis=0)
    low, high = np.quantile(total / len(results[0]), [0.025, 0.975])
    return mean, float(low), float(high)
