"""Instructions as word ids, for networks that learn their own vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from stvla_ros.colours import SPELLINGS

UNKNOWN = 0
"""Id of every word that does not occur in the training data."""

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Vocabulary:
    """The words of the training data; all others share id 0.

    Attributes:
        words: Sorted; the i-th word has id i + 1.
    """

    words: tuple[str, ...]

    @classmethod
    def of(cls, instructions: Iterable[str]) -> Vocabulary:
        """The vocabulary of some instructions."""
        return cls(tuple(sorted({word for text in instructions for word in split(text)})))

    def __len__(self) -> int:
        """Number of ids, including the unknown one."""
        return len(self.words) + 1

    def encode(self, instruction: str) -> list[int]:
        """One id per word, without padding: the networks attend to every token.

        Other spellings of a colour are accepted, as planners accept them.
        """
        ids = {word: i + 1 for i, word in enumerate(self.words)}
        ids = {spelling: ids[colour] for spelling, colour in SPELLINGS.items() if colour in ids} | ids
        return [ids.get(word, UNKNOWN) for word in split(instruction)] or [UNKNOWN]


def split(instruction: str) -> list[str]:
    """Words in lower case, without punctuation."""
    return _WORD.findall(instruction.lower())
