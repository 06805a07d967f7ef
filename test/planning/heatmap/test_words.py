"""The wordings that small planners know."""

from __future__ import annotations

import numpy as np
import pytest

from stvla_ros.planning.heatmap.weights_file import UNKNOWN, numbers
from stvla_ros.planning.heatmap.words import MAX_WORDS, Goal, Name, named, say, split, vocabulary
from stvla_ros.planning.instruction import parse

RED, BLUE = Name("block", "red"), Name("block", "blue")
BUTTONS = tuple(Name("button", colour) for colour in ("teal", "rose", "gray"))
GOALS = (
    Goal("point", (Name("bottle", "lime"),)),
    Goal("place", (RED, Name("plate", ""))),
    Goal("stack", (RED, BLUE)),
    Goal("screw", (Name("lid", ""), Name("jar", "navy"))),
    Goal("screw", (Name("bulb", "navy"), Name("lamp", ""))),
    Goal("store", (Name("chocolate jello", ""), Name("cupboard", ""))),
    *(Goal("push", BUTTONS[:n]) for n in (1, 2, 3)),
)


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.action}-{goal.steps}")
def test_every_wording_is_known_short_enough_and_names_all_things(goal: Goal) -> None:
    words, rng = vocabulary(), np.random.default_rng(0)
    texts = {say(goal, rng) for _ in range(300)}
    assert len(texts) >= (8 if goal.action == "point" else 20)
    for text in texts:
        assert UNKNOWN not in numbers(words, text), text
        assert len(split(text)) <= MAX_WORDS
        assert {name.colour for name in goal.names if name.colour} <= set(split(text))


def test_every_wording_is_read_as_it_was_meant() -> None:
    """What the network is trained on and what operators may say were written apart from each other."""
    rng = np.random.default_rng(1)
    for goal in GOALS[1:]:
        for _ in range(200):
            text = say(goal, rng)
            assert Goal.of(parse(text)) == goal, text


def test_a_name_alone_is_no_task() -> None:
    assert [named(text) for text in ("the lime bottle", "Red Cube", "plate.", "a grey switch")] == [
        Name("bottle", "lime"), Name("block", "red"), Name("plate", ""), Name("button", "gray")
    ]  # fmt: skip
    assert [named(t) for t in ("push the red button", "red", "the red plate", "red blue block", "")] == [None] * 5
    assert Name.of("lime bottle") == Name("bottle", "lime")
    assert Name.of("plate") == Name("plate", "")


def test_order_turns_around_with_after() -> None:
    texts = {say(Goal("push", BUTTONS[:2]), np.random.default_rng(i)) for i in range(300)}
    turned = [t for t in texts if " after the teal" in t]
    assert turned
    assert all(t.index("rose") < t.index("teal") for t in turned)


def test_sentences_are_those_that_policies_know() -> None:
    assert Goal("place", (RED, Name("plate", ""))).sentence(0) == "pick up the red block and put it in the plate"
    assert Goal("push", BUTTONS).sentence(2) == "push the gray button"
    assert GOALS[3].sentence(0) == "pick up the lid and screw it on the navy jar"
    assert GOALS[4].sentence(0) == "pick up the bulb of the navy holder and screw it into the lamp"


def test_words_of_other_scripts_stay_unknown() -> None:
    assert numbers(vocabulary(), "put the красный block")[2] == UNKNOWN
    assert numbers(vocabulary(), "the grey cube") == numbers(vocabulary(), "the gray cube")
