"""The console's logic: who may do what, what is shown, and what was done. No ROS, no browser, no pictures.

The page calls its methods in whatever thread a click arrives; each returns an :class:`Answer`. The stack's news come
through the methods ``hear_…``. A stop waits for no lock, no file and no other act.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stvla_ros.console.access import Access, Role
from stvla_ros.console.audit import AuditLog
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.motion.approval import Approval, Proposal, Status
from stvla_ros.pipeline import Progress, TaskState
from stvla_ros.pipeline.values import check_instruction
from stvla_ros.tokens import MAX_TOKEN_CHARS
from stvla_ros.types import F64, WAYPOINTS, Outcome

NAME_CHARS, REASON_CHARS, DETAIL_CHARS = 60, 500, 600
ACTS_BURST, ACTS_PER_S = 10.0, 4.0
"""Acts of one client: so many at once, then so many per second. Stops do not count."""

TOKENS_BURST, TOKENS_PER_S = 10.0, 0.2
"""Wrong tokens from one address: whoever guesses must not keep others out."""

MOST_ADDRESSES = 1000
"""That wrong tokens are counted for; beyond, those whose last one is longest ago are forgotten."""

RELEASE_AFTER_S, RELEASE_WITHIN_S = 0.5, 10.0
"""The second act of a release counts this long after the first: a double click is one act."""

OTHERS = "another program"
ANOTHER_PATH = "another path was drawn"
HISTORY = 20
IDLE = "idle"


class Code(StrEnum):
    """What became of an act."""

    DONE = "done"
    BEGUN = "begun"  # only in the audit log: an act is written down before it is done
    NOT_SIGNED_IN = "not_signed_in"
    NOT_OPERATOR = "not_operator"
    WRONG_TOKEN = "wrong_token"
    TOO_FAST = "too_fast"
    BAD_INPUT = "bad_input"
    BUSY = "busy"
    STOPPED = "stopped"
    NOT_STOPPED = "not_stopped"
    PATH_REFUSED = "path_refused"  # the lifter or the task does not take the edited path; the motion still waits
    NOT_WAITING = "not_waiting"  # the motion was answered, has expired, or is another one
    CONFIRM = "confirm"  # a second act is needed
    UNREACHABLE = "unreachable"
    NOT_RECORDED = "not_recorded"  # the audit log cannot be written: nothing was done


@dataclass(frozen=True)
class Answer:
    """What became of an act, and a sentence for the person."""

    code: Code
    sentence: str

    @property
    def ok(self) -> bool:
        return self.code is Code.DONE


class Stack(Protocol):
    """What the console needs of the running stack."""

    def goal(
        self, instruction: str, approval: Approval, cancel: CancelToken, report: Callable[[Progress], None]
    ) -> Outcome:
        """Carry out an instruction; blocks. Raises ConnectionError when no stack answers."""
        ...

    def answer(self, proposal_id: str, approve: bool, who: str, reason: str) -> tuple[bool, str]:
        """Answer a proposal: whether it counts, and the executor's sentence. Raises ConnectionError."""
        ...

    def use_path(self, plan_id: str, points_m: F64, who: str) -> None:
        """Have a path checked, and used if the motion of the plan that waits is then refused.

        Args:
            plan_id: Of that plan.
            points_m: (8, 3) waypoints in the base frame.
            who: The person, for the record.

        Raises:
            StageError: Why it is not used.
            ConnectionError: Nobody answers.
        """
        ...

    def stop(self) -> None:
        """Stop the arm. Returns at once; what comes of it is told by :meth:`Session.hear_stopping`."""
        ...

    def release(self) -> str:
        """Allow motion again; the executor's sentence. Raises ConnectionError."""
        ...


@dataclass(frozen=True)
class Client:
    """A connected browser."""

    number: int
    address: str
    name: str
    role: Role = Role.NONE


