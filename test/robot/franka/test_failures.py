"""libfranka's words -> outcome and sentence."""

import pytest

from stvla_ros.errors import OutcomeCode
from stvla_ros.robot.franka import failures
from stvla_ros.robot.franka.messages import Answer, Mode

ABORTED = 'libfranka: Move command aborted: motion aborted by reflex! ["joint_reflex", "cartesian_reflex"]'


@pytest.mark.parametrize(
    ("text", "mode", "code", "says"),
    [
        (ABORTED, Mode.REFLEX, OutcomeCode.REFLEX, "(joint_reflex, cartesian_reflex)"),
        (ABORTED, Mode.MOVING, OutcomeCode.REFLEX, "joint_reflex"),
        ("libfranka: Move command aborted: User Stop pressed!", Mode.MOVING, OutcomeCode.USER_STOPPED, "release it"),
        ("libfranka: Move command aborted.", Mode.USER_STOPPED, OutcomeCode.USER_STOPPED, "release it"),
        (
            "libfranka: Move command rejected due to activated safety function! Please disable all safety functions.",
            Mode.OTHER,
            OutcomeCode.SAFETY_FUNCTION,
            "end it in Desk",
        ),
        (
            'libfranka: Move command rejected: command not possible in the current mode ("Reflex")!',
            Mode.REFLEX,
            OutcomeCode.REFLEX,
            "`stvla recover`",
        ),
        ("libfranka: Move command preempted!", Mode.IDLE, OutcomeCode.CONTROLLER_FAILED, "Move command preempted."),
    ],
)
def test_a_command_that_the_robot_aborts_or_refuses(text, mode, code, says):
    error = failures.of_command(text, mode, ())
    assert error.code is code
    assert says in error.sentence


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "libfranka: Connection to FCI refused. Please install FCI feature or enable FCI mode in Desk.",
            "activate FCI",
        ),
        ("Running kernel does not have realtime capabilities.", "franka.realtime"),
        ("libfranka: Incompatible library version", "system 5.9"),
        ("libfranka: Connection error: Host is unreachable", "franka.hostname"),
    ],
)
def test_a_connection_that_fails(text, says):
    error = failures.of_connection(text, "172.16.0.2")
    assert error.code is OutcomeCode.ROBOT_LOST
    assert says in error.sentence
    assert "172.16.0.2" in error.sentence


def test_a_start_that_is_not_answered():
    assert failures.of_start(None, True, "h", 8.0).code is OutcomeCode.ROBOT_LOST
    assert "another program may hold its only connection" in failures.of_start(None, True, "h", 8.0).sentence
    assert failures.of_start(None, False, "h", 8.0).code is OutcomeCode.CONTROLLER_FAILED
    assert failures.of_start(Answer(OutcomeCode.REFLEX, "x"), True, "h", 8.0).code is OutcomeCode.REFLEX


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_has_a_sentence_that_names_the_operators_command(mode):
    sentence = failures.sentence(mode, ("joint_reflex",), "detail")
    assert sentence.endswith(".")
    assert "/franka/recover" not in sentence
    stopped = mode in (Mode.REFLEX, Mode.USER_STOPPED, Mode.SAFETY_FUNCTION)
    assert ("`stvla recover`" in sentence) == stopped


@pytest.mark.parametrize("mode", Mode)
def test_a_mode_takes_a_motion_or_says_why_not(mode):
    refusal = failures.of_mode(mode, ("joint_reflex",))
    if mode in (Mode.IDLE, Mode.MOVING):
        assert refusal is None
        return
    assert refusal.sentence == failures.sentence(mode, ("joint_reflex",))
    assert refusal.code is failures.CODES.get(mode, OutcomeCode.CONTROLLER_FAILED)
    assert failures.of_mode(mode, (), "The driver's own words.").sentence == "The driver's own words."
