"""Losses with gradients in known directions, through any PyTorch model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stvla_ros.config import ConfigError
from stvla_ros.train.pss.probe import BETWEEN, FIRST, SECOND, SHUFFLED, ProbedWeight, cycle, measure
from stvla_ros.train.pss.subspaces import COLUMN, ROW, similarity

D, N = 6, 4
WEIGHT = ProbedWeight("linear.weight")


class Model(nn.Module):
    """A matrix below what evaluation mode must switch off."""

    def __init__(self) -> None:
        super().__init__()
        self.below = nn.Linear(N, N)
        self.linear = nn.Linear(N, D, bias=False)
        self.dropout = nn.Dropout(0.5)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear(x))


def along(model: Model, direction: Tensor, seen: tuple[Tensor, Tensor]):
    """A loss whose gradient is ``direction`` times the batch's input."""

    def loss(half: int, shuffled: bool) -> Iterator[Tensor]:
        yield model(seen[half]) @ (direction.flip(0) if shuffled else direction)

    return loss


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model().train()


def test_gradients_of_known_directions(model: Model) -> None:
    angle, inputs = 1.1, torch.randn(2, N)
    first, second = torch.zeros(D), torch.zeros(D)
    first[0], second[0], second[1] = 2.0, -np.cos(angle), -np.sin(angle)
    found = measure(model, WEIGHT, along(model, first, inputs), along(model, second, inputs), [0.9])
    rows = {row.space: row.compared for row in found.rows}
    column = rows[COLUMN]
    assert column[BETWEEN].value == pytest.approx(np.cos(angle) ** 2, abs=1e-6)
    assert [column[name].value for name in (FIRST, SECOND)] == pytest.approx([1.0, 1.0])
    assert column[SHUFFLED].value == pytest.approx(np.cos(angle) ** 2, abs=1e-6)
    assert column[BETWEEN].ranks == (1, 1)
    assert column[BETWEEN].chance == pytest.approx(1 / D)
    alike = float(torch.cosine_similarity(*inputs, dim=0))
    assert rows[ROW][BETWEEN].value == pytest.approx(alike**2, abs=1e-6)  # inputs are those of different samples
    assert rows[ROW][FIRST].value == pytest.approx(alike**2, abs=1e-6)
    assert found.cosine[BETWEEN] == pytest.approx(-np.cos(angle) * alike, abs=1e-6)
    assert found.cosine[FIRST] == pytest.approx(alike, abs=1e-6)


def regression(model: Model, targets: Tensor, seed: int, parts: int = 1):
    """Mean squared error on 16 samples, in several parts."""
    x = torch.randn(2, 16, N, generator=torch.manual_seed(seed))
    y = x @ targets

    def loss(half: int, shuffled: bool) -> Iterator[Tensor]:
        order = torch.from_numpy(cycle(16, np.random.default_rng(half))) if shuffled else torch.arange(16)
        for chosen in torch.arange(16).chunk(parts):
            error = model(model.below(x[half][chosen])) - y[half][order[chosen]]
            yield error.square().mean() * (len(chosen) / 16)

    return loss


def test_it_agrees_with_plain_backward_passes(model: Model) -> None:
    """Projectors from NumPy's decomposition of the gradients that ``backward`` leaves."""
    losses = [regression(model, torch.randn(N, D), seed) for seed in (1, 2)]
    model.eval()

    def basis(loss: int, half: int, shuffled: bool = False) -> Tensor:
        model.zero_grad()
        sum(losses[loss](half, shuffled)).backward()  # type: ignore[union-attr]
        left, singular, _ = np.linalg.svd(model.linear.weight.grad.double().numpy(), full_matrices=False)
        share = np.cumsum(singular**2) / np.sum(singular**2)
        return torch.from_numpy(left[:, : np.flatnonzero(share >= 0.9)[0] + 1])

    found = measure(model, WEIGHT, *losses, [0.9]).rows[0].compared
    cross = [similarity(basis(0, 0), basis(1, 1)).value, similarity(basis(0, 1), basis(1, 0)).value]
    floor = [similarity(basis(0, i, True), basis(1, 1 - i, True)).value for i in (0, 1)]
    assert found[BETWEEN].value == pytest.approx(np.mean(cross), abs=1e-5)
    assert found[SHUFFLED].value == pytest.approx(np.mean(floor), abs=1e-5)
    assert found[FIRST].value == pytest.approx(similarity(basis(0, 0), basis(0, 1)).value, abs=1e-5)
    assert found[SECOND].value == pytest.approx(similarity(basis(1, 0), basis(1, 1)).value, abs=1e-5)
    assert found[SHUFFLED].value != pytest.approx(found[BETWEEN].value, abs=1e-3)


def test_parts_add_up(model: Model) -> None:
    targets = torch.randn(N, D)
    whole, parts = (
        measure(model, WEIGHT, regression(model, targets, 1, n), regression(model, -targets, 2, n), [0.9])
        for n in (1, 4)
    )
    for one, other in zip(whole.rows, parts.rows, strict=True):
        assert one.compared[BETWEEN].value == pytest.approx(other.compared[BETWEEN].value, abs=1e-5)


def test_the_network_stays_as_it_was(model: Model) -> None:
    model.below.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = regression(model, torch.randn(N, D), 1)
    one, other = (measure(model, WEIGHT, loss, loss, [0.9]) for _ in range(2))
    assert one == other  # dropout is off
    assert model.training
    assert model.dropout.training
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["below.weight"]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    row = one.rows[0].compared
    assert row[BETWEEN].value == pytest.approx(row[FIRST].value)  # of one loss, it is the ceiling


def test_some_rows_of_a_weight(model: Model) -> None:
    loss = regression(model, torch.randn(N, D), 1)
    (row, _) = measure(model, ProbedWeight.parse("linear.weight[1:4]"), loss, loss, [1.0]).rows
    assert row.size == 3
    assert row.compared[FIRST].ranks == (3, 3)


def test_a_convolution_is_a_matrix() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3)
    x = torch.randn(2, 4, 3, 8, 8)

    def loss(half: int, shuffled: bool) -> Iterator[Tensor]:
        yield conv(x[half]).square().mean()

    found = measure(conv, ProbedWeight("weight"), loss, loss)
    assert {(row.space, row.size) for row in found.rows} == {(COLUMN, 5), (ROW, 27)}


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ("linear.wait", "Did you mean 'linear.weight'"),
        ("linear.weight[0:9]", r"'linear.weight\[0:9\]' is no matrix"),
        ("below.bias", "is no matrix"),
        ("linear.weight[3:3]", "wanted NAME or NAME"),
        ("linear.weight[a]", "wanted NAME or NAME"),
        ("unused.weight", "the gradient is zero. Choose another --weight"),
    ],
)
def test_weights_that_cannot_be_compared_are_refused(weight: str, words: str, model: Model) -> None:
    loss = regression(model, torch.randn(N, D), 1)
    with pytest.raises(ConfigError, match=words):
        measure(model, ProbedWeight.parse(weight), loss, loss)


def test_nothing_keeps_its_place() -> None:
    for count in (2, 3, 64):
        moved = cycle(count, np.random.default_rng(count))
        assert sorted(moved) == list(range(count))
        assert (moved != np.arange(count)).all()
