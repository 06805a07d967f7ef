"""Tasks that are asked for in set wordings: what may be said, as patterns, and which task it is.

Unlike the grammar of :mod:`stvla_ros.planning.instruction`, a pattern has to match all the words at once. So a word with
another meaning cannot get lost here either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Wordings(Generic[T_co]):
    """All wordings of one kind of task.

    Attributes:
        about: Words of which a sentence about this kind has at least one.
        patterns: Regular expressions over plain words with single spaces, with named groups.
        task: Makes the task of the groups of a match.
        say_it_as: For a sentence that is about this kind and matches no pattern.
    """

    about: frozenset[str]
    patterns: tuple[str, ...]
    task: Callable[[Mapping[str, str]], T_co]
    say_it_as: str

    def read(self, words: Iterable[str]) -> T_co | None:
        """The task that plain words ask for; None if they match no pattern."""
        said = " ".join(words)
        found = (re.fullmatch(pattern, said) for pattern in self.patterns)
        groups = next((match.groupdict() for match in found if match), None)
        return None if groups is None else self.task({name: said for name, said in groups.items() if said is not None})
