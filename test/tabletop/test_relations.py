"""What boxes on a table are to each other, as somebody in front of it would say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from stvla_ros.tabletop.relations import OrientedBox, find_relations


def box(
    x: float, y: float, size: tuple[float, float, float] = (0.05, 0.05, 0.05), bottom: float = 0.0, **how: object
) -> OrientedBox:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("zx", [how.pop("yaw", 0.0), how.pop("roll", 0.0)], degrees=True).as_matrix()
    T[:3, 3] = x, y, bottom + size[2] / 2
    return OrientedBox(T, np.array(size), **how)  # type: ignore[arg-type]


def said(**things: OrientedBox) -> set[tuple[str, ...]]:
    """Relations without margins, and without orientations."""
    found = find_relations(things)
    return {(r.subject, r.predicate, *r.objects) for r in found if r.predicate != "upright"}


def directions(a: OrientedBox, b: OrientedBox) -> set[tuple[str, ...]]:
    return {r for r in said(a=a, b=b) if r[1] in ("left_of", "right_of", "in_front_of", "behind")}


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (0.3, 0.0, {("a", "left_of", "b"), ("b", "right_of", "a")}),
        (-0.3, 0.1, {("a", "right_of", "b"), ("b", "left_of", "a")}),
        (0.0, 0.3, {("a", "in_front_of", "b"), ("b", "behind", "a")}),
        (0.05, -0.3, {("a", "behind", "b"), ("b", "in_front_of", "a")}),
        (0.3, 0.3, set()),
        (0.3, 0.2, set()),
        (0.3, 0.16, {("a", "left_of", "b"), ("b", "right_of", "a")}),
        (0.02, 0.0, set()),
        (0.045, 0.0, {("a", "left_of", "b"), ("b", "right_of", "a")}),
    ],
)
def test_directions(x: float, y: float, words: set[tuple[str, ...]]) -> None:
    """``b`` is seen from ``a``; nothing is said near the diagonals and of footprints that overlap."""
    assert directions(box(0.0, 0.0), box(x, y)) == words


def test_a_block_on_a_block_and_a_block_beside_it() -> None:
    found = said(top=box(0.0, 0.0, bottom=0.05), low=box(0.01, 0.0), beside=box(0.2, 0.0))
    assert {("top", "on", "low"), ("low", "under", "top")} <= found
    assert not {r for r in found if r[1] in ("near", "touching", "left_of") and {r[0], r[2]} == {"top", "low"}}
    assert ("low", "left_of", "beside") in found


@pytest.mark.parametrize(
    ("x", "bottom", "on"),
    [
        (0.0, 0.05, True),
        (0.034, 0.05, True),
        (0.037, 0.05, False),
        (0.0, 0.076, False),
        (0.0, 0.074, True),
        (0.0, 0.036, True),
        (0.0, 0.034, False),
    ],
)
def test_how_far_a_thing_may_be_off_what_it_is_on(x: float, bottom: float, on: bool) -> None:
    assert (("a", "on", "b") in said(a=box(x, 0.0, bottom=bottom), b=box(0.0, 0.0))) == on


def test_in_a_container() -> None:
    bowl = box(0.0, 0.0, (0.16, 0.16, 0.06), container=True)
    assert ("a", "in", "bowl") in said(a=box(0.03, 0.0, bottom=0.008), bowl=bowl)
    assert ("a", "in", "bowl") not in said(a=box(0.03, 0.0, bottom=0.055), bowl=bowl), "on its rim"
    assert ("a", "in", "bowl") not in said(a=box(0.079, 0.0, bottom=0.008), bowl=bowl), "half outside"
    assert ("a", "in", "b") not in said(a=box(0.0, 0.0, bottom=0.008), b=box(0.0, 0.0, (0.16, 0.16, 0.06))), (
        "no container"
    )


@pytest.mark.parametrize(
    ("x", "words"), [(0.0555, {"near", "touching"}), (0.07, {"near"}), (0.099, {"near"}), (0.11, set())]
)
def test_near_and_touching(x: float, words: set[str]) -> None:
    found = said(a=box(0.0, 0.0), b=box(x, 0.0))
    assert {r[1] for r in found if r[0] == "a"} - {"left_of"} == words


def test_what_is_turned_touches_with_its_corner() -> None:
    assert ("a", "touching", "b") in said(a=box(0.0, 0.0), b=box(0.064, 0.0, yaw=45.0))
    assert ("a", "touching", "b") not in said(a=box(0.0, 0.0), b=box(0.064, 0.0))


def test_a_large_thing_is_near_from_further_away() -> None:
    assert ("a", "near", "b") in said(a=box(0.0, 0.0), b=box(0.25, 0.0, (0.3, 0.3, 0.02)))


def test_between() -> None:
    things = {"b": box(-0.2, 0.0), "c": box(0.2, 0.0)}
    assert ("a", "between", "b", "c") in said(a=box(0.05, 0.1), **things)
    assert ("a", "between", "b", "c") not in said(a=box(0.15, 0.0), **things)
    assert ("a", "between", "b", "c") not in said(a=box(0.0, 0.25), **things)


@pytest.mark.parametrize(
    ("roll", "word"), [(0, "upright"), (25, "upright"), (90, "on_its_side"), (180, "upside_down"), (45, None)]
)
def test_orientation(roll: float, word: str | None) -> None:
    found = {r.predicate for r in find_relations({"a": box(0.0, 0.0, roll=roll)})}
    assert found == ({word} if word else set())


def test_what_is_held_is_on_nothing() -> None:
    things = {"a": box(0.0, 0.0, bottom=0.05), "b": box(0.0, 0.0)}
    found = {(r.subject, r.predicate) for r in find_relations(things, held={"a"})}
    assert ("a", "on") not in found
    assert ("a", "held") in found


OPPOSITE = {
    "left_of": "right_of",
    "right_of": "left_of",
    "in_front_of": "behind",
    "behind": "in_front_of",
    "near": "near",
    "touching": "touching",
    "on": "under",
    "under": "on",
}
PLACES = st.tuples(*[st.floats(-0.4, 0.4)] * 2, st.floats(0.0, 0.2), st.floats(0.0, 360.0), st.booleans())


@given(places=st.lists(PLACES, min_size=2, max_size=4))
@settings(max_examples=150, deadline=None)
def test_relations_agree_with_each_other(places: list[tuple[float, float, float, float, bool]]) -> None:
    things = {
        f"t{i}": box(x, y, (0.06, 0.04, 0.05), bottom=z, yaw=yaw, container=container)
        for i, (x, y, z, yaw, container) in enumerate(places)
    }
    found = find_relations(things)
    seen = {(r.subject, r.predicate, r.objects) for r in found}
    assert len(seen) == len(found)
    for r in found:
        assert r.margin >= 1.0 - 1e-9
        assert r.subject not in r.objects
        if r.predicate in OPPOSITE:
            assert (r.objects[0], OPPOSITE[r.predicate], (r.subject,)) in seen
            assert (r.subject, OPPOSITE[r.predicate], r.objects) not in seen or OPPOSITE[r.predicate] == r.predicate
