"""Every state, verb and role: what leads where, and what is refused."""

from __future__ import annotations

from itertools import product

import pytest

from stvla_ros.annotate.review import TRANSITIONS, Person, RefusedError, Role, State, target

WORKS = {
    ("submit", "open"): ("annotated", "annotator"),
    ("withdraw", "annotated"): ("open", "annotator"),
    ("pass", "annotated"): ("audited", "auditor"),
    ("return", "annotated"): ("open", "auditor"),
    ("reopen", "audited"): ("open", "admin"),
    ("reopen", "accepted"): ("open", "admin"),
    ("exclude", "open"): ("excluded", "auditor"),
    ("exclude", "annotated"): ("excluded", "auditor"),
    ("include", "excluded"): ("open", "auditor"),
}
"""Written out once more, so that a change of the table is a change here."""


@pytest.mark.parametrize(("verb", "state", "role"), list(product(TRANSITIONS, State, Role)))
def test_each_step_is_allowed_or_refused(verb: str, state: State, role: Role) -> None:
    person = Person("Bo", role)
    to, least = WORKS.get((verb, state), (None, "admin"))
    annotator = "Bo" if verb == "withdraw" else "Ann"
    if to is not None and list(Role).index(role) >= list(Role).index(Role(least)):
        assert target(verb, state, person, annotator, "why") == to
    else:
        with pytest.raises(RefusedError):
            target(verb, state, person, annotator, "why")


@pytest.mark.parametrize("verb", ["pass", "return"])
def test_nobody_audits_their_own_work(verb: str) -> None:
    with pytest.raises(RefusedError, match="another person than Ann"):
        target(verb, State.ANNOTATED, Person("Ann", Role.ADMIN), "Ann", "why")
    assert target(verb, State.ANNOTATED, Person("Ann", Role.ADMIN, alone=True), "Ann", "why")


@pytest.mark.parametrize("verb", ["return", "exclude", "reopen"])
@pytest.mark.parametrize("reason", [None, "", "  ", "x" * 501])
def test_a_reason_is_asked_for(verb: str, reason: str | None) -> None:
    state = TRANSITIONS[verb].source[-1]
    with pytest.raises(RefusedError, match="reason"):
        target(verb, state, Person("Cem", Role.ADMIN), "Ann", reason)


def test_only_who_annotated_withdraws() -> None:
    with pytest.raises(RefusedError, match="who annotated the video: Ann"):
        target("withdraw", State.ANNOTATED, Person("Bo", Role.ACCEPTOR), "Ann", None)


def test_there_is_no_other_verb() -> None:
    with pytest.raises(RefusedError, match="There is no 'accept': wanted one of submit, withdraw"):
        target("accept", State.ANNOTATED, Person("Cem", Role.ADMIN), "Ann", None)
