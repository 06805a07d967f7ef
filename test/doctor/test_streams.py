"""Rates, ages and clocks of topics: each fault of a camera or a driver is found, and named for what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stvla_ros.doctor.finding import State
from stvla_ros.doctor.streams import Source, Stream, check_clock, check_rate

CAMERA = Source("Colour image", 10.0, "camera.color", "start the camera", "give it light", 0.3, True)
JOINTS = Source("Joint states", 30.0, "robot.joint_states", "start the driver", "raise the rate", 0.1)
START_S, LISTENED_S = 1.7e9, 3.0


def stream(rate_hz: float, late_s: float = 0.04, keep: float = 1.0, **more: object) -> Stream:
    """A source of regular messages, of which every n-th one arrives."""
    sent = START_S + np.arange(0.0, LISTENED_S, 1.0 / rate_hz)
    rng = np.random.default_rng(0)
    came = sent[rng.random(len(sent)) < keep]
    how = {"size_bytes": 1_000_000 * len(came), "publishers": ("driver",), **more}
    return Stream("/color", came + late_s, came, START_S + LISTENED_S, LISTENED_S, **how)  # type: ignore[arg-type]


def test_a_good_camera() -> None:
    found = check_rate(stream(30.0), CAMERA)
    assert found.state is State.OK
    assert found.value == pytest.approx(30.0, rel=0.05)
    assert (found.unit, found.remedy) == ("Hz", "")
    assert "ms old" in found.figure
    assert stream(30.0).bytes_per_s == pytest.approx(30e6, rel=0.05)


@pytest.mark.parametrize(("rate_hz", "state"), [(6.0, State.WARNING), (2.0, State.WRONG)])
def test_a_slow_camera(rate_hz: float, state: State) -> None:
    found = check_rate(stream(rate_hz), CAMERA)
    assert (found.state, found.remedy) == (state, "give it light")
    assert "at least 10 Hz" in found.figure


def test_six_of_the_thirty_images_that_a_realsense_is_set_to() -> None:
    found = check_rate(stream(6.0), replace(CAMERA, least_hz=24.0))
    assert found.state is State.WRONG
    assert found.figure.startswith("6.")


def test_lost_messages_are_not_a_slow_source() -> None:
    found = check_rate(stream(100.0, keep=0.5), JOINTS)
    assert found.state is State.WARNING
    assert "% of 100 Hz are lost" in found.figure
    assert "network" in found.remedy


def test_jitter_of_the_stamps_is_no_loss() -> None:
    """A source that looks at its clock every 4 ms sends after 8 and 12 ms."""
    sent = START_S + np.cumsum(np.tile([0.008, 0.008, 0.012, 0.012], 75))
    regular = Stream("/joint_states", sent + 0.001, sent, float(sent[-1]), LISTENED_S, publishers=("driver",))
    assert regular.sent_hz == pytest.approx(100.0, rel=0.01)
    assert check_rate(regular, JOINTS).state is State.OK


def test_images_that_only_this_program_lost_are_no_fault() -> None:
    assert check_rate(stream(15.0, keep=0.6), CAMERA).state is State.OK


def test_nobody_publishes() -> None:
    empty = stream(1e-9, keep=0.0, publishers=())
    found = check_rate(empty, CAMERA)
    assert (found.state, found.remedy) == (State.WRONG, "start the camera, or set camera.color")
    named = check_rate(replace(empty, others=("/cam/image_raw",)), CAMERA)
    assert "found /cam/image_raw" in named.figure
    assert named.remedy == "set camera.color"


def test_published_but_nothing_comes() -> None:
    found = check_rate(stream(1e-9, keep=0.0), CAMERA)
    assert found.state is State.WRONG
    assert "nothing came in 3.0 s" in found.figure
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in found.remedy


def test_another_type() -> None:
    found = check_rate(stream(30.0, mismatch="/color is a x/msg/Y, wanted sensor_msgs/msg/Image"), CAMERA)
    assert (found.state, "wanted sensor_msgs" in found.figure) == (State.WRONG, True)


@pytest.mark.parametrize(
    ("late_s", "state", "words"),
    [
        (0.04, State.OK, "40 ms old"),
        (0.4, State.WRONG, "is 0.40 s behind"),
        (-0.3, State.WRONG, "is 0.30 s ahead"),
        (-0.05, State.OK, "-50 ms old"),
        (START_S, State.WRONG, "of another time"),
    ],
)
def test_clocks(late_s: float, state: State, words: str) -> None:
    given = stream(30.0, late_s)
    if late_s == START_S:
        given = replace(given, at_s=given.at_s, stamp_s=given.stamp_s - START_S + 1.0)
    found = check_clock("Clock", given, 0.3)
    assert (found.state, words in found.figure) == (state, True), found
    assert (state is State.OK) == (not found.remedy)


def test_one_late_message_is_no_clock() -> None:
    given = stream(30.0)
    given.at_s[3:] += 0.5
    assert check_clock("Clock", given, 0.3).state is State.OK


def test_no_stamps() -> None:
    given = stream(30.0)
    assert check_clock("Clock", replace(given, stamp_s=np.zeros_like(given.stamp_s)), 0.3).state is State.WRONG
    assert check_clock("Clock", stream(30.0, keep=0.0), 0.3).state is State.UNSEEN
