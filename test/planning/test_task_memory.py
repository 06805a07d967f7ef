"""What is remembered of a long task, and what of a model's word is believed."""

from dataclasses import replace

import numpy as np
from ray_caster import Scene, home_robot

from stvla_ros.planning.parse import StepProgress
from stvla_ros.planning.task_memory import TaskMemory, described, events
from stvla_ros.types import Keypose, PlanRequest

FRAME = Scene().render()[0]
ABOVE, SHUT = Keypose(np.eye(4), True), Keypose(np.eye(4), False)
GRASP, PRESS, RELEASE = Keypose(np.eye(4), False, True), Keypose(np.eye(4), False, True), Keypose(np.eye(4), True, True)


def request(*history: Keypose, words: str = "Push all buttons.") -> PlanRequest:
    return PlanRequest(words, FRAME, home_robot(), history)


def test_events() -> None:
    assert events([ABOVE, GRASP, SHUT, RELEASE, ABOVE]) == ("close", "open")
    assert events([SHUT, PRESS, SHUT, PRESS]) == ("close", "touch", "touch")
    assert events([PRESS], was_open=False) == ("touch",)
    assert described("push it.", 2, ("close", "touch")) == "push it (close, touch)"
    assert described("push it", 2, ()) == "push it (move)"
    assert described("push it", 0, ()) == "push it (not begun)"


def test_each_action_has_what_was_executed_for_it() -> None:
    memory, history = TaskMemory(), (SHUT, PRESS, SHUT)
    memory.follow(request())
    memory.ask(1, "push the red button")
    memory.follow(request(*history))
    memory.ask(2, "push the blue button")
    assert memory.executed(history) == ("push the red button (close, touch)", "push the blue button (not begun)")
    assert memory.executed((*history, PRESS))[1] == "push the blue button (touch)"
    assert memory.executed(history[:2])[0] == "push the red button (close, touch)"  # a plan asked for before, come late
    assert (memory.done(1), memory.done(2)) == ((), ("push the red button",))


def test_same_step_in_other_words_is_one_action() -> None:
    memory = TaskMemory()
    memory.follow(request())
    memory.ask(1, "push the red button")
    memory.follow(request(SHUT))
    memory.ask(1, "press the red button")
    assert memory.executed((SHUT, PRESS)) == ("press the red button (close, touch)",)


def test_a_new_task_begins_anew() -> None:
    memory = TaskMemory()
    for new in (request(), request(SHUT, words="Other words.")):
        memory.follow(request(SHUT))
        memory.ask(1, "push the red button")
        memory.follow(new)
        assert memory.steps == ()


def test_words_are_bounded_by_deeds() -> None:
    memory = TaskMemory()
    memory.follow(request())
    assert memory.bounded(StepProgress(3, 3, True)) == StepProgress(1, 3, False)
    memory.ask(1, "push the red button")
    memory.follow(request(SHUT))
    assert memory.bounded(StepProgress(3, 3, False)) == StepProgress(2, 3, False)
    memory.ask(2, "push the blue button")
    assert memory.bounded(StepProgress(3, 3, False)).step == 2  # nothing was executed for it
    assert memory.bounded(StepProgress(1, 3, False)).step == 1
    assert memory.bounded(StepProgress(3, 3, True)).finished
    memory.follow(replace(request(SHUT, SHUT), instruction="Taken over."))
    assert memory.bounded(StepProgress(9, None, False)).step == 3
