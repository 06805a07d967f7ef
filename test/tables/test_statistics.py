"""McNemar, Holm and macro averages against published and hand-made figures."""

from __future__ import annotations

import numpy as np
import pytest

from stvla_ros.evaluate.report import wilson
from stvla_ros.tables.statistics import Pairs, holm, macro, macro_over_trainings, pairs


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(6, 0, 0.031), (5, 0, 0.062), (10, 2, 0.039), (15, 5, 0.041), (20, 8, 0.036), (20, 10, 0.099), (0, 0, 1.0), (3, 3, 1.0)],
)  # fmt: skip
def test_mcnemar_is_exact_and_two_sided(only_first: int, only_second: int, p: float) -> None:
    assert Pairs(100, only_first, only_second).p == pytest.approx(p, abs=6e-4)
    assert Pairs(100, only_second, only_first).p == pytest.approx(p, abs=6e-4)


def test_pairs_are_scenes_not_totals() -> None:
    assert pairs([True, True, False, False], [True, False, True, False]) == Pairs(4, 1, 1)
    assert pairs([True, False], [False, True]) + pairs([True], [False]) == Pairs(3, 2, 1)
    with pytest.raises(ValueError, match="got 1 and 2"):
        pairs([True], [True, False])


def test_holm_corrects_the_smallest_most_and_never_reverses() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_macro_average_counts_every_column_alike() -> None:
    mean, low, high = macro([[True] * 10, [False] * 100])
    assert mean == 0.5
    assert low < 0.5 < high
    assert macro([[True] * 48 + [False] * 2]) == pytest.approx((0.96, *wilson(48, 50)))
    mean, low, high = macro([[True] * 100] * 3)
    assert (mean, high) == (1.0, 1.0)
    assert 1.0 - low == pytest.approx((1.0 - wilson(100, 100)[0]) / np.sqrt(3))


def test_trainings_that_differ_widen_the_interval_and_scenes_alone_do_not_narrow_it_away() -> None:
    half = [[i % 2 == 0 for i in range(400)]]
    alike = macro_over_trainings([half, half, half])
    apart = macro_over_trainings([[[True] * 400], [[False] * 400], half])
    assert alike[0] == apart[0] == 0.5
    assert alike[2] - alike[1] == pytest.approx(2 * 1.96 * 0.5 / 20, abs=0.01), "three looks at the same scenes are one"
    assert apart[2] - apart[1] > 0.6
    assert macro_over_trainings([half, half]) == macro_over_trainings([half, half])
