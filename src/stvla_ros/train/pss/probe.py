"""PSS of two losses of any PyTorch model, between a ceiling and a floor.

Each loss has two batches of fixed, disjoint samples, and each batch a copy whose targets are permuted among its
samples:

* *between*: one loss on one batch against the other loss on the other batch, so that common inputs do not count;
* *ceiling* of a loss: its two batches against each other. No other loss can be expected to be more similar;
* *shuffled*, the floor: as *between* with permuted targets, what the architecture and the inputs alone make similar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from stvla_ros.config import ConfigError, closest
from stvla_ros.train.pss.subspaces import SPACES, Directions, Similarity, directions, mean_similarity, similarity

ENERGIES = (0.5, 0.9, 0.99)
"""Shares of energy that are reported by default; the middle one is drawn."""

BETWEEN, FIRST, SECOND, SHUFFLED = "between", "ceiling_first", "ceiling_second", "shuffled"
COMPARED = (BETWEEN, FIRST, SECOND, SHUFFLED)


class ProbedLoss(Protocol):
    """A loss on fixed samples. Called twice with equal arguments it must give equal values, noise included."""

    def __call__(self, half: int, shuffled: bool) -> Iterable[Tensor]:
        """Scalars whose sum is the loss; each is differentiated before the next one is computed, to save memory.

        Args:
            half: 0 or 1, of two disjoint batches.
            shuffled: With targets that are permuted within the batch.
        """
        ...


@dataclass(frozen=True)
class ProbedWeight:
    """A weight matrix, or some of its rows. A convolution's kernel is a matrix with a row per output channel.

    Attributes:
        name: As in ``named_parameters()``.
        begin: First row.
        end: Row after the last one; None: to the end.
    """

    name: str
    begin: int = 0
    end: int | None = None

    @classmethod
    def parse(cls, text: str) -> ProbedWeight:
        """From ``NAME`` or ``NAME[BEGIN:END]``.

        Raises:
            ConfigError: It is written otherwise.
        """
        found = re.fullmatch(r"([\w.]+)(?:\[(\d+):(\d+)\])?", text)
        if not found or (found[2] is not None and int(found[2]) >= int(found[3])):
            raise ConfigError(f"pss: '{text}' is no weight: wanted NAME or NAME[BEGIN:END].")
        return cls(text) if found[2] is None else cls(found[1], int(found[2]), int(found[3]))

    def __str__(self) -> str:
        return self.name if self.end is None else f"{self.name}[{self.begin}:{self.end}]"

    def of(self, network: nn.Module) -> nn.Parameter:
        """The whole parameter.

        Raises:
            ConfigError: The network has none of this name with so many rows, or it is no matrix.
        """
        named = dict(network.named_parameters())
        if self.name not in named:
            raise ConfigError(f"pss: the model has no weight '{self.name}'.{closest(self.name, named)}")
        weight = named[self.name]
        if weight.ndim < 2 or len(weight) < (self.end or 0):
            raise ConfigError(f"pss: '{self}' is no matrix: '{self.name}' has the shape {tuple(weight.shape)}.")
        return weight

    def matrix(self, gradient: Tensor) -> Tensor:
        """(d, n) of the parameter's gradient."""
        return gradient.flatten(1)[self.begin : self.end]


@dataclass(frozen=True)
class Row:
    """Similarities of one kind of subspace.

    Attributes:
        space: ``column`` or ``row``.
        energy: Share that decided the ranks.
        size: Dimensions of the whole space.
        compared: Similarity by each of :data:`COMPARED`.
    """

    space: str
    energy: float
    size: int
    compared: Mapping[str, Similarity]


@dataclass(frozen=True)
class Measurement:
    """PSS of two losses at one checkpoint.

    Attributes:
        rows: One per space and energy.
        cosine: Cosine of the flattened gradients, by each of :data:`COMPARED`: it has a sign, which PSS has not.
    """

    rows: tuple[Row, ...]
    cosine: Mapping[str, float]


def measure(
    network: nn.Module,
    weight: ProbedWeight,
    first: ProbedLoss,
    second: ProbedLoss,
    energies: Sequence[float] = ENERGIES,
) -> Measurement:
    """Measure, without changing the network; dropout is off.

    Args:
        network: The losses' model.
        weight: Where gradients are compared.
        first: One loss.
        second: The other.
        energies: Shares of the squared singular values, each in (0, 1].

    Raises:
        ConfigError: There is no such weight, or a gradient is zero or not finite.
    """
    parameter = weight.of(network)
    with _only_trained(network, parameter):
        gradients = {
            (which, half, shuffled): weight.matrix(_gradient(parameter, loss(half, shuffled)))
            for which, loss in enumerate((first, second))
            for half in (0, 1)
            for shuffled in (False, True)
        }
    try:
        spaces = {key: directions(gradient) for key, gradient in gradients.items()}
    except ValueError as error:
        raise ConfigError(f"pss: {weight}: {error} Choose another --weight: both losses must depend on it.") from error
    pairs = _pairs()
    cosine = {name: _mean_cosine([(gradients[a], gradients[b]) for a, b in keys]) for name, keys in pairs.items()}
    rows = [
        Row(
            space,
            energy,
            len(getattr(spaces[0, 0, False], space)),
            {name: _mean(space, energy, [(spaces[a], spaces[b]) for a, b in keys]) for name, keys in pairs.items()},
        )
        for space in SPACES
        for energy in energies
    ]
    return Measurement(tuple(rows), cosine)


def cycle(count: int, rng: np.random.Generator) -> np.ndarray:
    """A random permutation (count,) in which nothing keeps its place, for ``count`` of at least 2."""
    order = rng.permutation(count)
    moved = np.empty(count, np.int64)
    moved[order] = np.roll(order, 1)
    return moved


_Key = tuple[int, int, bool]


def _pairs() -> dict[str, list[tuple[_Key, _Key]]]:
    """What is compared with what: (loss, half, shuffled) each, never on the same samples."""
    across = [((0, 0), (1, 1)), ((0, 1), (1, 0))]
    return {
        BETWEEN: [((*a, False), (*b, False)) for a, b in across],
        FIRST: [((0, 0, False), (0, 1, False))],
        SECOND: [((1, 0, False), (1, 1, False))],
        SHUFFLED: [((*a, True), (*b, True)) for a, b in across],
    }


def _mean(space: str, energy: float, pairs: list[tuple[Directions, Directions]]) -> Similarity:
    return mean_similarity([similarity(a.basis(space, energy), b.basis(space, energy)) for a, b in pairs])


def _mean_cosine(pairs: list[tuple[Tensor, Tensor]]) -> float:
    return sum(float(cosine_similarity(a.flatten(), b.flatten(), dim=0)) for a, b in pairs) / len(pairs)


def _gradient(parameter: nn.Parameter, parts: Iterable[Tensor]) -> Tensor:
    """Sum of the parts' gradients; zero where a part does not depend on the parameter."""
    total = torch.zeros_like(parameter, dtype=torch.float32)
    for part in parts:
        if part.requires_grad:
            (found,) = torch.autograd.grad(part, parameter, allow_unused=True)
            total += 0.0 if found is None else found.float()
    return total


@contextmanager
def _only_trained(network: nn.Module, parameter: nn.Parameter) -> Iterator[None]:
    """In evaluation mode, with gradients for one parameter only: nothing is kept for those below it."""
    modes = {module: module.training for module in network.modules()}
    trained = [(p, p.requires_grad) for p in network.parameters()]
    network.eval().requires_grad_(False)
    parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for p, was in trained:
            p.requires_grad_(was)
