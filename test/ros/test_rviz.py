"""RViz's configuration names displays and properties that RViz has, and topics of the stack."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from stvla_ros.ros.frames import CameraConfig
from stvla_ros.ros.keypose_marker import ALL, FEEDBACK, UPDATE

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "config" / "stvla.rviz").read_text())["Visualization Manager"]
DISPLAYS: list[dict[str, Any]] = CONFIG["Displays"]
COMMON = {"Class", "Name", "Value"}
PROPERTIES = {
    "Grid": {"Cell Size", "Plane Cell Count", "Offset"},
    "RobotModel": {"Description Source", "Description Topic", "Visual Enabled"},
    "DepthCloud": {
        "Depth Map Topic", "Depth Map Transport Hint", "CameraInfo Topic", "Color Image Topic", "Color Transport Hint",
        "Reliability Policy", "Auto Size",
    },
    "MarkerArray": {"Topic", "Namespaces"},
    "Image": {"Topic"},
    "InteractiveMarkers": {"Interactive Markers Namespace", "Show Descriptions"},
}  # fmt: skip
"""Of rviz_default_plugins: what the constructors of its displays name, as far as it is used here."""

QOS = {
    "Value": None,
    "Depth": None,
    "Reliability Policy": {"Reliable", "Best Effort"},
    "Durability Policy": {"Transient Local", "Volatile"},
}
"""rviz_common, ``qos_profile_property.cpp``: whatever is written otherwise is read as the default."""


def kind(display: dict[str, Any]) -> str:
    package, _, name = display["Class"].partition("/")
    assert package == "rviz_default_plugins"
    return str(name)


@pytest.mark.parametrize("display", DISPLAYS, ids=lambda display: display["Name"])
def test_a_display_has_the_properties_that_are_set(display: dict[str, Any]) -> None:
    assert display.keys() - COMMON <= PROPERTIES[kind(display)]
    for topic in (display[name] for name in ("Topic", "Description Topic") if name in display):
        assert topic.keys() == QOS.keys()
        assert all(topic[name] in known for name, known in QOS.items() if known)


def test_the_cloud_has_the_cameras_topics() -> None:
    """The depth image's intrinsics are those of the colour image, to which it is aligned; RViz would look beside it."""
    (cloud,) = (display for display in DISPLAYS if kind(display) == "DepthCloud")
    camera = CameraConfig()
    topics = (cloud["Depth Map Topic"], cloud["Color Image Topic"], cloud["CameraInfo Topic"])
    assert topics == tuple(f"/{name}" for name in (camera.depth, camera.color, camera.info))
    assert cloud["Reliability Policy"] == "Best effort", "written otherwise than elsewhere: depth_cloud_display.cpp"


def test_the_keyposes_marker_is_shown_and_can_be_used() -> None:
    """Its menu opens only while the tool 'Interact' is chosen, which RViz takes first."""
    (marker,) = (display for display in DISPLAYS if kind(display) == "InteractiveMarkers")
    namespace = marker["Interactive Markers Namespace"]
    assert [f"{namespace}/{name}" for name in ("update", "feedback", "get_interactive_markers")] == [
        f"/{name}" for name in (UPDATE, FEEDBACK, ALL)
    ]
    assert CONFIG["Tools"][0]["Class"] == "rviz_default_plugins/Interact"


def test_every_namespace_of_the_markers_is_shown() -> None:
    (markers,) = (display for display in DISPLAYS if kind(display) == "MarkerArray")
    source = (ROOT / "src/stvla_ros/ros/markers.py").read_text()
    for namespace, shown in markers["Namespaces"].items():
        assert shown
        assert f'"{namespace}"' in source
