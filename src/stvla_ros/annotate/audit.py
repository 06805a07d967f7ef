"""How far an annotation is from what an auditor finds in the same video, and whether that is near enough to pass.

An auditor who has a video open may set its frames, points and words anew. That copy is not saved. Its distances from the
annotation are shown while it changes, decide whether the video may pass, and are kept with the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stvla_ros.annotate import document as documents
from stvla_ros.data.st_human.agreement import CONTACT_MM, FRAMES, PATH_MM, compare
from stvla_ros.data.st_human.info import VideoInfo

TOLERANCE: Mapping[str, float] = {"frames": FRAMES, "contact_mm": CONTACT_MM, "path_mm": PATH_MM}
"""Of contact and release, the points there, and the poses between them."""


def distances(info: VideoInfo, annotated: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Compare an annotation with an auditor's copy.

    Args:
        info: What is known of the video.
        annotated: The annotation of :func:`stvla_ros.annotate.document.check`.
        own: The auditor's copy.

    Returns:
        ``tolerance``; ``actions``, a row each: :meth:`stvla_ros.data.st_human.agreement.Pair.figures`; ``fault``, a sentence
        with the first thing that is too far off, None: nothing.

    Raises:
        FormatError: One of them is not finished.
    """
    found = compare([documents.completed(info, annotated)], [documents.completed(info, own)])
    rows = [pair.figures() for pair in found.pairs]
    fault = next((_fault(row) for row in rows if not row["would_pass"]), None)
    if found.only_first or found.only_second:
        fault = "one of the two has an action that the other one lacks"
    return {"tolerance": dict(TOLERANCE), "actions": rows, "fault": fault}


def _fault(row: Mapping[str, Any]) -> str:
    """Of an action that would not pass: what is too far off, and what is allowed."""
    frames = max(abs(row["frames"][1]), abs(row["frames"][2]))
    contact = None if row["contact_mm"] is None else max(row["contact_mm"])
    here = f"action '{row['first']}'"
    if not row["same_sentence"]:
        return f"{here} says something else"
    if frames > FRAMES:
        return f"{here}: contact or release is {frames} frames off, {FRAMES} are allowed"
    if contact is None or contact > CONTACT_MM:
        off = "has no point" if contact is None else f"is {contact:.1f} mm off"
        return f"{here}: contact or release {off}, {CONTACT_MM:g} mm are allowed"
    return f"{here}: its path is up to {row['path_max_mm']:.1f} mm off, {PATH_MM:g} mm are allowed"
