"""The operator console on the simulated stack: its node, driven as its page drives it."""

from __future__ import annotations

import http.client
import json
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import stalls
import yaml
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from system.console_harness import ADA, EVE, ConsoleHarness

from stvla_ros.console.session import Code
from stvla_ros.console.views import BOXES, CLOUD, DRAWN, GUIDED, JOINTS, LATENCIES, OBSTACLES, OLD_S, PATH, PLAN, RAW
from stvla_ros.errors import OutcomeCode
from stvla_ros.motion.approval import Status

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 0.3


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    with ConsoleHarness(tmp_path_factory.mktemp("console")) as harness:
        yield harness


def test_a_goal_is_approved_keypose_by_keypose_with_one_refusal(console):
    """The stack looks again after the refusal; everything that people look at is there and fresh."""
    goal = console.reset("pick_place", 1).instruction
    console.until(lambda _: goal in console.console._feed.offers())
    console.say(goal, "each_keypose")
    asked, plans, views = [], [], console.console._views
    while True:
        shown = console.until(
            lambda s: not s.running or (s.waiting is not None and s.waiting.proposal_id not in asked), 120.0
        )
        if not shown.running:
            break
        waiting = shown.waiting
        asked.append(waiting.proposal_id)
        plans.append(waiting.plan_id)
        assert waiting.paths, "the ghost arm has a motion to show"
        assert console.stands_still(0.2), "nothing moves before the answer"
        if len(asked) == 2:
            assert console.session.refuse(ADA, waiting.proposal_id, "look again, please").ok
        else:
            assert console.session.approve(EVE, waiting.proposal_id).code is Code.NOT_OPERATOR
            assert console.session.approve(ADA, waiting.proposal_id).ok
        if len(asked) == 3:
            console.until(lambda _: max(views.age_s(name) for name in (RAW, GUIDED, JOINTS, CLOUD)) < OLD_S)
            assert len(views.get(PATH)[1].points_m) > 2
            assert views.get(BOXES)[1].kept.any()
            rgb = views.get(PATH)[1].rgb
            assert rgb[-1][2] > 200, "blue at the end"
    outcome = shown.history[0].outcome
    assert outcome.code is OutcomeCode.OK, (outcome, console.log[-20:])
    assert console.score().success
    assert len(asked) > 3
    assert plans[2] != plans[1], "a new plan after the refusal"


def test_a_dry_run_moves_nothing(console):
    goal = console.reset("pick_place", 2).instruction
    assert console.stands_still(0.3)
    before = console.states.state().q_rad
    console.say(goal, "dry_run")
    assert console.outcome().code is OutcomeCode.DRY_RUN
    assert console.shown.proposal.status is Status.DRY_RUN
    assert console.shown.proposal.paths
    assert np.abs(console.states.state().q_rad - before).max() < 1e-3


def test_a_stop_in_mid_motion_is_seen_by_all_and_released_by_two_acts(console):
    goal = console.reset("pick_place", 3).instruction
    for _ in range(3):
        console.say(goal, "automatic")
        late = stalls.clock() + 60.0
        while console.speed() < 0.2:
            assert stalls.clock() < late, console.log[-20:]
            time.sleep(0.002)
        pressed = time.monotonic()
        assert console.session.stop(EVE).ok, "a person who does not operate"
        assert console.session.shown().running
        console.until(lambda shown: shown.stopped)
        time.sleep(1.0)
        assert console.last_motion() - pressed < STOP_S + console.held_up_s(pressed)
        assert console.outcome().code is OutcomeCode.CANCELED
        assert console.session.say(ADA, goal).code is Code.STOPPED
        console.until(lambda shown: "stopped since" in shown.stop_sentence)
        console.allow_motion()
        goal = console.reset("pick_place", 3).instruction


def test_a_stop_while_a_motion_waits_and_an_approval_that_comes_too_late(console):
    console.say(console.reset("pick_place", 4).instruction, "each_keypose")
    waiting = console.until(lambda shown: shown.waiting is not None).waiting
    console.session.stop(ADA)
    assert console.outcome().code is OutcomeCode.CANCELED
    assert console.session.approve(ADA, waiting.proposal_id).code is Code.NOT_WAITING
    assert console.stands_still(0.5)
    console.allow_motion()


