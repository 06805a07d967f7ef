"""How lids and bulbs are asked for."""

from __future__ import annotations

import pytest

from stvla_ros.colours import COLOURS
from stvla_ros.planning.instruction import Carry, UnclearError, parse
from stvla_ros.planning.screwing import Screw
from stvla_ros.sim.tasks import close_jar, light_bulb_in


@pytest.mark.parametrize("words", close_jar.WORDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_wording_of_the_jar_scenes(words: str, colour: str) -> None:
    assert parse(words.format(colour)) == Screw("lid", colour)


@pytest.mark.parametrize("words", light_bulb_in.WORDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_wording_of_the_bulb_scenes(words: str, colour: str) -> None:
    assert parse(words.format(colour)) == Screw("bulb", colour)


@pytest.mark.parametrize("task", [Screw("lid", "lime"), Screw("bulb", "rose")])
def test_a_sentence_of_a_step_means_the_same(task: Screw) -> None:
    assert parse(task.sentence) == task


@pytest.mark.parametrize(
    ("words", "task"),
    [
        ("Please close the grey jar!", Screw("lid", "gray")),
        ("could you screw on the navy jar lid", Screw("lid", "navy")),
        ("Take the lid and put it onto the red coloured jar.", Screw("lid", "red")),
        ("screw the lid of the teal jar on", Screw("lid", "teal")),
        ("Grab the lid, then use it to shut the white jar, thanks", Screw("lid", "white")),
        ("put the azure light bulb in the lamp", Screw("bulb", "azure")),
        ("take the bulb out of the black holder and screw it into the lamp", Screw("bulb", "black")),
    ],
)
def test_other_wordings(words: str, task: Screw) -> None:
    assert parse(words) == task


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("Close the jar.", "say it as in 'close the red jar'"),
        ("Close the red jar and the blue jar.", "say it as in 'close the red jar'"),
        ("Open the red jar.", "'open the red jar' is not understood"),
        ("Put the red jar on the lid.", "is not understood"),
        ("Do not close the red jar.", "forbids something"),
        ("Close the red or the blue jar.", "leaves a choice"),
        ("Close the crimson jar.", "say it as in"),
        ("Screw the bulb into the lamp.", "say it as in 'screw in the red light bulb'"),
        ("Screw the red bulb into the blue lamp.", "is not understood"),
        ("Unscrew the red bulb.", "is not understood"),
    ],
)
def test_what_is_no_such_task_is_refused_with_an_example(words: str, reason: str) -> None:
    with pytest.raises(UnclearError, match=reason):
        parse(words)


def test_words_about_blocks_are_read_as_before() -> None:
    assert parse("Put the red block in the plate.") == Carry("red", None)
