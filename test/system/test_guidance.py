"""The guidance node at camera rate: every frame counts or is dropped, markers and diagnostics tell what it does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stalls
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import ReliabilityPolicy
from ros.bags import record_scene
from sensor_msgs.msg import Image
from stvla_msgs.msg import Outcome as OutcomeMsg
from stvla_msgs.msg import TracePlan
from system.brain_harness import BrainHarness, wait
from visualization_msgs.msg import Marker, MarkerArray

from stvla_ros.perception.guide import GuideConfig
from stvla_ros.perception.overlay import overlay
from stvla_ros.ros import convert, qos
from stvla_ros.ros.markers import guidance_markers
from stvla_ros.ros.stage_node import RollingPercentiles
from stvla_ros.types import Guidance, Instance, Trace3d


@pytest.fixture
def harness(ros: Any, start: Callable[..., Any], tmp_path: Path) -> BrainHarness:
    harness = BrainHarness(ros, start)
    harness.folder = record_scene(tmp_path / "recording")
    return harness


def test_every_frame_is_cleaned_or_dropped_and_none_is_queued(harness: BrainHarness) -> None:
    """The camera is faster than the node may be: guidance stays fresh all the same."""
    markers: list[MarkerArray] = []
    diagnostics: list[DiagnosticArray] = []
    harness.node.create_subscription(MarkerArray, "stvla/markers", markers.append, qos.LATCHED)
    harness.node.create_subscription(DiagnosticArray, "/diagnostics", diagnostics.append, qos.EVENT)
    harness.start(
        "camera", "planner", "guidance",
        camera__path=str(harness.folder), camera__rate_hz="20.0", guidance__max_rate_hz="8.0",
    )  # fmt: skip
    plan = harness.lifted()
    wait(lambda: harness.guidance)
    start, stalled_s, first = stalls.clock(), stalls.stalled_s(), len(harness.guidance)
    wait(lambda: len(harness.guidance) >= first + 12)
    assert 12 / (stalls.clock() - start) > 1.5
    stamps = [convert.time_to_ns(m.header.stamp) for m in harness.guidance]
    taken_s = (stamps[first + 11] - stamps[first]) * 1e-9  # not when they came: a stalled listener hears them at once
    assert 11 / (taken_s + stalls.stalled_s() - stalled_s) < 9.0
    assert all(a < b for a, b in itertools.pairwise(stamps))
    assert {m.trace.plan_id for m in harness.guidance} == {plan.plan_id}
    guidance = convert.guidance_from_msg(harness.guidance[-1])
    assert {i.id for i in guidance.instances} == {*guidance.kept_ids, *guidance.removed_ids}
    assert guidance.removed_ids

    def seen(key: str) -> str:
        values = [
            v.value for d in diagnostics for s in d.status if "guidance" in s.name for v in s.values if v.key == key
        ]
        return values[-1] if values else ""

    wait(lambda: "/" in seen("guidance age when sent p50 / p95 [ms]"))
    wait(lambda: int(seen("frames cleaned / arrived").split(" / ")[0]) >= 8)
    cleaned, arrived = map(int, seen("frames cleaned / arrived").split(" / "))
    assert cleaned < arrived
    wait(lambda: any(len(array.markers) > 4 for array in markers))
    kinds = {m.ns for m in next(a for a in reversed(markers) if len(a.markers) > 4).markers}
    assert kinds == {"path", "tube", "instances", "ids"}


def test_a_plan_without_its_image_is_refused_at_once_and_pictures_for_people_show_the_path(
    harness: BrainHarness,
) -> None:
    """Also: nobody reads images reliably, in any node (see qos.IMAGE_BEST_EFFORT)."""
    pictures: list[Image] = []
    harness.node.create_subscription(Image, "stvla/overlay", pictures.append, qos.IMAGE_BEST_EFFORT)
    harness.start(
        "camera", "planner", "guidance", "policy", camera__path=str(harness.folder), guidance__mode="mask_only"
    )  # fmt: skip
    plan = harness.lifted()
    _images_are_read_best_effort(harness)

    wait(lambda: harness.guidance and pictures)
    by_stamp = {convert.time_to_ns(p.header.stamp): convert.image_to_rgb(p) for p in pictures}
    wait(lambda: any(convert.time_to_ns(m.header.stamp) in by_stamp for m in harness.guidance))
    message = next(m for m in harness.guidance if convert.time_to_ns(m.header.stamp) in by_stamp)
    guidance = convert.guidance_from_msg(message)
    assert guidance.mode == "mask_only"
    picture = by_stamp[guidance.frame.stamp_ns]
    np.testing.assert_array_equal(picture, overlay(guidance, GuideConfig().overlay_alpha))
    assert (picture != guidance.frame.rgb).any()

    plans = harness.node.create_publisher(TracePlan, "stvla/plan", qos.LATCHED)
    wait(plans.get_subscription_count)
    plan.plan_id = "lost"
    plan.header.stamp = convert.ns_to_time(convert.time_to_ns(plan.header.stamp) + 1)
    plans.publish(plan)
    refused = harness.trace("lost").outcome
    assert refused.code == OutcomeMsg.STALE_IMAGE
    assert refused.sentence.startswith("Plan lost cannot be lifted, plan again: The image of ")
    assert "did not reach 'guidance' completely" in refused.sentence


def _images_are_read_best_effort(harness: BrainHarness) -> None:
    heard = 0
    for topic, (kind, *_) in harness.node.get_topic_names_and_types():
        if kind in ("sensor_msgs/msg/Image", "stvla_msgs/msg/Guidance", "stvla_msgs/msg/RgbdFrame"):
            for reader in harness.node.get_subscriptions_info_by_topic(topic):
                assert reader.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT, (topic, reader.node_name)
                heard += 1
    assert heard >= 6, "colour and depth in planner and guidance, guidance in the policy, and the overlay here"


def test_markers_show_what_is_kept_what_is_removed_and_what_is_done() -> None:
    from ray_caster import Scene

    frame, _ = Scene().render(stamp_ns=3_000_000_007)
    trace = Trace3d(np.array([[0.4, 0, 0], [0.4, 0, 0.2], [0.5, 0, 0.2]], np.float32), np.full(3, 2, np.uint8), "p", "")
    things = tuple(Instance(i, np.array([0.1 * i, 0.2, 0.3]), np.array([0.04, 0.05, 0.06])) for i in (2, 5))
    array = guidance_markers(Guidance(trace, 0.05, (2,), (5,), frame, "full", things, progress_m=0.2), "my_base")
    assert {m.header.frame_id for m in array.markers} == {"my_base"}
    boxes = {m.id: m for m in array.markers if m.ns == "instances" and m.action == Marker.ADD}
    assert boxes.keys() == {2, 5}
    assert boxes[2].color.g > boxes[2].color.r
    assert boxes[5].color.r > boxes[5].color.g
    assert (boxes[5].pose.position.x, boxes[5].scale.z) == pytest.approx((0.5, 0.062))
    wiped = next(i for i, m in enumerate(array.markers) if m.action == Marker.DELETEALL)
    assert wiped < next(i for i, m in enumerate(array.markers) if m.ns == "instances" and m.action == Marker.ADD)
    line = next(m for m in array.markers if m.ns == "path")
    assert [c.r == c.g == c.b for c in line.colors] == [True, False, False]
    tube = next(m for m in array.markers if m.ns == "tube")
    assert (len(tube.points), tube.scale.x) == (3, pytest.approx(0.1))


def test_rolling_figures() -> None:
    rolling = RollingPercentiles(3)
    assert str(rolling) == ""
    for value in (1000.0, 1.0, 2.0, 3.0):
        rolling.add(value)
    assert str(rolling) == "2.0 / 2.9"
