"""The reader of operators' words: what is plain is read, all else is refused with the true reason."""

import contextlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stvla_ros.colours import COLOURS
from stvla_ros.evaluate.planner.datasets.words import NOT_THERE, Saying, sayings
from stvla_ros.planning.instruction import MAX_WORDS, Carry, Push, UnclearError, parse

SAYINGS = sayings(Path(__file__).with_name("instructions.txt"))
WORDS = [
    "not",
    "then",
    "and",
    "it",
    "first",
    "after",
    "both",
    "red",
    "blue",
    "the",
    "one",
    "block",
    "button",
    "buttons",
]
WORDS += ["plate", "put", "push", "pick", "up", "on", "in", "to", ",", "?", "that", "is", "please", "left", "table"]


def actions(task: Carry | Push) -> tuple[str, ...]:
    return (task.sentence,) if isinstance(task, Carry) else tuple(f"push the {c} button" for c in task.colours)


def test_there_are_many_of_both() -> None:
    assert sum(bool(saying.actions) for saying in SAYINGS) >= 150
    assert sum(not saying.actions for saying in SAYINGS) >= 150
    assert len({saying.text for saying in SAYINGS}) == len(SAYINGS)


@pytest.mark.parametrize("saying", [s for s in SAYINGS if s.actions], ids=lambda s: s.text)
def test_what_is_plain_is_read(saying: Saying) -> None:
    assert actions(parse(saying.text)) == saying.actions


@pytest.mark.parametrize("saying", [s for s in SAYINGS if s.why not in ("", NOT_THERE)], ids=lambda s: s.text)
def test_what_is_not_is_refused_with_the_reason(saying: Saying) -> None:
    with pytest.raises(UnclearError) as error:
        parse(saying.text)
    assert saying.part in str(error.value)
    assert str(error.value)[-1] in ".?"


@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_the_templates_with_every_colour(colour: str) -> None:
    assert parse(f"Put the {colour} block in the plate.") == Carry(colour, None)
    other = "red" if colour != "red" else "blue"
    assert parse(f"Stack the {colour} block on the {other} block.") == Carry(colour, other)
    assert parse(f"Push the {colour} button.") == Push((colour,))
    assert parse(f"Push the {colour} button, then push the {other} button.") == Push((colour, other))


@pytest.mark.parametrize(
    ("words", "there", "end"),
    [
        ("Put the magneta block in the plate.", {"magenta block"}, "Did you mean 'magenta block'?"),
        ("Put the magneta block in the plate.", {"magenta button", "red block"}, "that this planner knows."),
        ("Push the lim button.", {"lime button", "lime block"}, "Did you mean 'lime button'?"),
        ("Put the rse one in the plate.", {"rose block", "red block"}, "Did you mean 'rose block'?"),
        ("Put the scarlet block in the plate.", {f"{colour} block" for colour in COLOURS}, "that this planner knows."),
        ("Put the red blok in the plate.", set(), "Did you mean 'block'?"),
        ("Pus the red button.", set(), "Did you mean 'push' or 'put'?"),
    ],
)
def test_only_what_is_there_is_proposed(words: str, there: set[str], end: str) -> None:
    with pytest.raises(UnclearError) as error:
        parse(words)
    assert error.value.message(there).endswith(end)


@pytest.mark.parametrize("saying", [s for s in SAYINGS if s.actions], ids=lambda s: s.text)
def test_a_forbidding_word_anywhere_forbids(saying: Saying) -> None:
    words = saying.text.split()
    for at in range(len(words) + 1):
        with pytest.raises(UnclearError):
            parse(" ".join([*words[:at], "not", *words[at:]]))


def test_an_unknown_word_anywhere_is_refused() -> None:
    for saying in (s for s in SAYINGS if s.actions):
        words = saying.text.split()
        for at in range(len(words) + 1):
            with pytest.raises(UnclearError):
                parse(" ".join([*words[:at], "zebra", *words[at:]]))


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.text(max_size=300) | st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join))
def test_any_text_gives_a_task_or_a_short_refusal(words: str) -> None:
    with contextlib.suppress(UnclearError):
        task = parse(words)
        named = (task.colour, *([task.onto] if task.onto else [])) if isinstance(task, Carry) else task.colours
        assert set(named) <= set(words.lower().replace(",", " ").replace("?", " ").split())
        assert all(a != b for a, b in pairwise(named))


def test_a_very_long_text_is_refused() -> None:
    for text in ("push the red button " * 5000, "robot " * 5000, "x" * 100_000, ", " * 50_000):
        with pytest.raises(UnclearError):
            parse(text)
    ten = ", then ".join(f"push the {'red' if i % 2 else 'blue'} button" for i in range(10))
    assert parse(ten) == Push(("blue", "red") * 5)
    with pytest.raises(UnclearError, match=f"at most {MAX_WORDS} words"):
        parse("please " * 1000 + "push the red button")
