"""An annotation in work and the ``info.json`` that it becomes.

While people work, an annotation may be unfinished: an action without a template, without a contact. It is a plain JSON
object with ``instruction``, ``objects`` and ``actions``, the last two as in ``info.json``. What follows from the rest
is not asked of anybody: sentences, steps, hand-free frames, contact points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.info import Review, VideoInfo
from stvla_ros.data.st_human.info_json import parse_info, plain_info, project
from stvla_ros.data.st_human.plain import FormatError
from stvla_ros.data.st_human.templates import TEMPLATES, Form, sentence

KEYS = ("instruction", "objects", "actions")
MOST_ACTIONS, MOST_OBJECTS, MOST_WAYPOINTS = 200, 200, 2000


def check(document: Any) -> dict[str, Any]:
    """An annotation from a client, which may be unfinished. Raises FormatError."""
    if not isinstance(document, dict) or sorted(document) != sorted(KEYS):
        raise FormatError(f"annotation: wanted an object with {', '.join(KEYS)}.")
    if not isinstance(document["instruction"], str) or len(document["instruction"]) > 500:
        raise FormatError("annotation.instruction: wanted text of at most 500 characters.")
    for name, most in (("objects", MOST_OBJECTS), ("actions", MOST_ACTIONS)):
        entries = document[name]
        if not isinstance(entries, list) or len(entries) > most:
            raise FormatError(f"annotation.{name}: wanted a list of at most {most}.")
        ids = [entry.get("id") if isinstance(entry, dict) else None for entry in entries]
        if not all(isinstance(id_, str) and 0 < len(id_) <= 80 for id_ in ids) or len(set(ids)) < len(ids):
            raise FormatError(f"annotation.{name}: wanted objects with an 'id' of their own, of at most 80 characters.")
    for action in document["actions"]:
        path = action.get("trajectory", [])
        if not isinstance(path, list) or len(path) > MOST_WAYPOINTS:
            raise FormatError(
                f"annotation: action '{action['id']}'.trajectory: wanted a list of at most {MOST_WAYPOINTS}."
            )
    return document


def completed(info: VideoInfo, document: Mapping[str, Any], reviews: Mapping[str, Review] | None = None) -> VideoInfo:
    """``info.json`` with an annotation in the place of what was known.

    Args:
        info: What is known of the video: images, camera.
        document: Of :func:`check`.
        reviews: Id of an action -> verdict to write; others have none.

    Raises:
        FormatError: The annotation is not finished, or parts of it disagree; the message names the field.
    """
    plain = plain_info(info)
    things = {thing["id"]: thing.get("name", "") for thing in document["objects"]}
    try:
        actions = sorted(document["actions"], key=lambda action: action["start_frame"])
        done: list[dict[str, Any]] = []
        for number, action in enumerate(actions, 1):
            done.append(
                _action(info, things, action, [a["id"] for a in done]) | {"step": number, "steps": len(actions)}
            )
    except FormatError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
        raise FormatError(
            "annotation: an action lacks a frame, or a field has another type than in info.json."
        ) from error
    for action in done:
        review = (reviews or {}).get(action["id"])
        action["review"] = None if review is None else asdict(review)
    plain["video"]["instruction"] = document["instruction"]
    return parse_info(plain | {"objects": document["objects"], "actions": done, "excluded": None}, info.video.id)


def fault(info: VideoInfo, document: Mapping[str, Any]) -> str | None:
    """What keeps an annotation from being finished; None: nothing."""
    try:
        done = completed(info, document)
    except ConfigError as error:
        return str(error).removeprefix(f"{info.video.id}: ")
    if not done.actions:
        return "There is no action: add one, or exclude the video with a reason."
    for action in done.actions:
        if action.contact_points is None:
            return (
                f"action '{action.id}': wanted a pose of the hand at contact ({action.contact_frame}) and at release "
                f"({action.release_frame})."
            )
    return None


def _action(
    info: VideoInfo, things: Mapping[str, str], action: Mapping[str, Any], earlier: list[str]
) -> dict[str, Any]:
    here = f"action '{action['id']}'"
    for name in ("start", "contact", "release", "end"):
        if not isinstance(action.get(f"{name}_frame"), int):
            raise FormatError(f"{here}.{name}_frame: wanted a frame, found none.")
    if action.get("template") not in TEMPLATES:
        raise FormatError(f"{here}.template: wanted one of the templates, found none.")
    slots = {key: tuple(value) if isinstance(value, list) else value for key, value in action["slots"].items()}
    try:
        words = sentence(action["template"], slots, things)
    except FormatError:
        raise
    except ConfigError as error:
        raise FormatError(f"{here}: {error}") from error
    relations, clean, after = action.get("relations") or {}, action.get("clean_frame"), action.get("after_frame")
    return {
        **action,
        "sentence": words,
        "wordings": [],
        "clean_frame": clean if isinstance(clean, int) and clean < action["start_frame"] else action["start_frame"] - 1,
        "after_frame": after if isinstance(after, int) and after > action["end_frame"] else action["end_frame"] + 1,
        "depends_on": [id_ for id_ in action.get("depends_on", ()) if id_ in earlier],
        "relations": {
            when: [
                relation
                for relation in relations.get(when, ())
                if {relation["subject"], *relation["objects"]} <= things.keys()
            ]
            for when in ("before", "after")
        },
        "contact_points": _contacts(info, things, action),
        "review": None,
    }


def _contacts(info: VideoInfo, things: Mapping[str, str], action: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where the path is at contact and at release; what is touched, as it was known."""
    known, points = action.get("contact_points") or {}, {}
    for name, key in (("initial", "contact_frame"), ("final", "release_frame")):
        at = next((point for point in action.get("trajectory", ()) if point["frame"] == action[key]), None)
        if at is None:
            return None
        x, y = (float(v) for v in project(info.camera, [at["xyz_m"]])[0])
        before = known.get(name) or {}
        touched = before.get("object") if before.get("object") in things else None
        points[name] = {
            "frame": action[key],
            "px": [x, y],
            "xyz_m": at["xyz_m"],
            "object": touched,
            "part": before.get("part") if touched else None,
            "source": "manual" if at.get("source") == "manual" else "auto",
        }
    return points


def forms() -> list[dict[str, Any]]:
    """All templates for the page: id, and for each form its words and what its slots hold."""
    return [
        {"id": template.id, "motion": list(template.motion), "forms": [_form(form) for form in template.forms]}
        for template in TEMPLATES.values()
    ]


def _form(form: Form) -> dict[str, Any]:
    slots = {name: {"kind": type(slot).__name__, **vars(slot)} for name, slot in form.slots.items()}
    return {"words": form.wordings[0], "slots": slots, "implied": dict(form.implied)}
