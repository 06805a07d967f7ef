"""The Foxglove layout names panels that exist, and topics of the stack."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from stvla_ros.description.robot import RobotConfig

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = json.loads((ROOT / "config" / "foxglove.json").read_text())
PANELS = ("3D", "Image", "Plot", "RawMessages", "Tab")
MESSAGES = {"plan": "PlanDecision", "guidance": "GuidanceDecision", "keypose": "KeyposeDecision"}


def strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def placed(layout: object) -> set[str]:
    """Ids of the panels that the layout shows, those in tabs included."""
    shown = {text for text in strings(layout) if "!" in text}
    tabs = {
        text for name in shown if name.startswith("Tab!") for text in strings(LAYOUT["configById"][name]) if "!" in text
    }
    return shown | tabs


def test_every_panel_has_a_place_and_a_kind() -> None:
    assert placed(LAYOUT["layout"]) == set(LAYOUT["configById"])
    assert {name.split("!")[0] for name in LAYOUT["configById"]} == set(PANELS)


def test_every_topic_is_one_of_the_stack() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src/stvla_ros").rglob("*.py"))
    source += f'"{RobotConfig().joint_states}"' + "".join(f'"stvla/decisions/{name}"' for name in MESSAGES)
    topics = {text.split(".")[0] for text in strings(LAYOUT) if text.startswith("/")}
    assert len(topics) >= 8
    assert [topic for topic in topics if not re.search(rf'"/?{re.escape(topic[1:])}"', source)] == []


def test_every_field_is_one_of_its_message() -> None:
    for text in strings(LAYOUT):
        if text.startswith("/stvla/decisions/") and "." in text:
            topic, field = text.split(".")[:2]
            message = (ROOT / f"src/stvla_msgs/msg/{MESSAGES[topic.rpartition('/')[2]]}.msg").read_text()
            assert re.search(rf"^\S+ {field}\b", message, re.MULTILINE), text
