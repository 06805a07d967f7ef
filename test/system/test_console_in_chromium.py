"""A person at the console's page, in a real browser, in front of the whole simulated stack over ROS.

Needs Chromium and Playwright. ``STVLA_PICTURES`` names a folder that keeps the pictures.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
import stalls
from chromium import chromium, needs_chromium
from system.console_harness import ConsoleHarness

from stvla_ros.console.camera_view import vertical_fov
from stvla_ros.console.views import DRAWN, FRAME
from stvla_ros.errors import OutcomeCode
from stvla_ros.geometry.cameras import project

WIDTH_PX, HEIGHT_PX, PANELS = 1280, 720, 3
BESIDE_M, EDIT_M, PUT_M = (0.02, -0.025, 0.0), 0.008, 0.012
"""The block is to go so far from where the planner wants it, along no axis: the handles are there. The waypoint lands so
near to that, and the tool so near to it."""

pytestmark = [needs_chromium, pytest.mark.slow]


class Person:
    """Uses the page as people do: by what is written on it."""

    def __init__(self, console, page, pictures):
        self.console, self.page, self._pictures = console, page, pictures

    def press(self, button):
        self.page.get_by_role("button", name=button, exact=True).first.click()

    def tick(self, box, on=True):
        if self.page.get_by_label(box).is_checked() != on:
            self.page.get_by_label(box).click()

    def write(self, label, text):
        self.page.locator(f"//label[normalize-space()='{label}']/following::input[1]").fill(text)

    def choose_mode(self, mode):
        self.page.get_by_role("combobox", name="Mode").click()
        self.page.get_by_role("option", name=mode, exact=True).click()
        self.console.until(lambda shown: shown.mode == mode)

    def read(self, text, timeout_s=60.0):
        self.page.get_by_text(text).first.wait_for(timeout=1e3 * timeout_s)

    def picture(self, name):
        self.page.screenshot(path=str(self._pictures / f"{name}.png"))

    def give(self, instruction, mode):
        self.choose_mode(mode)
        self.write("Goal", instruction)
        self.press("Give the goal")
        self.console.until(lambda shown: shown.running)

    def waiting(self, asked):
        """The next motion that waits, as shown on the page; None when the task has ended."""
        shown = self.console.until(
            lambda s: not s.running or (s.waiting is not None and s.waiting.proposal_id not in asked), 120.0
        )
        if not shown.running:
            return None
        asked.append(shown.waiting.proposal_id)
        self.console.until(lambda _: self.behind._asked == asked[-1])
        return shown.waiting

    @property
    def behind(self):
        """What the console keeps of this browser."""
        return next(iter(self.console.console._page._browsers.values()))

    def waypoints(self):
        """(8, 3) that are edited, as the browser and the console have them; (0, 3) while none are."""
        return self.behind._scene.edited()

    def clear_the_view(self):
        """Fold the panel with the pictures: it lies over the scene."""
        unfolded = self.page.get_by_role("button", name="Minimize panel")
        if unfolded.count() == PANELS:
            unfolded.last.click()

    def click_on(self, camera, point_m):
        """On the camera's picture, which the view is looking through, where a point (3,) is seen."""
        u_px, v_px = project(camera, point_m)[0]
        box = self.page.locator("canvas").first.bounding_box()
        focal = box["height"] / 2 / math.tan(vertical_fov(camera, box["width"] / box["height"]) / 2)
        x = box["x"] + box["width"] / 2 + (u_px - camera.K[0, 2]) / camera.K[0, 0] * focal
        y = box["y"] + box["height"] / 2 + (v_px - camera.K[1, 2]) / camera.K[1, 1] * focal
        self.page.mouse.click(x, y)


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    settings = {
        "executor.approval.wait_s": "300.0",  # a scene that is drawn without a GPU makes clicks slow
        "executor.safety.trace_timeout_s": "600.0",
        "task.keyposes_per_plan": "20",  # the edited path is used to its end
    }
    with ConsoleHarness(tmp_path_factory.mktemp("console"), **settings) as harness:
        yield harness


