"""Sentences of the 18 templates: written and read back without loss, whatever the objects are called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stvla_ros.data.st_human.templates import (
    MAX_WORDS,
    TEMPLATES,
    Choice,
    Form,
    SlotValue,
    TemplateError,
    Thing,
    Things,
    Whole,
    Words,
    check_names,
    expected_after,
    read,
    sentence,
)

NAMES = {"o1": "red block", "o2": "plate", "o3": "blue cup", "o4": "drawer", "o5": "sponge"}

FORMS = [(template.id, form) for template in TEMPLATES.values() for form in template.forms]


def drawn(form: Form, ids: list[str], draw: st.DataObject) -> dict[str, SlotValue]:
    """Random values for all slots of a form."""
    slots: dict[str, SlotValue] = dict(form.implied)
    words = st.text("abcdefgh", min_size=1, max_size=6)
    for name, slot in form.slots.items():
        match slot:
            case Thing():
                slots[name] = draw.draw(st.sampled_from(ids))
            case Things(least, most):
                count = draw.draw(st.integers(least, most))
                slots[name] = tuple(draw.draw(st.permutations(ids))[:count])
            case Choice(values):
                slots[name] = draw.draw(st.sampled_from(values))
            case Whole(least, most):
                slots[name] = draw.draw(st.integers(least, most))
            case Words():
                slots[name] = " ".join(draw.draw(st.lists(words, min_size=1, max_size=4)))
            case _:
                raise AssertionError(slot)
    return slots


def test_there_are_eighteen_with_three_wordings_each() -> None:
    assert len(TEMPLATES) == 18
    for _, form in FORMS:
        assert len(set(form.wordings)) == 3
        for wording in form.wordings:
            assert set(re.findall(r"{(\w+)}", wording)) == set(form.slots)


@pytest.mark.parametrize(("template", "form"), FORMS, ids=[f"{t}-{i}" for i, (t, _) in enumerate(FORMS)])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_said_is_read_back(template: str, form: Form, data: st.DataObject) -> None:
    slots = drawn(form, list(NAMES), data)
    for wording in range(3):
        said = sentence(template, slots, NAMES, wording)
        assert read(said, NAMES) == (template, slots)
        assert len(said.split()) <= MAX_WORDS
        assert said[0].isupper()
        assert said.endswith(".")


CONFUSING = [
    "block",
    "block left",
    "cup",
    "cup on its side",
    "left",
    "old place of the cup",
    "tip of the cup",
    "target",
]


@pytest.mark.parametrize(("template", "form"), FORMS, ids=[f"{t}-{i}" for i, (t, _) in enumerate(FORMS)])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_with_confusing_names_it_is_refused_rather_than_read_wrongly(
    template: str, form: Form, data: st.DataObject
) -> None:
    names = {f"o{i}": name for i, name in enumerate(CONFUSING)}
    slots = drawn(form, list(names), data)
    for wording in range(3):
        said, refused = "", ""
        try:
            said = sentence(template, slots, names, wording)
        except TemplateError as error:
            refused = str(error)
        if said:
            assert read(said, names) == (template, slots)
        else:
            assert re.search("can be read in two ways|at most 20 words", refused)


def test_a_name_that_makes_two_meanings_is_refused() -> None:
    names = {"a": "block", "b": "left"}
    with pytest.raises(TemplateError, match=r"can be read in two ways \(slide or press\)|give an object another name"):
        sentence("press", {"control": "c"}, names | {"c": "block left"}, wording=1)


@pytest.mark.parametrize(
    ("template", "slots", "words"),
    [
        ("put_into", {}, r"No template 'put_into'. Did you mean 'put_in'\?"),
        ("put_in", {"object": "o1"}, "wanted the slots object, container; found object"),
        (
            "put_in",
            {"object": "o1", "container": "o9"},
            "slot 'container': wanted the id of an object of the video, found 'o9'",
        ),
        ("stack", {"object": "o1", "supports": ("o2", "o2")}, "wanted a list of 1 to 3 different ids"),
        ("turn", {"control": "o4", "direction": "left"}, "wanted one of clockwise, counter-clockwise, found 'left'"),
        (
            "turn",
            {"control": "o4", "direction": "clockwise", "angle": True},
            "a whole number from 1 to 720, found True",
        ),
        ("cut", {"material": "o1", "percent": 99, "tool": "o5"}, "a whole number from 5 to 95, found 99"),
        ("pour", {"content": "The Water", "source": "o3", "target": "o2"}, "one to four words in lower case"),
        (
            "set_state",
            {"thing": "o4", "state": "ajar"},
            "wanted the slots thing, state='open' or thing, state='closed'",
        ),
        ("reshape", {}, "found none"),
    ],
)
def test_wrong_slots_are_named(template: str, slots: dict[str, SlotValue], words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        sentence(template, slots, NAMES)


def test_the_sentences_that_planners_know() -> None:
    assert sentence("put_in", {"object": "o1", "container": "o2"}, NAMES) == "Put the red block in the plate."
    assert sentence("press", {"control": "b"}, {"b": "red button"}, wording=1) == "Push the red button."
    assert read("put the red block in the plate", NAMES) == ("put_in", {"object": "o1", "container": "o2"})


@pytest.mark.parametrize(
    "said", ["", "Put the red block.", "Put the red block in the bowl.", "Put a red block in the plate.", "Dance."]
)
def test_other_sentences_are_refused(said: str) -> None:
    with pytest.raises(TemplateError, match="is no sentence of a template about these objects: red block, plate"):
        read(said, NAMES)


@pytest.mark.parametrize(
    ("template", "slots", "after"),
    [
        ("pick_up", {"object": "o1"}, [("o1", "held", (), True)]),
        ("put_in", {"object": "o1", "container": "o2"}, [("o1", "in", ("o2",), True)]),
        ("take_out", {"object": "o1", "container": "o4"}, [("o1", "in", ("o4",), False)]),
        ("stack", {"object": "o1", "supports": ("o2", "o3")}, [("o1", "on", ("o2", "o3"), True)]),
        (
            "put_relative",
            {"object": "o1", "relation": "in front of", "reference": "o3"},
            [("o1", "in_front_of", ("o3",), True)],
        ),
        ("put_relative", {"object": "o1", "relation": "next to", "reference": "o3"}, [("o1", "near", ("o3",), True)]),
        (
            "put_relative",
            {"object": "o1", "relation": "between", "references": ("o2", "o3")},
            [("o1", "between", ("o2", "o3"), True)],
        ),
        (
            "put_oriented",
            {"object": "o3", "orientation": "upside down", "support": "o2"},
            [("o3", "upside_down", (), True), ("o3", "on", ("o2",), True)],
        ),
        ("wipe", {"target": "o2", "tool": "o5"}, []),
    ],
)
def test_what_must_hold_afterwards(template: str, slots: dict[str, SlotValue], after: list[object]) -> None:
    assert list(expected_after(template, slots)) == after


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"a": "the cup"}, "name of 'a': wanted one to four words in lower case without an article, found 'the cup'"),
        ({"a": "Cup"}, "found 'Cup'"),
        ({"a": ""}, "found ''"),
        ({"a": "one two three four five"}, "wanted one to four words"),
        ({"a": "cup", "b": "cup"}, "'a' and 'b' are both called 'cup': add the colour"),
    ],
)
def test_names_are_checked(names: dict[str, str], words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        check_names(names)
