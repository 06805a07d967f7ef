"""The console's logic, with a stack that only notes what it is asked."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from stvla_ros.config import ConfigError
from stvla_ros.console.access import Access, Role, TokenConfig
from stvla_ros.console.audit import AuditLog
from stvla_ros.console.session import ACTS_BURST, MOST_ADDRESSES, TOKENS_BURST, Code, Session
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.motion.approval import Approval, Proposal, Status
from stvla_ros.pipeline import Progress, TaskState
from stvla_ros.types import Keypose, Outcome

OPERATE, VIEW = "0123456789abcdef-operate", "0123456789abcdef-view"
GOAL = "Put the red block in the plate."
ADA, BOB, EVE = 1, 2, 3


class NotingStack:
    """Goals run until they are canceled or ``end`` is set."""

    def __init__(self) -> None:
        self.goals: list[tuple[str, Approval]] = []
        self.answers: list[tuple[str, bool, str, str]] = []
        self.paths: list[tuple[str, np.ndarray, str]] = []
        self.refusal: StageError | None = None
        self.stops = self.releases = 0
        self.counts, self.reachable = True, True
        self.end, self.hold = threading.Event(), threading.Event()
        self.hold.set()
        self.asked = threading.Event()

    def goal(self, instruction, approval, cancel: CancelToken, report) -> Outcome:
        if not self.reachable:
            raise ConnectionError("No stack is running.")
        self.goals.append((instruction, approval))
        report(Progress("planning", "", 0, "", None, 0.0, TaskState(instruction)))
        wake = threading.Event()
        cancel.on_cancel(wake.set)
        while not wake.is_set() and not self.end.is_set():
            wake.wait(0.01)
        if cancel.is_set():
            return Outcome(OutcomeCode.CANCELED, "Canceled.")
        return Outcome(OutcomeCode.OK, "Done after 3 keyposes.")

    def answer(self, proposal_id, approve, who, reason):
        self.asked.set()
        assert self.hold.wait(10.0)
        if not self.reachable:
            raise ConnectionError("No executor answers.")
        self.answers.append((proposal_id, approve, who, reason))
        return self.counts, "Motion 1 is approved."

    def use_path(self, plan_id, points_m, who) -> None:
        if not self.reachable:
            raise ConnectionError("No task node answers.")
        if self.refusal is not None:
            raise self.refusal
        self.paths.append((plan_id, points_m.copy(), who))

    def stop(self) -> None:
        self.stops += 1

    def release(self) -> str:
        if not self.reachable:
            raise ConnectionError("No executor answers.")
        self.releases += 1
        return "Motion is allowed."


class Console:
    """A session with its parts; time passes when the test says so."""

    def __init__(self, folder: Path, tokens: bool = False) -> None:
        self.now, self.stack = 100.0, NotingStack()
        config = TokenConfig(operate_variable="OP", view_variable="VIEW") if tokens else TokenConfig()
        access = Access("127.0.0.1", config, {"OP": OPERATE, "VIEW": VIEW})
        self.audit = AuditLog(folder / "audit" / "log.jsonl")
        self.session = Session(self.stack, access, self.audit, clock=lambda: self.now)

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.audit.path.read_text().splitlines()]

    def wait_idle(self) -> None:
        thread = self.session._goal_thread
        assert thread is not None
        thread.join(10.0)
        assert not thread.is_alive()


@pytest.fixture
def console(tmp_path: Path) -> Console:
    console = Console(tmp_path)
    console.session.join(ADA, "127.0.0.1")
    return console


@pytest.fixture
def shared(tmp_path: Path) -> Console:
    """With tokens: Ada and Bob operate, Eve views, 4 has not signed in."""
    console = Console(tmp_path, tokens=True)
    for number, (name, token) in enumerate([("Ada", OPERATE), ("Bob", OPERATE), ("Eve", VIEW)], 1):
        assert console.session.join(number, "10.0.0.5").role is Role.NONE
        assert console.session.sign_in(number, token, name).ok
    console.session.join(4, "10.0.0.6")
    return console


def proposal(name: str, status: Status = Status.WAITING) -> Proposal:
    return Proposal(name, "plan", Keypose(np.eye(4), True), (), status)


# --- paths -----------------------------------------------------------------------------------------------------------

POINTS = np.linspace((0.4, 0.0, 0.1), (0.6, 0.2, 0.3), 8)


def test_an_edited_path_is_checked_and_then_the_waiting_motion_is_refused(console: Console) -> None:
    console.session.hear_proposal(proposal("a-1"))
    answer = console.session.use_path(ADA, "a-1", POINTS)
    assert answer.ok, answer
    ((plan_id, points, who),) = console.stack.paths
    assert (plan_id, who) == ("plan", "operator 1")
    np.testing.assert_array_equal(points, POINTS)
    assert console.stack.answers == [("a-1", False, "operator 1", "another path was drawn")]
    assert "[0.4 0.  0.1]" in console.lines()[-1]["detail"]


def test_a_path_that_is_not_taken_leaves_the_motion_waiting(console: Console) -> None:
    console.session.hear_proposal(proposal("a-1"))
    console.stack.refusal = StageError(OutcomeCode.LIFT_IMPLAUSIBLE, "It jumps.")
    answer = console.session.use_path(ADA, "a-1", POINTS)
    assert (answer.code, answer.sentence) == (Code.PATH_REFUSED, "LIFT_IMPLAUSIBLE: It jumps.")
    console.stack.reachable = False
    assert console.session.use_path(ADA, "a-1", POINTS).code is Code.UNREACHABLE
    assert console.stack.answers == []
    assert console.session.shown().waiting is not None
    assert console.lines()[-1]["outcome"] == "unreachable"


@pytest.mark.parametrize(
    "points", [POINTS[:7], np.full((8, 3), np.nan), np.full((8, 3), np.inf), np.zeros((8, 2)), np.zeros(0)]
)
def test_points_that_are_no_path(points: np.ndarray, console: Console) -> None:
    console.session.hear_proposal(proposal("a-1"))
    assert console.session.use_path(ADA, "a-1", points).code is Code.BAD_INPUT
    assert (console.stack.paths, console.stack.answers) == ([], [])


def test_a_path_for_a_motion_that_waits_no_more(console: Console) -> None:
    assert console.session.use_path(ADA, "a-1", POINTS).code is Code.NOT_WAITING
    console.session.hear_proposal(proposal("a-1", Status.APPROVED))
    assert console.session.use_path(ADA, "a-1", POINTS).code is Code.NOT_WAITING
    console.session.hear_proposal(proposal("a-2"))
    assert console.session.use_path(ADA, "a-1", POINTS).code is Code.NOT_WAITING
    console.stack.counts = False  # it is answered while the path is checked
    assert console.session.use_path(ADA, "a-2", POINTS).code is Code.NOT_WAITING


def test_who_only_views_edits_no_path(shared: Console) -> None:
    shared.session.hear_proposal(proposal("a-1"))
    assert shared.session.use_path(EVE, "a-1", POINTS).code is Code.NOT_OPERATOR
    assert shared.session.use_path(4, "a-1", POINTS).code is Code.NOT_SIGNED_IN
    assert shared.stack.paths == []


# --- goals -----------------------------------------------------------------------------------------------------------


def test_a_goal_runs_to_its_outcome(console: Console) -> None:
    session = console.session
    assert session.shown().mode is Approval.EACH_KEYPOSE, "nothing moves unasked unless somebody says so"
    assert session.say(ADA, f"  {GOAL} ").ok
    assert session.shown().running
    console.stack.end.set()
    console.wait_idle()
    shown = session.shown()
    assert not shown.running
    assert shown.history[0].outcome is not None
    assert shown.history[0].outcome.sentence == "Done after 3 keyposes."
    assert console.stack.goals == [(GOAL, Approval.EACH_KEYPOSE)]


def test_goals_of_others_are_in_the_history_with_their_ends(console: Console) -> None:
    session, other = console.session, Outcome(OutcomeCode.STEP_LIMIT, "Not finished after 25 keyposes.")
    session.hear_end("Push the red button.", other)
    (goal,) = session.shown().history
    assert (goal.instruction, goal.who, goal.outcome) == ("Push the red button.", "another program", other)
    assert not session.shown().running
    assert session.say(ADA, GOAL).ok
    session.hear_end("Push the red button.", other)  # one that this goal preempted
    assert session.shown().running
    session.hear_end(GOAL, Outcome(OutcomeCode.OK, "As the task node says it."))
    console.stack.end.set()
    console.wait_idle()
    session.hear_end(GOAL, other)  # somebody gives it again
    said = [(goal.who, goal.outcome and goal.outcome.code.name) for goal in session.shown().history]
    others = ("another program", "STEP_LIMIT")
    assert said == [others, ("operator 1", "OK"), others, others]
    for _ in range(30):
        session.hear_end("again", other)
    assert len(session.shown().history) == 20


def test_a_goal_that_reached_no_stack_hides_nobody_elses(console: Console) -> None:
    console.stack.reachable = False
    assert console.session.say(ADA, GOAL).ok
    console.wait_idle()
    console.session.hear_end(GOAL, Outcome(OutcomeCode.OK, "Done."))
    assert [goal.who for goal in console.session.shown().history] == ["another program", "operator 1"]


@pytest.mark.parametrize("mode", list(Approval))
def test_the_mode_is_that_of_the_next_goal(mode: Approval, console: Console) -> None:
    console.stack.end.set()
    assert console.session.set_mode(ADA, mode.value).ok
    assert console.session.say(ADA, GOAL).ok
    console.wait_idle()
    assert console.stack.goals == [(GOAL, mode)]


def test_a_recording_is_replayed_by_who_operates_and_beside_no_task(shared: Console) -> None:
    begun: list[str] = []

    def start() -> bool:
        begun.append("one")
        return len(begun) == 1

    assert shared.session.replay(3, "run", start).code is Code.NOT_OPERATOR
    assert shared.session.say(1, "Push it.").ok
    assert shared.session.replay(1, "run", start).code is Code.BUSY
    assert begun == []
    assert shared.session.end_task(1).ok
    shared.wait_idle()
    assert shared.session.replay(1, "run", start).ok
    assert shared.session.replay(1, "run", start).code is Code.BUSY

    def fail() -> bool:
        raise FileNotFoundError(2, "No such file")

    assert shared.session.replay(1, "run", fail).code is Code.BAD_INPUT


def test_a_replay_is_ended_by_who_operates(shared: Console) -> None:
    ended: list[bool] = []
    assert shared.session.take_over(ADA).ok
    for number in (BOB, EVE):
        assert shared.session.end_replay(number, lambda: ended.append(True) or True).code is Code.NOT_OPERATOR
    assert ended == []
    assert shared.session.end_replay(ADA, lambda: True).ok
    assert shared.session.end_replay(ADA, lambda: False).code is Code.BUSY, "there is none"
    acts = [(line["act"], line["outcome"]) for line in shared.lines() if line["act"] == "end_replay"]
    assert acts[-4:] == [
        ("end_replay", "begun"),
        ("end_replay", "done"),
        ("end_replay", "begun"),
        ("end_replay", "busy"),
    ]


def test_an_unknown_mode(console: Console) -> None:
    answer = console.session.set_mode(ADA, "always")
    assert answer.code is Code.BAD_INPUT
    assert "automatic, each_plan, each_keypose, dry_run" in answer.sentence
    assert console.session.shown().mode is Approval.EACH_KEYPOSE


@pytest.mark.parametrize("words", ["", "  ", "x" * 1001, "Put\x00it", "\ud800", "x" * 10_000_000])
def test_words_that_are_no_goal(words: str, console: Console) -> None:
    assert console.session.say(ADA, words).code is Code.BAD_INPUT
    assert console.stack.goals == []
    assert console.audit.path.stat().st_size < 5000


def test_one_goal_at_a_time_whoever_gave_it(console: Console) -> None:
    console.session.hear_task(TaskState("of another program"), "moving")
    assert console.session.say(ADA, GOAL).code is Code.BUSY
    console.session.hear_task(TaskState("of another program"), "idle")
    assert console.session.say(ADA, GOAL).ok
    assert console.session.say(ADA, GOAL).code is Code.BUSY
    assert console.session.end_task(ADA).ok
    console.wait_idle()
    assert console.session.end_task(ADA).code is Code.BUSY


def test_no_goal_while_stopped(console: Console) -> None:
    console.session.hear_stopped(True, "stopped since 10:00.")
    answer = console.session.say(ADA, GOAL)
    assert (answer.code, answer.sentence) == (
        Code.STOPPED,
        "The goal was not sent: the stack is stopped since 10:00.",
    )


def test_no_stack(console: Console) -> None:
    console.stack.reachable = False
    assert console.session.say(ADA, GOAL).ok
    console.wait_idle()
    outcome = console.session.shown().history[0].outcome
    assert outcome is not None
    assert outcome.code is OutcomeCode.NODE_LOST


def test_steps_of_a_long_task(console: Console) -> None:
    state = TaskState("all", "second", 1, 3, sub_instructions=("first", "second"), keyposes=4)
    console.session.hear_task(state, "moving")
    shown = console.session.shown()
    assert (shown.steps, shown.progress) == (("first", "second"), "step 2 of 3, 4 keyposes")


# --- proposals -------------------------------------------------------------------------------------------------------


def test_approve_and_refuse_name_the_motion_that_was_shown(console: Console) -> None:
    session, stack = console.session, console.stack
    assert session.approve(ADA, "a-1").code is Code.NOT_WAITING
    session.hear_proposal(proposal("a-1"))
    assert session.approve(ADA, "a-2").code is Code.NOT_WAITING
    assert session.approve(ADA, "a-1").ok
    session.hear_proposal(proposal("a-1", Status.APPROVED))
    assert session.approve(ADA, "a-1").code is Code.NOT_WAITING
    session.hear_proposal(proposal("a-2"))
    assert session.refuse(ADA, "a-2", "not there").ok
    assert stack.answers == [("a-1", True, "operator 1", ""), ("a-2", False, "operator 1", "not there")]


def test_the_executor_has_the_last_word(console: Console) -> None:
    console.session.hear_proposal(proposal("a-1"))
    console.stack.counts = False
    assert console.session.approve(ADA, "a-1").code is Code.NOT_WAITING
    console.stack.reachable = False
    assert console.session.approve(ADA, "a-1").code is Code.UNREACHABLE


def test_a_long_reason(console: Console) -> None:
    console.session.hear_proposal(proposal("a-1"))
    assert console.session.refuse(ADA, "a-1", "x" * 501).code is Code.BAD_INPUT
    assert console.stack.answers == []


def test_clicks_on_an_executor_that_hangs_do_not_pile_up(console: Console) -> None:
    session, stack = console.session, console.stack
    session.hear_proposal(proposal("a-1"))
    stack.hold.clear()
    first = threading.Thread(target=session.approve, args=(ADA, "a-1"))
    first.start()
    assert stack.asked.wait(10.0)
    assert session.approve(ADA, "a-1").code is Code.BUSY
    assert session.stop(ADA).ok, "meanwhile"
    stack.hold.set()
    first.join(10.0)
    assert len(stack.answers) == 1


# --- stop ------------------------------------------------------------------------------------------------------------


def test_everybody_with_a_role_stops_at_any_rate(shared: Console) -> None:
    session, stack = shared.session, shared.stack
    assert session.say(ADA, GOAL).ok
    for _ in range(100):
        assert session.stop(EVE).ok
    assert stack.stops == 100
    assert session.stop(4).code is Code.NOT_SIGNED_IN
    assert session.stop(99).code is Code.NOT_SIGNED_IN
    assert len([line for line in shared.lines() if line["act"] == "stop"]) <= ACTS_BURST
    session.close(5.0)


def test_a_stop_waits_for_no_lock_and_no_record(console: Console) -> None:
    with console.session._lock, console.audit._lock:
        stopped = threading.Thread(target=console.session.stop, args=(ADA,))
        stopped.start()
        for _ in range(500):
            if console.stack.stops:
                break
            threading.Event().wait(0.01)
        assert console.stack.stops == 1
    stopped.join(10.0)


def test_a_stop_works_with_a_full_disk(console: Console) -> None:
    console.audit.close()
    assert console.session.say(ADA, GOAL).code is Code.NOT_RECORDED
    assert console.stack.goals == []
    assert console.session.stop(ADA).ok
    assert console.stack.stops == 1


def test_news_of_a_stop_do_not_hide_its_state(console: Console) -> None:
    console.session.hear_stopped(True, "stopped since 10:00.")
    console.session.hear_stopping("The arm stands still.")
    shown = console.session.shown()
    assert (shown.stop_sentence, shown.stop_news) == ("stopped since 10:00.", "The arm stands still.")
    console.session.hear_stopped(False, "motion is allowed")
    assert console.session.shown().stop_news == ""


def test_release_is_a_second_deliberate_act(console: Console) -> None:
    session, stack = console.session, console.stack
    assert session.release(ADA).code is Code.NOT_STOPPED
    session.hear_stopped(True, "stopped since 10:00.")
    assert session.release(ADA).code is Code.CONFIRM
    console.now += 0.2
    assert session.release(ADA).code is Code.CONFIRM, "a double click"
    console.now += 20.0
    assert session.release(ADA).code is Code.CONFIRM, "too late: it begins anew"
    console.now += 1.0
    assert session.release(ADA).ok
    assert stack.releases == 1
    console.now += 1.0
    assert session.release(ADA).code is Code.CONFIRM


def test_another_stop_forgets_the_first_act_of_a_release(console: Console) -> None:
    console.session.hear_stopped(True, "stopped since 10:00.")
    assert console.session.release(ADA).code is Code.CONFIRM
    console.session.stop(ADA)
    console.now += 1.0
    assert console.session.release(ADA).code is Code.CONFIRM
    assert console.stack.releases == 0


def test_two_people_do_not_release_together(shared: Console) -> None:
    shared.session.hear_stopped(True, "stopped since 10:00.")
    assert shared.session.release(ADA).code is Code.CONFIRM
    shared.now += 1.0
    assert shared.session.take_over(BOB).ok
    assert shared.session.release(BOB).code is Code.CONFIRM
    assert shared.stack.releases == 0


# --- people ----------------------------------------------------------------------------------------------------------


def test_one_operator_at_a_time_and_a_visible_hand_over(shared: Console) -> None:
    session = shared.session
    session.hear_proposal(proposal("a-1"))
    assert session.shown().operator == ""
    assert session.set_mode(ADA, "dry_run").ok
    assert session.shown().operator == "Ada"
    answer = session.approve(BOB, "a-1")
    assert (answer.code, answer.sentence) == (Code.NOT_OPERATOR, "Ada operates: take over first.")
    assert shared.stack.answers == []
    assert session.take_over(BOB).ok
    assert session.shown().handover.endswith("Bob took over from Ada.")
    assert session.approve(ADA, "a-1").code is Code.NOT_OPERATOR
    assert session.approve(BOB, "a-1").ok
    session.leave(BOB)
    assert session.shown().handover.endswith("Bob left: nobody operates.")
    assert session.say(ADA, GOAL).ok
    session.close(5.0)


def test_viewers_only_see_and_stop(shared: Console) -> None:
    session = shared.session
    session.hear_proposal(proposal("a-1"))
    session.hear_stopped(True, "stopped")
    acts = (
        session.say(EVE, GOAL),
        session.approve(EVE, "a-1"),
        session.refuse(EVE, "a-1"),
        session.release(EVE),
        session.set_mode(EVE, "automatic"),
        session.end_task(EVE),
        session.take_over(EVE),
    )
    assert {act.code for act in acts} == {Code.NOT_OPERATOR}
    assert session.shown().operator == ""
    assert (shared.stack.goals, shared.stack.answers, shared.stack.releases) == ([], [], 0)


def test_nobody_acts_without_a_token(shared: Console) -> None:
    session = shared.session
    session.hear_proposal(proposal("a-1"))
    for number in (4, 99):
        acts = (session.say(number, GOAL), session.approve(number, "a-1"), session.take_over(number))
        assert {act.code for act in acts} == {Code.NOT_SIGNED_IN}
    assert session.sign_in(4, "wrong-wrong-wrong", "Mallory").code is Code.WRONG_TOKEN
    assert session.role(4) is Role.NONE
    assert "Mallory" not in str(session.shown())


def test_wrong_tokens_are_slow(shared: Console) -> None:
    tried = [shared.session.sign_in(4, f"{i:020}", "Mallory").code for i in range(1000)]
    assert tried.count(Code.WRONG_TOKEN) == TOKENS_BURST
    assert tried.count(Code.TOO_FAST) == 1000 - TOKENS_BURST
    shared.now += 6.0
    assert shared.session.sign_in(4, OPERATE, "Dora").ok


def test_whoever_guesses_tokens_does_not_keep_others_out(shared: Console) -> None:
    for i in range(1000):
        shared.session.sign_in(4, f"{i:020}", "Mallory")
    shared.session.join(5, "10.0.0.7")
    assert shared.session.sign_in(5, OPERATE, "Dora").ok
    assert shared.session.sign_in(4, OPERATE, "Mallory").code is Code.TOO_FAST
    for i in range(3000):
        shared.session.join(100 + i, f"10.1.{i // 256}.{i % 256}")
        shared.session.sign_in(100 + i, "wrong-wrong-wrong", "Mallory")
    assert len(shared.session._wrong) == MOST_ADDRESSES


@pytest.mark.parametrize(("token", "name"), [(OPERATE, ""), (OPERATE, "x" * 61), (OPERATE, "a\x07b"), ("x" * 201, "A")])
def test_sign_in_takes_short_plain_words(token: str, name: str, shared: Console) -> None:
    assert shared.session.sign_in(4, token, name).code is Code.BAD_INPUT


def test_whoever_becomes_a_viewer_operates_no_more(shared: Console) -> None:
    assert shared.session.take_over(ADA).ok
    assert shared.session.sign_in(ADA, VIEW, "Ada").ok
    assert shared.session.shown().operator == ""
    assert shared.session.say(ADA, GOAL).code is Code.NOT_OPERATOR


def test_too_many_acts(console: Console) -> None:
    codes = [console.session.set_mode(ADA, "dry_run").code for _ in range(100)]
    assert codes.count(Code.DONE) == ACTS_BURST
    assert codes.count(Code.TOO_FAST) == 100 - ACTS_BURST
    size = console.audit.path.stat().st_size
    console.session.set_mode(ADA, "dry_run")
    assert console.audit.path.stat().st_size == size, "a flood does not fill the disk"
    console.now += 1.0
    assert console.session.set_mode(ADA, "dry_run").ok


# --- the record ------------------------------------------------------------------------------------------------------


def test_the_audit_log_says_who_did_what(shared: Console) -> None:
    session = shared.session
    session.hear_proposal(proposal("a-1"))
    session.approve(BOB, "a-1")
    session.stop(EVE)
    acts = [(line["who"], line["act"], line["detail"], line["outcome"]) for line in shared.lines()]
    assert acts[-3:] == [
        ("Bob", "approve", "a-1", "begun"),
        ("Bob", "approve", "a-1", "done"),
        ("Eve", "stop", "", "done"),
    ]
    text = shared.audit.path.read_text()
    assert OPERATE not in text
    assert VIEW not in text
    assert shared.audit.path.stat().st_mode & 0o777 == 0o600


def test_the_audit_log_only_grows(tmp_path: Path) -> None:
    for name in ("first", "second\nthird"):
        log = AuditLog(tmp_path / "log.jsonl")
        assert log.write(act=name)
        log.close()
        assert not log.write(act="later")
    assert [json.loads(line)["act"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        "first",
        "second\nthird",
    ]


def test_an_audit_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"console.audit: .* cannot be written"):
        AuditLog(tmp_path / "file" / "log.jsonl")
