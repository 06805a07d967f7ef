"""Plans against published values, exact probabilities and simulated batches."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from stvla_ros.data.st_human.acceptance import acceptance, draw, make_plan, proven
from stvla_ros.data.st_human.plain import FormatError


@pytest.mark.parametrize(
    ("batch", "wanted", "samples"),
    [
        (None, 0.95, (59, 93, 124, 153)),
        (None, 0.98, (149, 236, 313, 386)),
        (None, 0.99, (299, 473, 628, 773)),
        (100, 0.95, (39, 58, 73)),
        (500, 0.95, (54, 84, 110)),
        (100, 0.98, (63, 87, 99)),
        (500, 0.98, (119, 181, 234)),
    ],
)
def test_samples_are_the_smallest_that_prove_it(batch: int | None, wanted: float, samples: tuple[int, ...]) -> None:
    """The first two columns are those of tables of attribute sampling (59, 93; 149, 236; 299, 473)."""
    for allowed, sample in enumerate(samples):
        assert make_plan(batch, wanted, allowed=allowed).sample == sample


@pytest.mark.parametrize(("sample", "allowed", "rejected"), [(59, 0, 45), (93, 1, 24), (124, 2, 13), (153, 3, 7)])
def test_how_often_a_good_batch_is_rejected(sample: int, allowed: int, rejected: int) -> None:
    assert round(100 * (1.0 - acceptance(sample, allowed, None, 0.99))) == rejected


@pytest.mark.parametrize(
    ("batch", "defective", "sample", "allowed"), [(40, 4, 10, 1), (7, 7, 3, 0), (50, 0, 5, 0), (12, 5, 12, 4)]
)
def test_probabilities_are_exact(batch: int, defective: int, sample: int, allowed: int) -> None:
    ways = sum(comb(defective, k) * comb(batch - defective, sample - k) for k in range(allowed + 1))
    assert acceptance(sample, allowed, batch, 1.0 - defective / batch) == pytest.approx(ways / comb(batch, sample))


@pytest.mark.parametrize("good", [0.9, 0.95, 0.99])
def test_simulated_batches_are_rejected_at_the_stated_rate(good: float) -> None:
    plan = make_plan(400)
    rng = np.random.default_rng(5)
    defects = rng.hypergeometric(round(400 * (1.0 - good)), round(400 * good), plan.sample, 10_000)
    assert (defects > plan.allowed).mean() == pytest.approx(1.0 - plan.accepts(good), abs=0.015)


def test_a_usual_batch_is_mostly_accepted() -> None:
    plan = make_plan(1000, 0.95, usual=0.985)
    assert plan.accepts(0.985) >= 0.9
    assert plan.accepts(0.949) <= 0.05
    smaller = make_plan(1000, 0.95, allowed=plan.allowed - 1)
    assert smaller.accepts(0.985) < 0.9


def test_what_a_sample_proves() -> None:
    assert proven(100, 2) == pytest.approx(0.938, abs=0.0005)
    assert proven(59, 0) >= 0.95 > proven(58, 0)
    assert proven(5, 5) == 0.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "batch: wanted at least one episode"),
        ((100, 1.0), "wanted: wanted a share between 0 and 1, found 1"),
        ((100, 0.95, 0.95, 0.94), r"usual: wanted more than the share to prove \(0.95\), found 0.94"),
        ((30, 0.95, 0.95, 0.96), "No sample of 30 episodes proves a share of 0.95"),
        ((100, 0.5, 0.95, None, 0.1, 200), "take a larger batch, or look at all"),
    ],
)
def test_what_no_sample_proves(arguments: tuple[float, ...], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        make_plan(*arguments)  # type: ignore[arg-type]


def test_a_draw_can_be_repeated_and_has_every_task() -> None:
    task_of = {f"e{i}": 14 if i == 57 else i % 3 for i in range(100)}
    plan = make_plan(100)
    sample = draw(plan, task_of, "b1", "secret")
    assert sample == draw(plan, dict(reversed(task_of.items())), "b1", "secret")
    assert len(set(sample)) == plan.sample
    assert "e57" in sample
    assert sample != draw(plan, task_of, "b1", "other")
    assert sample != draw(plan, task_of, "b2", "secret")
    with pytest.raises(FormatError, match="wanted one for 3 episodes, found one for 100"):
        draw(plan, {"a": 1, "b": 1, "c": 1}, "b1", "secret")


def test_every_episode_is_drawn_equally_often() -> None:
    task_of = {f"e{i}": 1 for i in range(20)}
    plan = make_plan(20, allowed=0)
    counts = dict.fromkeys(task_of, 0)
    for i in range(2000):
        for episode in draw(plan, task_of, "b", str(i)):
            counts[episode] += 1
    share = np.array(list(counts.values())) / 2000
    assert share == pytest.approx(plan.sample / 20, abs=0.05)
