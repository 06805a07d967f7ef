"""Who may do what with a video, and when: roles, states, and the table of all transitions between them.

::

    open --submit--> annotated --pass--> audited --(drawn)--> in_batch --(accepted)--> accepted
     ^                   |                                        |                        |
     +-- return, withdraw, (batch rejected), reopen: with a reason +------------------------+

Words in brackets happen to all videos of a batch (:mod:`stvla_ros.annotate.store`), the others to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """From little to much: a role may do all that the ones before it may. The paper's tiers 00, 01, 10 and 11."""

    ANNOTATOR = "annotator"
    AUDITOR = "auditor"
    ACCEPTOR = "acceptor"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether this role may do what the other one may."""
        return list(Role).index(self) >= list(Role).index(other)


class State(StrEnum):
    """Where a video stands."""

    OPEN = "open"  # is being annotated
    ANNOTATED = "annotated"  # waits for an audit
    AUDITED = "audited"  # waits for a batch
    IN_BATCH = "in_batch"  # its batch waits for verdicts
    ACCEPTED = "accepted"
    EXCLUDED = "excluded"


class RefusedError(Exception):
    """What a person asked for is not theirs to do, or not now; the message says which and why."""


@dataclass(frozen=True)
class Person:
    """Who asks. ``alone``: nobody has a token, so that one person does everything."""

    name: str
    role: Role
    alone: bool = False


@dataclass(frozen=True)
class Transition:
    """A step of one video.

    Attributes:
        source: States that it starts in.
        target: State that it ends in.
        role: Who may, at least.
        reason: Whether it needs one.
        others: Whether only somebody else than the annotator may.
        complete: Whether the annotation must be one that can be exported.
    """

    source: tuple[State, ...]
    target: State
    role: Role
    reason: bool = False
    others: bool = False
    complete: bool = False


TRANSITIONS: Mapping[str, Transition] = {
    "submit": Transition((State.OPEN,), State.ANNOTATED, Role.ANNOTATOR, complete=True),
    "withdraw": Transition((State.ANNOTATED,), State.OPEN, Role.ANNOTATOR),
    "pass": Transition((State.ANNOTATED,), State.AUDITED, Role.AUDITOR, others=True, complete=True),
    "return": Transition((State.ANNOTATED,), State.OPEN, Role.AUDITOR, reason=True, others=True),
    "reopen": Transition((State.AUDITED, State.ACCEPTED), State.OPEN, Role.ADMIN, reason=True),
    "exclude": Transition((State.OPEN, State.ANNOTATED), State.EXCLUDED, Role.AUDITOR, reason=True),
    "include": Transition((State.EXCLUDED,), State.OPEN, Role.AUDITOR),
}

MAX_REASON = 500
"""Characters of a reason."""


def target(verb: str, state: State, person: Person, annotator: str | None, reason: str | None) -> State:
    """The state that a verb leads to.

    Args:
        verb: One of :data:`TRANSITIONS`.
        state: The video's.
        person: Who asks.
        annotator: Who changed the annotation last; None: nobody yet.
        reason: What they say.

    Raises:
        RefusedError: There is no such verb, it is not for this state or person, or a reason is missing.
    """
    step = TRANSITIONS.get(verb)
    if step is None:
        raise RefusedError(f"There is no '{verb[:40]}': wanted one of {', '.join(TRANSITIONS)}.")
    if state not in step.source:
        raise RefusedError(f"'{verb}' is for videos that are {' or '.join(step.source)}: this one is {state}.")
    if not person.role.includes(step.role):
        raise RefusedError(f"'{verb}' needs the role {step.role}: {person.name} is {person.role}.")
    if step.others and annotator == person.name and not person.alone:
        raise RefusedError(f"'{verb}' is for another person than {person.name}, who annotated the video.")
    if verb == "withdraw" and annotator != person.name and not person.role.includes(Role.ADMIN):
        raise RefusedError(f"'withdraw' is for who annotated the video: {annotator or 'nobody yet'}.")
    if step.reason and not (reason or "").strip():
        raise RefusedError(f"'{verb}' needs a reason.")
    if len(reason or "") > MAX_REASON:
        raise RefusedError(f"A reason has at most {MAX_REASON} characters.")
    return step.target


def may_edit(state: State) -> None:
    """Raise RefusedError unless the annotation may be changed."""
    if state is not State.OPEN:
        raise RefusedError(f"Only open videos are changed: this one is {state}.")
