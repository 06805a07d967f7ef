"""The picture of a grounding test."""

from __future__ import annotations

import cv2
import numpy as np

from stvla_ros.evaluate.grounding import Answer, Grounding
from stvla_ros.geometry.cameras import uv_to_px
from stvla_ros.record.panels import strip
from stvla_ros.types import F64, U8, Camera

EXPECTED, ANSWERED, PATH = (60, 220, 90), (235, 60, 50), (250, 200, 40)


def picture(found: Grounding) -> U8:
    """The image with expected places (green), answers (red, joined to what they are for) and the path, under the verdict."""
    camera, canvas = found.frame.camera, np.array(found.frame.rgb)
    for answer in found.answers:
        _mark(canvas, answer, camera)
    if found.path_uv is not None:
        points = np.rint(uv_to_px(found.path_uv, camera)).astype(np.int32)
        cv2.polylines(canvas, [points], False, PATH, 1, cv2.LINE_AA)
    return np.vstack([strip(found.verdict.sentence, canvas.shape[1]), canvas])


def _mark(canvas: U8, answer: Answer, camera: Camera) -> None:
    expected = _pixel(uv_to_px(answer.target.uv, camera))
    cv2.circle(canvas, expected, 5, EXPECTED, 1, cv2.LINE_AA)
    cv2.putText(canvas, answer.target.name, (expected[0] + 7, expected[1] - 5), 0, 0.36, EXPECTED, 1, cv2.LINE_AA)
    if answer.uv is None:
        return
    given = _pixel(uv_to_px(answer.uv, camera))
    cv2.line(canvas, expected, given, ANSWERED, 1, cv2.LINE_AA)
    cv2.drawMarker(canvas, given, ANSWERED, cv2.MARKER_TILTED_CROSS, 9, 2, cv2.LINE_AA)


def _pixel(px: F64) -> tuple[int, int]:
    x, y = np.clip(np.rint(px), -10_000, 10_000).astype(int)
    return int(x), int(y)
