"""A small valid ``info.json`` for tests."""

from __future__ import annotations

from typing import Any

from stvla_ros.data.st_human.info import VideoInfo
from stvla_ros.data.st_human.info_json import parse_info


def plain(video: str = "v1", cup: str = "cup_1") -> dict[str, Any]:
    """Plain JSON values of a video: a cup is put on a tray, then taken to a free place."""

    def waypoint(frame: int, gripper: int) -> dict[str, Any]:
        return {
            "frame": frame, "xyz_m": [0.01 * frame - 0.2, 0.1, 0.8], "quat_xyzw": [0, 0, 0, 1], "gripper": gripper,
            "width_m": 0.04, "sigma_m": 0.003, "source": "auto",
        }  # fmt: skip

    def contact(frame: int, x: float, thing: str | None) -> dict[str, Any]:
        return {
            "frame": frame, "px": [600 * x / 0.8 + 320, 600 * 0.1 / 0.8 + 240], "xyz_m": [x, 0.1, 0.8], "object": thing,
            "part": "rim" if thing == cup else None, "source": "manual",
        }  # fmt: skip

    def action(name: str, first: int, step: int, template: str, slots: dict[str, Any], sentence: str) -> dict[str, Any]:
        return {
            "id": name, "template": template, "slots": slots, "sentence": sentence, "hand": "right",
            "start_frame": first, "contact_frame": first + 5, "release_frame": first + 15, "end_frame": first + 20,
            "clean_frame": first - 1, "after_frame": first + 21, "step": step, "steps": 2, "success": True,
            "contact_points": {"initial": contact(first + 5, -0.1, cup), "final": contact(first + 15, 0.1, "tray_1")},
            "trajectory": [waypoint(first + 5, 1), waypoint(first + 10, 1), waypoint(first + 15, 0)],
            "relations": {
                "before": [], "after": [{"subject": cup, "predicate": "on", "objects": ["tray_1"], "margin": 2.5}],
            },
            "quality": {"score": 0.9, "reprojection_px": 0.4, "gap_frames": 0, "flags": ["short"]},
            "review": None, "depends_on": [] if step == 1 else ["a1"],
        }  # fmt: skip

    return {
        "format": "st-human-1",
        "video": {
            "id": video, "task": 3, "instruction": "Tidy up.", "frames": 70, "fps": 30, "rgb": "rgb/%06d.jpg",
            "depth": "depth/%06d.png", "size_px": [640, 480], "hashes": {"rgb/000000.jpg": "ab"},
        },
        "camera": {
            "K": [600, 600, 320, 240], "depth_unit_m": 0.001,
            "T_workspace_camera": [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 1, 0, 0, 0, 1],
        },
        "environment": {"lighting": "daylight", "texture": "wood", "distractors": 1},
        "objects": [
            {
                "id": cup, "name": "red cup", "category": "cup", "colour": "red", "parts": ["rim", "handle"],
                "box": {"frame": 0, "center_m": [0, 0, 0.8], "size_m": [0.08, 0.08, 0.1], "quat_xyzw": [0, 0, 0, 1]},
            },
            {"id": "tray_1", "name": "tray", "category": "tray", "roles": ["support"]},
        ],
        "actions": [
            action("a1", 5, 1, "put_on", {"object": cup, "support": "tray_1"}, "Put the red cup on the tray."),
            action(
                "a2", 40, 2, "put_relative", {"object": cup, "relation": "left of", "reference": "tray_1"},
                "Put the red cup left of the tray.",
            ),
        ],
        "provenance": {"tool": "stvla", "version": "0.1.0", "models": ["palm"], "people": ["p1"], "consent": "c-7"},
        "excluded": None,
    }  # fmt: skip


def info(video: str = "v1", cup: str = "cup_1") -> VideoInfo:
    return parse_info(plain(video, cup))