@dataclass(frozen=True)
class Goal:
    """A goal of the history: its words, and its outcome; None: it runs."""

    instruction: str
    who: str
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Shown:
    """What every client sees.

    Attributes:
        instruction: Of the task that runs or ran last, whoever gave it.
        phase: ``planning``, ``predicting``, ``moving`` or ``idle``.
        steps: Sub-instructions so far; while a task runs, the last one is the current one.
        progress: Step of how many, and keyposes so far, in words.
        proposal: The newest proposed motion, and what became of it.
        stopped: Whether the operator's stop holds.
        stop_sentence: Since when, and what ends it.
        stop_news: What came of the last stop that was sent from here: who answered, whether the arm stands still.
        mode: What goals from here ask for.
        operator: Who operates; empty: nobody.
        handover: The last change of the operator, in a sentence.
        people: Names and roles of all clients.
        history: Goals, newest first; those that others gave once they have ended.
    """

    instruction: str = ""
    phase: str = IDLE
    steps: tuple[str, ...] = ()
    progress: str = ""
    proposal: Proposal | None = None
    stopped: bool = False
    stop_sentence: str = ""
    stop_news: str = ""
    mode: Approval = Approval.EACH_KEYPOSE
    operator: str = ""
    handover: str = ""
    people: tuple[str, ...] = ()
    history: tuple[Goal, ...] = ()

    @property
    def waiting(self) -> Proposal | None:
        """The motion that waits for an answer."""
        return self.proposal if self.proposal is not None and self.proposal.status is Status.WAITING else None

    @property
    def running(self) -> bool:
        return self.phase != IDLE or bool(self.history and self.history[0].outcome is None)


@dataclass
class _Bucket:
    """Allows a burst of acts, and then a rate."""

    burst: float
    per_s: float
    at: float
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.burst

    def ready(self, now: float) -> bool:
        self.left, self.at = min(self.burst, self.left + (now - self.at) * self.per_s), now
        return self.left >= 1.0

    def take(self, now: float) -> bool:
        if not self.ready(now):
            return False
        self.left -= 1.0
        return True


