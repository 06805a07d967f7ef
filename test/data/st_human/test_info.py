"""``info.json``: what is written is read back, and whatever does not agree is refused by the name of its field."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from data.st_human.videos import info, plain
from hypothesis import given, settings
from hypothesis import strategies as st

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.info_json import parse_info, plain_info, read_info, write_info
from stvla_ros.data.st_human.plain import FormatError


def changed(path: str, value: Any) -> dict[str, Any]:
    """The valid file with one field replaced; ``DROP`` removes it."""
    values = plain()
    *parents, last = path.split(".")
    place: Any = values
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    key: Any = int(last) if last.isdigit() else last
    if value is DROP:
        del place[key]
    else:
        place[key] = value
    return values


DROP = object()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_info(tmp_path / "info.json", info())
    assert read_info(tmp_path / "info.json") == info()
    assert parse_info(plain_info(info())) == info()
    assert next(iter(json.loads((tmp_path / "info.json").read_text()))) == "format"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("format", "st-human-2", r"format: wanted 'st-human-1', found 'st-human-2'"),
        ("video", DROP, r"'video' is missing"),
        ("video.frame", 3, r"video: unknown key 'frame'. Did you mean 'frames'\?"),
        ("video.frames", 3.5, r"video.frames: wanted a whole number, found 3.5"),
        ("video.frames", True, r"video.frames: wanted a whole number, found True"),
        ("video.fps", float("nan"), r"video.fps: wanted a finite number, found nan"),
        ("video.fps", 0, r"more than 0 fps"),
        ("video.task", 15, r"video.task: wanted 1 to 14, found 15"),
        ("video.id", " ", r"video.id: wanted some text"),
        ("video.size_px", [640], r"video.size_px: wanted 2 values, found \[640\]"),
        ("video.rgb", "rgb/0.jpg", r"video.rgb: wanted a path with a place for the frame's number"),
        ("video.rgb", "rgb/%s%s.jpg", r"video.rgb: wanted a path with a place"),
        ("video.depth", "/depth/%06d.png", r"wanted paths relative to the video's folder"),
        ("video.depth", "../%06d.png", r"found '../%06d.png'"),
        ("video.hashes", {"../../etc/passwd": "0"}, r"found '../../etc/passwd'"),
        ("camera.K", [0, 600, 320, 240], r"camera.K: wanted positive focal lengths"),
        ("camera.distortion", [0.1, 0.2], r"camera.distortion: wanted 0, 4, 5 or 8 coefficients"),
        ("camera.depth_unit_m", 1.0, r"depth_unit_m: wanted metres per unit, e.g. 0.001 for millimetres, found 1.0"),
        ("camera.T_workspace_camera.0", 2, r"T_workspace_camera: wanted 16 numbers, row by row, of a rotation"),
        ("camera.T_workspace_camera", [1, 0, 0], r"T_workspace_camera: wanted 16 numbers"),
        ("camera.moving", True, r"wanted 'poses' exactly if the camera is moving"),
        ("objects.1.id", "cup_1", r"objects: two objects have the id 'cup_1'"),
        ("objects.1.name", "red cup", r"both called 'red cup': add the colour"),
        ("objects.1.name", "the tray", r"without an article, found 'the tray'"),
        ("objects.1.roles", ["surface"], r"objects: 'tray_1': unknown role 'surface'"),
        ("objects.0.box.frame", 70, r"'cup_1'.box.frame: wanted 0 to 69, found 70"),
        ("objects.0.box.size_m", [0.1, 0, 0.1], r"box.size_m: wanted positive sizes in metres"),
        ("objects.0.box.quat_xyzw", [0, 0, 0, 2], r"box.quat_xyzw: wanted a quaternion x, y, z, w of length 1"),
        ("actions.1.id", "a1", r"action 'a1': an earlier action has the same id"),
        ("actions.1.start_frame", 20, r"action 'a2'.start_frame: wanted a frame after the end of the action before it \(25\)"),
        ("actions.0.template", "put_onto", r"action 'a1': No template 'put_onto'"),
        ("actions.0.slots.support", "table", r"slot 'support': wanted the id of an object of the video, found 'table'"),
        ("actions.0.slots.support", [1], r"actions\[0\].slots.support: wanted text or a whole number or a list"),
        ("actions.0.sentence", "Put the cup on the tray.", r"sentence: wanted the template's sentence 'Put the red cup on the tray.'"),
        ("actions.0.wordings", ["Take the red cup."], r"wordings: wanted sentences that mean 'Put the red cup on the tray.'"),
        ("actions.0.hand", "both", r"hand: wanted one of 'left', 'right', found 'both'"),
        ("actions.0.contact_frame", 4, r"contact_frame: wanted a frame not before start_frame \(5\), found 4"),
        ("actions.0.clean_frame", 5, r"start_frame: wanted a frame after clean_frame \(5\), found 5"),
        ("actions.0.after_frame", 25, r"after_frame: wanted a frame after end_frame \(25\), found 25"),
        ("actions.1.after_frame", 70, r"after_frame: wanted 0 to 69, found 70"),
        ("actions.0.contact_points.initial.px", [0, 0], r"initial.px: wanted the projection of xyz_m to within 1 px"),
        ("actions.0.contact_points.initial.xyz_m", [-100, 100, 800.0], DROP),
        ("actions.0.contact_points.initial.object", "cup", r"initial.object: no object 'cup'. Did you mean 'cup_1'\?"),
        ("actions.0.contact_points.initial.part", "lid", r"initial.part: wanted a part of 'cup_1', found 'lid'"),
        ("actions.0.contact_points.final.frame", 30, r"final.frame: wanted 5 to 25, found 30"),
        ("actions.0.trajectory.1.frame", 10, r"trajectory\[1\].frame: wanted a frame after the one before it \(10\)"),
        ("actions.0.trajectory.1.gripper", 2, r"trajectory\[1\].gripper: wanted one of 0, 1, found 2"),
        ("actions.0.trajectory.1.xyz_m", [0, 0, -1], r"wanted a position in front of the camera"),
        ("actions.0.relations.after.0.predicate", "ontop", r"unknown predicate 'ontop'"),
        ("actions.0.relations.after.0.objects", [], r"on: wanted 1 object, found \[\]"),
        ("actions.0.relations.after.0.subject", "cup_2", r"no object 'cup_2'"),
        ("actions.0.step", 3, r"step: wanted 1 to 2, found 3"),
        ("actions.0.depends_on", ["a2"], r"depends_on: wanted ids of earlier actions, found 'a2'"),
        ("actions.0.quality.score", 1.1, r"quality.score: wanted 0 to 1, found 1.1"),
        ("actions.0.review", {"tier": "02"}, r"review: 'state' is missing"),
        ("provenance", [], r"provenance: wanted an object, found \[\]"),
    ],
)  # fmt: skip
def test_each_fault_is_named(path: str, value: Any, words: Any) -> None:
    values = changed(path, value)
    if words is DROP:  # millimetres project to the same pixel: the file cannot tell
        parse_info(values)
        return
    with pytest.raises(FormatError, match=words):
        parse_info(values, "x")


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"wanted an info.json of ST-Human"):
        read_info(tmp_path / "info.json")
    for text in ("[]", "3", '"st-human-1"', "{}"):
        (tmp_path / "info.json").write_text(text)
        with pytest.raises(FormatError):
            read_info(tmp_path / "info.json")


def test_an_action_that_needs_a_motion_has_one() -> None:
    values = plain()
    values["objects"].append({"id": "s", "name": "sponge", "category": "sponge"})
    values["actions"][0] |= {
        "template": "wipe", "slots": {"target": "tray_1", "tool": "s"}, "sentence": "Wipe the tray with the sponge.",
    }  # fmt: skip
    with pytest.raises(FormatError, match=r"action 'a1'.motion: 'wipe' needs 'pattern'"):
        parse_info(values)
    values["actions"][0]["motion"] = {"pattern": "circular"}
    assert parse_info(values).actions[0].motion.pattern == "circular"


PLACES = [
    path for path, *_ in [
        (f"{a}.{b}",) for a, cls in (("video", ("id", "task", "fps", "size_px", "rgb")), ("camera", ("K", "moving")),
                                     ("actions.0", ("slots", "start_frame", "trajectory", "motion", "relations")),
                                     ("objects.0", ("name", "parts", "box"))) for b in cls
    ]
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(path=st.sampled_from(PLACES), value=JSON)
@settings(max_examples=400, deadline=None)
def test_nonsense_is_refused_with_a_config_error_or_means_what_it_says(path: str, value: Any) -> None:
    values = changed(path, copy.deepcopy(value))
    try:
        read = parse_info(values)
    except ConfigError:
        return
    assert parse_info(plain_info(read)) == read
