"""Acceptance of a batch of annotated episodes by a sample: the plan is known before anything is drawn.

A batch of ``N`` episodes, of which ``D`` are defective, is accepted when a sample of ``n`` without replacement has at
most ``c`` defective ones: with the hypergeometric probability Pr(X <= c). The test protects who uses the data: a batch
whose share of good episodes is below the wanted one is accepted with a probability of at most 1 - confidence (the
exact form of a consumer's risk; compare ISO 2859-2). ``N`` None stands for a batch so large that X is binomial.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scipy import stats

from stvla_ros.data.st_human.plain import FormatError

MAX_DEFECTS = 20
"""The largest acceptance number that is looked at."""


@dataclass(frozen=True)
class Plan:
    """How a batch is judged.

    Attributes:
        batch: Number of its episodes; None: very many.
        sample: How many are looked at.
        allowed: The batch is accepted with at most so many defective ones among them.
        wanted: The share of good episodes that acceptance proves.
        confidence: With which it is proven.
    """

    batch: int | None
    sample: int
    allowed: int
    wanted: float
    confidence: float

    def accepts(self, good: float) -> float:
        """The probability that a batch with this share of good episodes is accepted."""
        return acceptance(self.sample, self.allowed, self.batch, good)


def acceptance(sample: int, allowed: int, batch: int | None, good: float) -> float:
    """Pr(at most ``allowed`` defective episodes in the sample) for a batch with this share of good ones."""
    return _chance(sample, allowed, batch, 1.0 - good if batch is None else math.ceil(batch * (1.0 - good) - 1e-9))


def _chance(sample: int, allowed: int, batch: int | None, defective: float) -> float:
    """The same for a number of defective episodes in the batch, or their share in a very large one."""
    if batch is None:
        return float(stats.binom.cdf(allowed, sample, defective))
    return float(stats.hypergeom.cdf(allowed, batch, defective, sample))


def make_plan(
    batch: int | None,
    wanted: float = 0.95,
    confidence: float = 0.95,
    usual: float | None = None,
    risk: float = 0.1,
    allowed: int | None = None,
) -> Plan:
    """The smallest sample that proves the wanted share.

    Args:
        batch: Number of episodes; None: very many.
        wanted: Share of good episodes to prove.
        confidence: With which.
        usual: Share of good episodes that annotators usually reach. Then a batch like that is rejected with a
            probability of at most ``risk``.
        risk: See ``usual``.
        allowed: The number of defective episodes in the sample that is still accepted; None: 0, or as many as ``usual``
            needs.

    Raises:
        FormatError: No sample proves it; the message says why.
    """
    if batch is not None and batch < 1:
        raise FormatError(f"batch: wanted at least one episode, found {batch}.")
    for name, share in (("wanted", wanted), ("confidence", confidence), ("usual", usual), ("risk", risk)):
        if share is not None and not 0.0 < share < 1.0:
            raise FormatError(f"{name}: wanted a share between 0 and 1, found {share:g}.")
    if usual is not None and usual <= wanted:
        raise FormatError(f"usual: wanted more than the share to prove ({wanted:g}), found {usual:g}.")
    tried = (allowed,) if allowed is not None else (0,) if usual is None else range(MAX_DEFECTS + 1)
    for number in tried:
        sample = _sample(batch, wanted, confidence, number)
        if sample is not None:
            plan = Plan(batch, sample, number, wanted, confidence)
            if usual is None or plan.accepts(usual) >= 1.0 - risk:
                return plan
    raise FormatError(
        f"No sample of {batch if batch is not None else 'many'} episodes proves a share of {wanted:g} good ones"
        f"{'' if usual is None else f' and accepts {usual:g} with a risk of {risk:g}'}: take a larger batch, or look at all."
    )


def _sample(batch: int | None, wanted: float, confidence: float, allowed: int) -> int | None:
    """The smallest sample by which the best of the bad batches is accepted with at most 1 - confidence."""
    bad = 1.0 - wanted if batch is None else math.floor(batch * (1.0 - wanted) + 1e-9) + 1  # one too many
    low, high = allowed + 1, batch if batch is not None else 10**7
    if (batch is not None and bad > batch) or low > high or _chance(high, allowed, batch, bad) > 1.0 - confidence:
        return None
    while low < high:
        middle = (low + high) // 2
        proves = _chance(middle, allowed, batch, bad) <= 1.0 - confidence
        low, high = (low, middle) if proves else (middle + 1, high)
    return low


def proven(sample: int, defective: int, confidence: float = 0.95) -> float:
    """The share of good episodes that a sample of a very large batch proves (Clopper and Pearson, one-sided)."""
    return float(stats.beta.ppf(1.0 - confidence, sample - defective, defective + 1)) if defective < sample else 0.0


def draw(plan: Plan, task_of: Mapping[str, int], batch_name: str, secret: str) -> list[str]:
    """The sample: ids of episodes, at least one of each task where it has room.

    The draw depends on the ids, the batch's name and the secret alone. Reveal the secret after the verdict, and anybody
    can repeat the draw.

    Args:
        plan: For a batch of exactly these episodes.
        task_of: Id -> task of each episode of the batch.
        batch_name: Its name.
        secret: Any text that nobody who annotates knows.

    Raises:
        FormatError: The plan is for a batch of another size.
    """
    if plan.batch is not None and plan.batch != len(task_of):
        raise FormatError(f"plan: wanted one for {len(task_of)} episodes, found one for {plan.batch}.")
    seed = hashlib.sha256(f"{batch_name}\n{secret}".encode()).digest()
    shuffled = sorted(task_of)
    random.Random(seed).shuffle(shuffled)
    first = _first_of_each(shuffled, task_of)[: plan.sample]
    rest = [episode for episode in shuffled if episode not in set(first)]
    return sorted([*first, *rest[: plan.sample - len(first)]])


def _first_of_each(episodes: Iterable[str], task_of: Mapping[str, int]) -> list[str]:
    found: dict[int, str] = {}
    for episode in episodes:
        found.setdefault(task_of[episode], episode)
    return list(found.values())