class Session:
    """All clients of one console, and the stack. Thread safe.

    Args:
        stack: Does what is decided here.
        access: Who may do what.
        audit: Where acts are written down.
        mode: Of the first goals.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        stack: Stack,
        access: Access,
        audit: AuditLog,
        mode: Approval = Approval.EACH_KEYPOSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stack, self._access, self._audit, self._clock = stack, access, audit, clock
        self._lock = threading.RLock()
        self._clients: dict[int, Client] = {}
        self._buckets: dict[int, _Bucket] = {}
        self._wrong: dict[str, _Bucket] = {}
        self._operator: int | None = None
        self._shown = Shown(mode=mode)
        self._history: deque[Goal] = deque(maxlen=HISTORY)
        self._given: str | None = None  # the goal from here whose end was not heard yet
        self._cancel: CancelToken | None = None
        self._goal_thread: threading.Thread | None = None
        self._busy: set[str] = set()
        self._release_asked: tuple[int, float] | None = None  # client, when

    # --- people -------------------------------------------------------------------------------------------------

    def join(self, number: int, address: str) -> Client:
        """A browser has connected; without tokens it may operate."""
        role = Role.OPERATE if self._access.open else Role.NONE
        client = Client(number, address, f"operator {number}" if self._access.open else "", role)
        with self._lock:
            self._clients[number] = client
            self._buckets[number] = _Bucket(ACTS_BURST, ACTS_PER_S, self._clock())
        if role is not Role.NONE:
            self._write(client, "join", "", Answer(Code.DONE, ""))
        return client

    def leave(self, number: int) -> None:
        """A browser is gone. A task that runs goes on: its motions still wait for approval."""
        with self._lock:
            client = self._clients.pop(number, None)
            self._buckets.pop(number, None)
            if client is not None and self._operator == number:
                self._operator = None
                self._show(handover=f"{_at()} {client.name} left: nobody operates.")
        if client is not None and client.role is not Role.NONE:
            self._write(client, "leave", "", Answer(Code.DONE, ""))

    def role(self, number: int) -> Role:
        """The role of a client."""
        client = self._clients.get(number)
        return client.role if client else Role.NONE

    def sign_in(self, number: int, token: str, name: str) -> Answer:
        """Get a role by a token, under a name for the record."""
        client = self._clients.get(number)
        words = " ".join(name.split()) if len(name) <= NAME_CHARS else ""
        if client is None:
            return _UNKNOWN
        if not words or not words.isprintable() or len(token) > MAX_TOKEN_CHARS:
            return Answer(Code.BAD_INPUT, f"Sign in with a token and a name of 1 to {NAME_CHARS} characters.")
        with self._lock:
            now = self._clock()
            wrong = self._wrong.get(client.address) or _Bucket(TOKENS_BURST, TOKENS_PER_S, now)
            if not wrong.ready(now):
                return Answer(Code.TOO_FAST, "Too many wrong tokens: wait a few seconds.")
            role = self._access.role(token)
            if role is Role.NONE:
                wrong.take(now)
                self._wrong.pop(client.address, None)
                self._wrong[client.address] = wrong  # the newest one last
                if len(self._wrong) > MOST_ADDRESSES:
                    del self._wrong[next(iter(self._wrong))]
                answer = Answer(Code.WRONG_TOKEN, "The token is wrong.")
            else:
                self._clients[number] = client = replace(client, name=words, role=role)
                if self._operator == number and role is not Role.OPERATE:
                    self._operator = None
                answer = Answer(Code.DONE, f"{words} may {role}.")
        self._write(client, "sign_in", words, answer)
        return answer

    def take_over(self, number: int) -> Answer:
        """Become the one who operates, whoever did so far; everybody sees it."""
        return self._do(number, "take_over", "", self._hand_over, takes_over=True)

    def _hand_over(self, client: Client) -> str:
        with self._lock:
            before = self._clients.get(self._operator) if self._operator not in (None, client.number) else None
            from_whom = f" took over from {before.name}." if before else " operates."
            self._operator = client.number
            self._show(handover=f"{_at()} {client.name}{from_whom}")
            return self._shown.handover

    # --- acts ---------------------------------------------------------------------------------------------------

    def say(self, number: int, instruction: str) -> Answer:
        """Give a goal, in the mode that is set."""

        def work(client: Client) -> str:
            try:
                words = check_instruction(instruction)
            except StageError as error:
                raise _RefusedError(Code.BAD_INPUT, error.sentence) from error
            with self._lock:
                shown = self.shown()
                if shown.stopped:
                    raise _RefusedError(Code.STOPPED, f"The goal was not sent: the stack is {shown.stop_sentence}")
                if shown.running:
                    raise _RefusedError(Code.BUSY, "A task runs: wait for its end, end it, or stop the arm.")
                self._cancel = CancelToken()
                self._history.appendleft(Goal(words, client.name))
                self._given = words
                given = (words, shown.mode, self._cancel)
                self._goal_thread = threading.Thread(target=self._run, args=given, name="goal", daemon=True)
                self._goal_thread.start()
            return f"'{words}' was sent ({shown.mode.replace('_', ' ')})."

        return self._do(number, "say", instruction, work)

    def _run(self, instruction: str, mode: Approval, cancel: CancelToken) -> None:
        try:
            outcome = self._stack.goal(instruction, mode, cancel, self._hear_progress)
        except ConnectionError as error:
            outcome, self._given = Outcome(OutcomeCode.NODE_LOST, str(error)), None
        with self._lock:
            self._cancel = None
            self._history[0] = replace(self._history[0], outcome=outcome)
            self._show(phase=IDLE)
        self._audit.write(act="end", detail=instruction, outcome=outcome.code.name, sentence=outcome.sentence)

    def end_task(self, number: int) -> Answer:
        """Cancel the goal that was given here."""

        def work(client: Client) -> str:
            if (cancel := self._cancel) is None:
                raise _RefusedError(Code.BUSY, "No task was given here: STOP ends whatever runs.")
            cancel.cancel(sentence=f"Canceled by {client.name} at the console.")
            return "The task ends."

        return self._do(number, "end_task", "", work)

    def approve(self, number: int, proposal_id: str) -> Answer:
        """Let the motion happen that the person was shown."""
        return self._decide(number, "approve", proposal_id, "")

    def refuse(self, number: int, proposal_id: str, reason: str = "") -> Answer:
        """The motion does not happen, and the stack looks again."""
        return self._decide(number, "refuse", proposal_id, reason)

    def use_path(self, number: int, proposal_id: str, points_m: npt.ArrayLike) -> Answer:
        """Go on with another path: it is checked, and only then is the waiting motion of the old one refused.

        Args:
            number: Who.
            proposal_id: The motion that the person was shown.
            points_m: (8, 3) waypoints in the base frame.
        """

        def work(client: Client) -> str:
            waiting, points = self._still_waiting(proposal_id), np.asarray(points_m, dtype=np.float64)
            if points.shape != (WAYPOINTS, 3) or not np.isfinite(points).all():
                raise _RefusedError(Code.BAD_INPUT, f"A path has {WAYPOINTS} finite points.")
            with self._alone("answer"):
                try:
                    self._stack.use_path(waiting.plan_id, points, client.name)
                except StageError as error:
                    raise _RefusedError(Code.PATH_REFUSED, f"{error.code.name}: {error.sentence}") from error
                counts, sentence = self._stack.answer(proposal_id, False, client.name, ANOTHER_PATH)
            if not counts:
                raise _RefusedError(Code.NOT_WAITING, sentence)
            return "The path is used: its first motion will wait for an answer."

        told = " ".join(np.array2string(point, precision=3) for point in np.atleast_1d(points_m)[:WAYPOINTS])
        return self._do(number, "use_path", f"{proposal_id} {told}", work)

    def _still_waiting(self, proposal_id: str) -> Proposal:
        waiting = self._shown.waiting
        if waiting is None or waiting.proposal_id != proposal_id:
            raise _RefusedError(Code.NOT_WAITING, "That motion does not wait for an answer any more.")
        return waiting

    def _decide(self, number: int, what: str, proposal_id: str, reason: str) -> Answer:
        def work(client: Client) -> str:
            if len(reason) > REASON_CHARS:
                raise _RefusedError(Code.BAD_INPUT, f"A reason has at most {REASON_CHARS} characters.")
            self._still_waiting(proposal_id)
            with self._alone("answer"):
                counts, sentence = self._stack.answer(proposal_id, what == "approve", client.name, reason)
            if not counts:
                raise _RefusedError(Code.NOT_WAITING, sentence)
            return sentence

        return self._do(number, what, f"{proposal_id} {reason}".strip(), work)

    def set_mode(self, number: int, mode: str) -> Answer:
        """What the next goals ask for: a value of :class:`Approval`."""

        def work(_: Client) -> str:
            if mode not in tuple(Approval):
                raise _RefusedError(Code.BAD_INPUT, f"There is no such mode; known: {', '.join(Approval)}.")
            self._show(mode=Approval(mode))
            return f"Goals from here on: {mode.replace('_', ' ')}."

        return self._do(number, "mode", mode, work)

    def replay(self, number: int, name: str, start: Callable[[], bool]) -> Answer:
        """Replay a recording; it moves nothing, but needs the computer that the stack runs on.

        Args:
            number: Of the client.
            name: Of the recording, for the audit log.
            start: Begins the replay; False if another one is under way.
        """

        def work(_: Client) -> str:
            if self.shown().running:
                raise _RefusedError(Code.BUSY, "A task runs: replay after its end.")
            try:
                begun = start()
            except OSError as error:
                raise _RefusedError(Code.BAD_INPUT, f"The replay cannot be started: {error.strerror}.") from error
            if not begun:
                raise _RefusedError(Code.BUSY, "Another replay is under way.")
            return f"{name} is replayed: the result is shown below the run."

        return self._do(number, "replay", name, work)

    def end_replay(self, number: int, end: Callable[[], bool]) -> Answer:
        """End the replay that is under way, whoever began it.

        Args:
            number: Of the client.
            end: Ends it; False if there is none.
        """

        def work(_: Client) -> str:
            if not end():
                raise _RefusedError(Code.BUSY, "No replay is under way.")
            return "The replay was ended."

        return self._do(number, "end_replay", "", work)

    def stop(self, number: int) -> Answer:
        """Stop the arm: anybody with a role, at any rate, whoever operates. First the stop, then the record."""
        client = self._clients.get(number)
        if client is None or client.role is Role.NONE:
            return _UNKNOWN
        self._stack.stop()
        if (cancel := self._cancel) is not None and not cancel.is_set():  # in a thread: whoever listens may take long
            sentence = f"Stopped by {client.name}."
            threading.Thread(target=cancel.cancel, kwargs={"sentence": sentence}, name="stopped", daemon=True).start()
        self._release_asked = None
        answer = Answer(Code.DONE, "STOP was sent.")
        bucket = self._buckets.get(number)
        if bucket is not None and bucket.take(self._clock()):  # a stuck key must not fill the disk
            self._write(client, "stop", "", answer)
        return answer

    def release(self, number: int) -> Answer:
        """Allow motion again: two acts of the same person, the second one not a double click."""

        def work(_: Client) -> str:
            if not self._shown.stopped:
                raise _RefusedError(Code.NOT_STOPPED, "The arm is not stopped.")
            now, asked = self._clock(), self._release_asked
            waited_s = now - asked[1] if asked is not None and asked[0] == number else -1.0
            if not 0.0 <= waited_s <= RELEASE_WITHIN_S:
                self._release_asked = (number, now)
                raise _RefusedError(Code.CONFIRM, "Look at the robot. If it may move again, press release once more.")
            if waited_s < RELEASE_AFTER_S:
                raise _RefusedError(Code.CONFIRM, "That was too quick: look at the robot, and press release once more.")
            with self._alone("release"):
                self._release_asked = None
                return self._stack.release()

        return self._do(number, "release", "", work)

    def _do(
        self, number: int, what: str, detail: str, work: Callable[[Client], str], takes_over: bool = False
    ) -> Answer:
        """Check who acts and how often, write that down, do it, and write down what became of it.

        An act makes its client the operator if there is none.
        """
        client, bucket, detail = self._clients.get(number), self._buckets.get(number), detail[:DETAIL_CHARS]
        if client is None or bucket is None or client.role is Role.NONE:
            return _UNKNOWN
        if not bucket.take(self._clock()):
            return Answer(Code.TOO_FAST, "Too many acts at once: wait a moment.")
        try:
            self._may_operate(client, takes_over)
            if not self._write(client, what, detail, Answer(Code.BEGUN, "")):
                raise _RefusedError(
                    Code.NOT_RECORDED,
                    f"Nothing was done: {self._audit.path} cannot be written. A stop always works.",
                )
            if self._operator is None and not takes_over:
                self._hand_over(client)
            answer = Answer(Code.DONE, work(client))
        except _RefusedError as refused:
            answer = refused.answer
        except ConnectionError as error:
            answer = Answer(Code.UNREACHABLE, str(error))
        self._write(client, what, detail, answer)
        return answer

    def _may_operate(self, client: Client, takes_over: bool) -> None:
        if client.role is not Role.OPERATE:
            raise _RefusedError(Code.NOT_OPERATOR, "You may see and stop; this needs the operators' token.")
        with self._lock:
            operator = None if self._operator is None else self._clients[self._operator]
        if not takes_over and operator is not None and operator.number != client.number:
            raise _RefusedError(Code.NOT_OPERATOR, f"{operator.name} operates: take over first.")

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """No other thread does this: clicks on a stack that hangs must not pile up."""
        with self._lock:
            if what in self._busy:
                raise _RefusedError(Code.BUSY, f"Another {what} is under way.")
            self._busy.add(what)
        try:
            yield
        finally:
            self._busy.discard(what)

    def _write(self, client: Client, act: str, detail: str, answer: Answer) -> bool:
        who = {"who": client.name, "role": str(client.role), "address": client.address, "client": str(client.number)}
        return self._audit.write(act=act, **who, detail=detail, outcome=str(answer.code), sentence=answer.sentence)

    # --- the stack's news ---------------------------------------------------------------------------------------

    def hear_task(self, state: TaskState, phase: str) -> None:
        """The state of the task that runs or ran last, whoever gave it."""
        of = f"step {state.step_index + 1}" + (f" of {state.step_total}" if state.step_total else "")
        self._show(
            instruction=state.instruction,
            phase=phase,
            steps=state.sub_instructions,
            progress=f"{of}, {state.keyposes} keyposes" if state.instruction else "",
        )

    def _hear_progress(self, progress: Progress) -> None:
        if progress.state is not None:
            self.hear_task(progress.state, progress.phase)

    def hear_end(self, instruction: str, outcome: Outcome) -> None:
        """How a task ended. Of one that was given here, the goal's result says so."""
        with self._lock:
            if instruction == self._given:
                self._given = None
                return
            goals, runs = list(self._history), bool(self._history and self._history[0].outcome is None)
            self._history = deque([*goals[:runs], Goal(instruction, OTHERS, outcome), *goals[runs:]][:HISTORY], HISTORY)

    def hear_proposal(self, proposal: Proposal) -> None:
        """A proposed motion, or what became of it."""
        self._show(proposal=proposal)

    def hear_stopped(self, stopped: bool, sentence: str) -> None:
        """The operator's stop, as the stack keeps it."""
        self._show(stopped=stopped, stop_sentence=sentence)
        if not stopped:
            self._show(stop_news="")

    def hear_stopping(self, sentence: str) -> None:
        """News of a stop that was sent from here."""
        self._show(stop_news=sentence)

    def shown(self) -> Shown:
        """What every client sees now."""
        with self._lock:
            people = tuple(f"{c.name} ({c.role})" for c in self._clients.values() if c.role is not Role.NONE)
            operator = self._clients[self._operator].name if self._operator is not None else ""
            return replace(self._shown, operator=operator, people=people, history=tuple(self._history))

    def _show(self, **changes: object) -> None:
        with self._lock:
            self._shown = replace(self._shown, **changes)  # type: ignore[arg-type]

    def close(self, timeout_s: float) -> None:
        """End the goal that was given here, and wait for its end."""
        cancel, work = self._cancel, self._goal_thread
        if cancel is not None:
            cancel.cancel(sentence="Canceled: the console ends.")
        if work is not None:
            work.join(timeout_s)


class _RefusedError(Exception):
    """An act is not done, and why."""

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.answer = Answer(code, sentence)


_UNKNOWN = Answer(Code.NOT_SIGNED_IN, "Sign in first.")


def _at() -> str:
    return time.strftime("%H:%M:%S")