def test_an_edited_path_is_checked_by_guidance_and_used(console):
    """An absurd one is refused with its reason, and the motion goes on waiting; nothing moves by an edit."""
    console.say(console.reset("pick_place", 1).instruction, "each_keypose")
    waiting = console.until(lambda shown: shown.waiting is not None).waiting
    before, views = console.states.state().q_rad, console.console._views
    console.until(lambda _: views.get(DRAWN)[1] is not None and views.get(DRAWN)[1].plan.plan_id == waiting.plan_id)
    assert views.get(OBSTACLES)[0] == 0, "nobody looks at them"
    views.want(OBSTACLES, console, True)
    console.until(lambda _: views.get(OBSTACLES)[0])
    cells = views.get(OBSTACLES)[1]
    assert 100 < len(cells.centres_m) <= 2500
    views.want(OBSTACLES, console, False)
    points = views.get(DRAWN)[1].points_m.copy()
    answer = console.session.use_path(ADA, waiting.proposal_id, points - (0.0, 0.0, 0.3))
    assert answer.code is Code.PATH_REFUSED, answer
    assert answer.sentence.startswith("LIFT_"), answer
    assert console.shown.waiting.proposal_id == waiting.proposal_id
    points[-1, 1] += 0.03
    assert console.session.use_path(EVE, waiting.proposal_id, points).code is Code.NOT_OPERATOR
    answer = console.session.use_path(ADA, waiting.proposal_id, points)
    assert answer.ok, (answer, console.log[-20:])
    after = console.until(lambda s: s.waiting is not None and s.waiting.proposal_id != waiting.proposal_id).waiting
    assert after.plan_id.startswith("person-")
    console.until(lambda _: np.linalg.norm(views.get(PATH)[1].points_m[-1] - points[-1]) < 0.005)
    assert np.abs(console.states.state().q_rad - before).max() < 1e-3
    assert console.session.end_task(ADA).ok
    assert console.outcome().code is OutcomeCode.CANCELED


def test_a_goal_of_another_program_is_shown_and_not_disturbed(console):
    goal = console.reset("pick_place", 5).instruction
    call = console.run_later(goal)
    console.until(lambda shown: shown.instruction == goal and shown.phase == "moving")
    assert console.session.say(ADA, "Push the red button.").code is Code.BUSY
    assert call.result(120.0)[0] is OutcomeCode.OK
    shown = console.until(lambda shown: not shown.running and shown.history[0].who == "another program")
    assert (shown.history[0].instruction, shown.history[0].outcome.code) == (goal, OutcomeCode.OK)
    views = console.console._views
    wanted = {"planning", "guidance", "policy", "motion planning"}
    console.until(lambda _: wanted <= views.get(LATENCIES)[1].keys())
    assert views.get(PLAN)[1].finished


RVIZ = {
    "Topic": {"MarkerArray": "visualization_msgs/msg/MarkerArray", "Image": "sensor_msgs/msg/Image"},
    "Depth Map Topic": {"DepthCloud": "sensor_msgs/msg/Image"},
    "Color Image Topic": {"DepthCloud": "sensor_msgs/msg/Image"},
}
"""What a display of RViz takes where; the robot's description comes from elsewhere."""


def test_rviz_and_foxglove_ask_for_what_the_stack_publishes(console):
    """By name, type, and with a reliability and durability that the publishers offer."""
    config = yaml.safe_load((ROOT / "config" / "stvla.rviz").read_text())
    seen = set()
    for display in config["Visualization Manager"]["Displays"]:
        kind = display["Class"].rpartition("/")[2]
        for field, types in RVIZ.items():
            if kind in types:
                topic = display[field]["Value"] if isinstance(display[field], dict) else display[field]
                offers = console.node.get_publishers_info_by_topic(topic)
                assert {offer.topic_type for offer in offers} == {types[kind]}, topic
                if isinstance(display[field], dict) and display[field]["Durability Policy"] == "Transient Local":
                    assert all(o.qos_profile.durability is DurabilityPolicy.TRANSIENT_LOCAL for o in offers), topic
                    assert all(o.qos_profile.reliability is ReliabilityPolicy.RELIABLE for o in offers), topic
                seen.add(topic)
    assert len(seen) == 4
    layout = (ROOT / "config" / "foxglove.json").read_text()
    names = {name for name in re.findall(r'"(/[a-z_0-9/]+)', layout) if not name.startswith("/stvla/decisions")}
    topics = {name for name, _ in console.node.get_topic_names_and_types()}
    assert len(names) >= 6
    assert names <= topics


def test_the_page_is_served_and_the_record_is_written(console):
    address = urlsplit(console.console._page.address)
    assert address.hostname == "127.0.0.1"
    connection = http.client.HTTPConnection(address.netloc, timeout=20.0)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()
    lines = [json.loads(line) for line in console.audit.read_text().splitlines()]
    acts = {(line["act"], line["outcome"]) for line in lines}
    assert {("say", "done"), ("approve", "done"), ("refuse", "done"), ("stop", "done"), ("release", "done")} <= acts
