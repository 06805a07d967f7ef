"""PSS against subspaces whose principal angles are known, and against chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stvla_ros.train.pss.subspaces import COLUMN, ROW, Directions, directions, mean_similarity, similarity


def orthogonal(size: int, seed: int) -> Tensor:
    """A random rotation of R^size."""
    made, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=torch.manual_seed(seed)))
    return made


def at_angles(size: int, angles_rad: list[float], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Bases (size, r) of two subspaces with these principal angles."""
    turn, r = orthogonal(size, seed), len(angles_rad)
    cos, sin = torch.tensor(angles_rad, dtype=torch.float64).cos(), torch.tensor(angles_rad, dtype=torch.float64).sin()
    return turn[:, :r], turn[:, :r] * cos + turn[:, r : 2 * r] * sin


def gradient(basis: Tensor, singular: list[float], width: int, seed: int) -> Tensor:
    """(d, width) with these singular values, the first directions of ``basis`` as column space."""
    other = orthogonal(width, seed)
    return basis[:, : len(singular)] @ torch.diag(torch.tensor(singular, dtype=torch.float64)) @ other[: len(singular)]


@pytest.mark.parametrize(
    "angles_rad", [[0.0, 0.0], [np.pi / 2, np.pi / 2], [np.pi / 4, np.pi / 4, np.pi / 4], [0.1, 0.5, 1.0, 1.5]]
)
def test_it_is_the_mean_squared_cosine_of_the_principal_angles(angles_rad: list[float]) -> None:
    first, second = at_angles(12, angles_rad)
    found = similarity(first, second)
    assert found.value == pytest.approx(np.mean(np.cos(angles_rad) ** 2), abs=1e-12)
    assert found.ranks == (len(angles_rad), len(angles_rad))
    assert found.chance == len(angles_rad) / 12


def test_of_gradients_it_equals_the_definition_with_pseudo_inverses() -> None:
    """P = G G^+ (NumPy), of different ranks."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(10, 3)) @ rng.normal(size=(3, 7)), rng.normal(size=(10, 5)) @ rng.normal(size=(5, 7))
    for space, g, h in ((COLUMN, a, b), (ROW, a.T, b.T)):
        wanted = np.trace(g @ np.linalg.pinv(g, 1e-9) @ h @ np.linalg.pinv(h, 1e-9)) / 3
        ours = [directions(torch.from_numpy(x)).basis(space, 1.0) for x in (a, b)]
        assert similarity(*ours).value == pytest.approx(wanted, abs=1e-10)
        assert similarity(*ours).ranks == (3, 5)


def test_a_subspace_of_the_other_is_wholly_similar() -> None:
    turn = orthogonal(9, 3)
    found = similarity(turn[:, :2], turn[:, :6])
    assert found.value == pytest.approx(1.0)
    assert found.chance == pytest.approx(6 / 9)
    assert found.corrected == pytest.approx(1.0)


@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.6, 1), (0.61, 2), (0.9, 2), (0.91, 3), (0.99, 3), (1.0, 3)])
def test_energy_decides_the_rank(energy: float, rank: int) -> None:
    g = gradient(orthogonal(8, 1), [0.6**0.5, 0.3**0.5, 0.1**0.5], 5, 2)
    assert directions(g).rank(energy) == rank
    assert directions(1e-6 * g.float()).rank(energy) == rank  # of another scale and precision


@pytest.mark.parametrize("energy", [0.0, -0.1, 1.1])
def test_energy_is_a_share(energy: float) -> None:
    with pytest.raises(ValueError, match="wanted a share"):
        directions(torch.eye(3)).rank(energy)


def test_only_directions_within_the_energy_count() -> None:
    """Weak directions are equal, strong ones at 60 degrees: truncation makes the difference."""
    first, second = at_angles(10, [np.pi / 3, 0.0])
    ours = [directions(gradient(basis, [1.0, 0.1], 6, seed)) for seed, basis in enumerate((first, second))]
    values = [similarity(*(d.basis(COLUMN, energy) for d in ours)).value for energy in (0.9, 1.0)]
    assert values == pytest.approx([0.25, 0.625], abs=1e-12)


def pss(a: Tensor, b: Tensor, energy: float = 0.9, space: str = COLUMN) -> float:
    return similarity(*(directions(g).basis(space, energy) for g in (a, b))).value


def test_scale_sign_and_basis_do_not_matter() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(12, 4).double(), torch.randn(12, 4).double()
    turn = orthogonal(12, 7)
    for energy in (0.5, 0.9):
        wanted = pss(a, b, energy)
        assert pss(-3e4 * a, 1e-5 * b, energy) == pytest.approx(wanted, abs=1e-10)
        assert pss(turn @ a, turn @ b, energy) == pytest.approx(wanted, abs=1e-10)  # both spaces turned together
        assert pss(a @ orthogonal(4, 5), b @ orthogonal(4, 6), energy) == pytest.approx(wanted, abs=1e-10)
        assert pss(b, a, energy) == pytest.approx(wanted, abs=1e-12)
        assert pss(a.T, b.T, energy, ROW) == pytest.approx(wanted, abs=1e-12)
        assert pss(turn @ a, b, energy) != pytest.approx(wanted, abs=1e-3)  # only one: another similarity
    mixed = a @ torch.randn(4, 4).double()  # the whole column space is the same in any basis
    assert pss(a, mixed, 1.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("d", "r", "s"), [(60, 6, 6), (60, 6, 24), (192, 98, 99)])
def test_chance_is_the_larger_rank_over_the_dimensions(d: int, r: int, s: int) -> None:
    random = torch.manual_seed(1)
    found = []
    for _ in range(40):
        bases = [torch.linalg.qr(torch.randn(d, k, dtype=torch.float64, generator=random))[0] for k in (r, s)]
        found.append(similarity(*bases))
    values = np.array([f.value for f in found])
    error = 4 * values.std() / len(values) ** 0.5
    assert found[0].chance == max(r, s) / d
    assert abs(values.mean() - max(r, s) / d) < error < 0.03
    corrected = mean_similarity(found).corrected
    assert corrected is not None
    assert abs(corrected) < 0.05


def test_without_truncation_any_two_full_gradients_are_equal() -> None:
    torch.manual_seed(2)
    found = similarity(*(directions(torch.randn(16, 16)).basis(COLUMN, 1.0) for _ in range(2)))
    assert (found.value, found.chance, found.corrected) == (pytest.approx(1.0), 1.0, None)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(torch.zeros(3, 4), "zero"), (torch.full((2, 2), torch.nan), "not finite"), (torch.ones(3), "no matrix")],
)
def test_what_has_no_directions_is_refused(wrong: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        directions(wrong)


def test_subspaces_of_different_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 4 dimensions"):
        similarity(torch.eye(3), torch.eye(4))


def test_rounding_gives_no_directions() -> None:
    """A float32 gradient of rank 2 has rank 2, not 8."""
    torch.manual_seed(3)
    g = torch.randn(40, 2) @ torch.randn(2, 8)
    found: Directions = directions(g)
    assert len(found.singular) == 2
