"""What operators say and what it means: phrasings under headings in a text file, easy to read and to extend.

Phrasings below ``[do: push the red button; push the blue button]`` mean these actions. A planner must refuse those
below ``[refuse: why: part]`` with a reason that contains the part. ``#`` begins a comment. The questions have no image,
so phrasings about objects that are not on the file's table (``why`` is "not on this table") are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.datasets.files import find
from stvla_ros.evaluate.planner.question import Order, PromptStyle, Question
from stvla_ros.evaluate.planner.report import Scored
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.prompt import explained, next_action_prompt

NOT_THERE = "not on this table"


@dataclass(frozen=True)
class Saying:
    """One phrasing.

    Attributes:
        text: The operator's words.
        actions: Their meaning, one sentence per step; empty: the planner must refuse.
        why: The kind of reason.
        part: Words that the refusal must contain.
    """

    text: str
    actions: tuple[str, ...]
    why: str = ""
    part: str = ""


def sayings(path: Path) -> list[Saying]:
    """All phrasings of a file.

    Raises:
        ConfigError: It cannot be read, or a line has no heading above it.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    found: list[Saying] = []
    actions: tuple[str, ...] = ()
    why = part = ""
    for number, line in enumerate(lines, 1):
        kind, _, rest = line.removeprefix("[").removesuffix("]").partition(": ")
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("[") and kind == "do":
            actions, why, part = tuple(rest.split("; ")), "", ""
        elif line.startswith("[") and kind == "refuse" and ": " in rest:
            actions, (why, _, part) = (), rest.partition(": ")
        elif actions or why:
            found.append(Saying(line, actions, why, part))
        else:
            raise ConfigError(
                f"{path}: line {number}: wanted '[do: ...]' or '[refuse: why: part]', found '{line[:60]}'."
            )
    return found


def read(folder: Path, style: PromptStyle) -> list[Question]:
    """The next action of every step, and what to refuse."""
    questions = []
    for number, saying in enumerate(sayings(find(folder, "instructions.txt", "*.txt")[0]), 1):
        if saying.why == NOT_THERE:
            continue
        for step, action in enumerate(saying.actions or ("",)):
            asked = explained(next_action_prompt(saying.text, saying.actions[:step]), "action")
            group = f"refuse: {saying.why}" if saying.why else "do"
            questions.append(Question(f"{number}.{step + 1}", group, Order(action), partial(_turns, asked)))
    return questions


def _turns(asked: str) -> tuple[Turn, ...]:
    return (Turn("user", asked),)


def summary(results: Sequence[Scored], compat: str) -> Mapping[str, float]:
    """Fraction of right answers to what must be done and to what must be refused; and of wrong actions."""
    figures: dict[str, float] = {}
    for name, done in (("do_accuracy", True), ("refuse_accuracy", False)):
        right = [r.figures["accuracy"] for r in results if (r.question.group == "do") == done]
        figures |= {name: sum(right) / len(right)} if right else {}
    return figures | {"wrong_rate": sum(r.figures["wrong_rate"] for r in results) / len(results)}
