"""The task templates, other ways to say them, and what is not understood."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stvla_ros.colours import COLOURS
from stvla_ros.planning.instruction import Carry, Push, UnclearError, parse


@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_the_templates_with_every_colour(colour: str) -> None:
    assert parse(f"Put the {colour} block in the plate.") == Carry(colour, None)
    other = "red" if colour != "red" else "blue"
    assert parse(f"Stack the {colour} block on the {other} block.") == Carry(colour, other)
    assert parse(f"Push the {colour} button.") == Push((colour,))
    assert parse(f"Push the {colour} button, then push the {other} button.") == Push((colour, other))


@pytest.mark.parametrize(
    ("words", "task"),
    [
        ("PUT THE RED BLOCK INTO THE PLATE", Carry("red", None)),
        ("please pick up the grey cube and place it onto the dish", Carry("gray", None)),
        ("Place the red block on top of the blue block!", Carry("red", "blue")),
        ("take the red block, then put it on the lime cube", Carry("red", "lime")),
        ("Press the red button, then the blue button.", Push(("red", "blue"))),
        ("push the red, then the blue and then the green button", Push(("red", "blue", "green"))),
        (
            "Push the red button, then push the blue button, then push the red button.",
            Push(("red", "blue", "red")),
        ),
        ("  push   the\tred button ", Push(("red",))),
    ],
)
def test_paraphrases(words: str, task: Carry | Push) -> None:
    assert parse(words) == task


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("Put the pink block in the plate.", "'pink' is not a colour"),
        ("Put the magneta block in the plate.", "Did you mean 'magenta'?"),
        ("Put the red banana in the plate.", "none of the tasks"),
        ("Put the red block in the drawer.", "none of the tasks"),
        ("Do not put the red block in the plate.", "none of the tasks"),
        ("Push the red button, then wipe the blue button.", "'wipe the blue button' does not name a button"),
        ("Stack the red block on the red block.", "cannot stand on itself"),
        ("Sing a song.", "none of the tasks"),
        ("Push the red button, then dance.", "none of the tasks"),
        ("", "none of the tasks"),
    ],
)
def test_what_is_not_understood(words: str, part: str) -> None:
    with pytest.raises(UnclearError, match=part.replace("?", r"\?")):
        parse(words)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_gives_a_task_or_a_short_refusal(words: str) -> None:
    with contextlib.suppress(UnclearError):
        assert isinstance(parse(words), (Carry, Push))


def test_a_very_long_text_is_refused_quickly() -> None:
    with pytest.raises(UnclearError):
        parse("push the red button " * 5000)