@pytest.fixture(scope="module")
def person(console, tmp_path_factory):
    pictures = Path(os.environ.get("STVLA_PICTURES") or tmp_path_factory.mktemp("pictures"))
    with chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX})
        page.set_default_timeout(60_000.0)
        page.goto(console.console._page.address)
        someone = Person(console, page, pictures)
        page.get_by_role("button", name="Give the goal").wait_for()
        someone.press("Take over")
        yield someone


def test_a_person_approves_keypose_by_keypose_and_refuses_one(console, person):
    goal = console.reset("pick_place", 1).instruction
    asked, plans = [], []
    person.give(goal, "each_keypose")
    while (motion := person.waiting(asked)) is not None:
        plans.append(motion.plan_id)
        person.read("waiting")
        assert console.stands_still(0.2), "nothing moves before the answer"
        if len(asked) in (1, 2):
            person.picture(f"waits_{len(asked)}")
        if len(asked) == 2:
            person.write("Why not", "look again, please")
        person.press("Refuse" if len(asked) == 2 else "Approve")
    person.read("OK: ")
    person.picture("done")
    assert console.score().success
    assert len(asked) > 3
    assert plans[2] != plans[1], "it has looked again"


def test_a_person_puts_the_block_elsewhere_by_a_click_on_the_cameras_picture(console, person):
    goal = console.reset("pick_place", 1).instruction
    person.tick("Point cloud", False)
    asked, views = [], console.console._views
    person.give(goal, "each_keypose")
    motion = person.waiting(asked)
    console.until(lambda _: views.get(DRAWN)[1].plan.plan_id == motion.plan_id)
    person.tick("Edit the path")
    console.until(lambda _: len(person.waypoints()))
    planned_m = person.waypoints()[-1].copy()
    wanted_m = np.add(planned_m, BESIDE_M)
    person.tick("Look through the camera")
    person.clear_the_view()
    console.until(lambda _: person.behind._camera_view.age_s() > 0.0)
    time.sleep(2.0)  # until the browser has drawn the view
    person.click_on(views.get(FRAME)[1].camera, wanted_m)
    console.until(lambda _: not np.array_equal(person.waypoints()[-1], planned_m))
    person.picture("edited")
    assert np.linalg.norm(person.waypoints()[-1] - wanted_m) < EDIT_M
    person.press("Use this path")
    person.tick("Look through the camera", False)
    held, put_m = False, None
    while (motion := person.waiting(asked)) is not None:
        assert motion.plan_id.startswith("person-")
        if held and motion.keypose.gripper_open and put_m is None:
            put_m = motion.keypose.T_base_tcp[:3, 3]
        held |= not motion.keypose.gripper_open
        person.press("Approve")
    assert console.shown.history[0].outcome.code is OutcomeCode.OK, console.log[-20:]
    assert console.score().success
    person.picture("put_elsewhere")
    assert np.linalg.norm((put_m - wanted_m)[:2]) < PUT_M


def test_a_dry_run_moves_nothing(console, person):
    goal = console.reset("pick_place", 2).instruction
    assert console.stands_still(0.3)
    before = console.states.state().q_rad
    person.give(goal, "dry_run")
    assert console.outcome().code is OutcomeCode.DRY_RUN
    person.read("DRY_RUN")
    person.picture("dry_run")
    assert np.abs(console.states.state().q_rad - before).max() < 1e-3


@pytest.mark.parametrize("by_key", [False, True])
def test_a_person_stops_the_arm_in_mid_motion_and_releases_it(console, person, by_key):
    goal = console.reset("pick_place", 3).instruction
    box = person.page.get_by_role("button", name="STOP", exact=True).last.bounding_box()  # does not scroll away
    person.give(goal, "automatic")
    late = stalls.clock() + 60.0
    while console.speed() < 0.2:
        assert stalls.clock() < late, console.log[-20:]
        time.sleep(0.002)
    if by_key:
        person.page.keyboard.press("s")
    else:
        person.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert console.outcome().code is OutcomeCode.CANCELED
    person.read("stopped since")
    assert console.stands_still(0.5)
    person.picture("stopped_by_key" if by_key else "stopped")
    person.press("Release the stop")
    time.sleep(1.0)
    assert console.shown.stopped, "one click releases nothing"
    person.press("Release the stop")
    console.until(lambda shown: not shown.stopped)
