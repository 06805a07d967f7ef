"""The calibration board: its picture to print, and its corners in an image.

The board's frame has its origin in the middle of the pattern, x to the right, y down and z into the board, as one looks
at it: an optical frame that looks straight at the board has the same axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stvla_ros.config import ConfigError, param
from stvla_ros.geometry.se3 import pose
from stvla_ros.types import F64, I32, U8

CHARUCO, APRILTAG = "charuco", "apriltag"
MIN_POINTS = 8
"""Fewer corners than this leave the board's pose too uncertain."""

_DICTIONARY = {CHARUCO: cv2.aruco.DICT_4X4_100, APRILTAG: cv2.aruco.DICT_APRILTAG_36h11}
_MARKERS = {CHARUCO: 100, APRILTAG: 587}
_MM_PER_INCH = 25.4


@dataclass(frozen=True)
class BoardConfig:
    """A board. The default fits on half a sheet of A4; its squares have 30 px at 0.9 m in an image of 1280x720."""

    kind: str = param(CHARUCO, "charuco: chessboard with markers; apriltag: grid of tags", choices=(CHARUCO, APRILTAG))
    columns: int = param(7, "squares (charuco) or tags (apriltag) from left to right", ge=3, le=20)
    rows: int = param(5, "squares or tags from top to bottom", ge=3, le=20)
    square_m: float = param(0.028, "edge of a square, or distance from tag to tag [m]", ge=0.005, le=0.2)
    marker_m: float = param(0.021, "edge of a marker's black border, measured on the print [m]", ge=0.003, le=0.2)

    def __post_init__(self) -> None:
        if self.marker_m >= self.square_m:
            raise ConfigError(
                f"board: wanted a marker smaller than its square, got {self.marker_m:g} m in {self.square_m:g} m."
            )
        count = self.columns * self.rows // (2 if self.kind == CHARUCO else 1)
        if count > _MARKERS[self.kind]:
            raise ConfigError(f"board: {count} markers are more than the {_MARKERS[self.kind]} of its dictionary.")

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height of the pattern."""
        gap = 0.0 if self.kind == CHARUCO else self.square_m - self.marker_m
        return self.columns * self.square_m - gap, self.rows * self.square_m - gap

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.columns} x {self.rows}, {1000 * self.square_m:g} mm squares, "
            f"{1000 * self.marker_m:g} mm markers"
        )


@dataclass(frozen=True, eq=False)
class Detection:
    """A board in an image.

    Attributes:
        points_m: (N, 3) corners in the board's frame.
        px: (N, 2) where they are in the image.
        ids: (N,) numbers of the corners; the same corner has the same number in every image.
    """

    points_m: F64
    px: F64
    ids: I32


class Board:
    """Draws a board, and finds it in images."""

    def __init__(self, config: BoardConfig) -> None:
        self.config = config
        self._dictionary = dictionary = cv2.aruco.getPredefinedDictionary(_DICTIONARY[config.kind])
        size = (config.columns, config.rows)
        parameters = cv2.aruco.DetectorParameters()
        self._board: cv2.aruco.Board
        if config.kind == CHARUCO:
            board = cv2.aruco.CharucoBoard(size, config.square_m, config.marker_m, dictionary)
            self._charuco: cv2.aruco.CharucoDetector | None = cv2.aruco.CharucoDetector(board)
            self._charuco.setDetectorParameters(parameters)
            self._board, self.corners = board, (config.columns - 1) * (config.rows - 1)
        else:
            parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
            self._board = cv2.aruco.GridBoard(size, config.marker_m, config.square_m - config.marker_m, dictionary)
            self._charuco, self.corners = None, 4 * config.columns * config.rows
        self._tags = cv2.aruco.ArucoDetector(dictionary, parameters)
        self._centre = np.array([*config.size_m, 0.0]) / 2

    def picture(self, px_per_m: float, margin_m: float = 0.0) -> U8:
        """(H, W) the pattern, black on white, with a white margin on every side."""
        width, height = (round(size * px_per_m) for size in self.config.size_m)
        page = np.full((height, width), 255, np.uint8)
        if self._charuco is not None:
            self._draw_squares(page, px_per_m)
        for i, corners in zip(np.ravel(self._board.getIds()), self._board.getObjPoints(), strict=True):
            ends = np.rint(np.asarray(corners)[[0, 2], :2] * px_per_m).astype(int)
            (left, top), (right, bottom) = np.minimum(ends, [width, height])
            modules = self._dictionary.markerSize + 2
            marker = self._dictionary.generateImageMarker(int(i), modules)
            size = (int(right - left), int(bottom - top))
            page[top:bottom, left:right] = cv2.resize(marker, size, interpolation=cv2.INTER_NEAREST)
        return np.pad(page, round(margin_m * px_per_m), constant_values=255)

    def _draw_squares(self, page: U8, px_per_m: float) -> None:
        """The black squares of a chessboard; the first one is black. (OpenCV's own picture fails at some sizes.)"""
        edge = np.rint(np.arange(21) * self.config.square_m * px_per_m).astype(int)
        for row in range(self.config.rows):
            for column in range(row % 2, self.config.columns, 2):
                page[edge[row] : edge[row + 1], edge[column] : edge[column + 1]] = 0

    def detect(self, rgb: U8) -> Detection | None:
        """The board's corners in an image (H, W, 3); None if fewer than :data:`MIN_POINTS` are seen."""
        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        points, px, ids = self._charuco_corners(grey) if self._charuco else self._tag_corners(grey)
        if len(px) < MIN_POINTS or np.linalg.matrix_rank(points - points.mean(axis=0), tol=1e-6) < 2:
            return None
        return Detection(points - self._centre, px, ids)

    def _charuco_corners(self, grey: U8) -> tuple[F64, F64, I32]:
        assert self._charuco is not None
        assert isinstance(self._board, cv2.aruco.CharucoBoard)
        px, ids, _, _ = self._charuco.detectBoard(grey)
        if ids is None or not len(ids):
            return _NOTHING
        found = np.asarray(ids, dtype=np.int32).ravel()
        points = np.asarray(self._board.getChessboardCorners(), dtype=np.float64)[found]
        return points, np.asarray(px, dtype=np.float64).reshape(-1, 2), found

    def _tag_corners(self, grey: U8) -> tuple[F64, F64, I32]:
        corners, ids, _ = self._tags.detectMarkers(grey)
        if ids is None:
            return _NOTHING
        place = {int(i): np.asarray(p) for i, p in zip(self._board.getIds(), self._board.getObjPoints(), strict=True)}
        known = [(c, int(i)) for c, i in zip(corners, np.ravel(ids), strict=True) if int(i) in place]
        if not known:
            return _NOTHING
        points = np.concatenate([place[i] for _, i in known]).astype(np.float64)
        px = np.concatenate([np.asarray(c).reshape(4, 2) for c, _ in known]).astype(np.float64)
        return points, px, np.concatenate([4 * i + np.arange(4) for _, i in known]).astype(np.int32)


_NOTHING = np.empty((0, 3)), np.empty((0, 2)), np.empty(0, np.int32)


def board_pose(detection: Detection, K: F64) -> F64:
    """(4, 4) ``T_camera_board`` from one image.

    A plane has two likely poses (Collins and Bartoli, IJCV 109(3), 2014); the one that fits better is refined.
    """
    zero = np.zeros(4)
    flags = cv2.SOLVEPNP_IPPE
    _, turns, places, _ = cv2.solvePnPGeneric(detection.points_m, detection.px, K, zero, flags=flags)
    turn, place = cv2.solvePnPRefineLM(detection.points_m, detection.px, K, zero, turns[0], places[0])
    return pose(cv2.Rodrigues(turn)[0], np.ravel(place))


def sheet(config: BoardConfig, dpi: int = 600) -> U8:
    """(H, W) a sheet of A4 (landscape) to print at 100 %: the board, its name, and a ruler of 100 mm.

    Raises:
        ConfigError: The board is larger than the sheet.
    """
    px_per_m = dpi / _MM_PER_INCH * 1000
    page = np.full((round(0.210 * px_per_m), round(0.297 * px_per_m)), 255, np.uint8)
    picture = Board(config).picture(px_per_m)
    h, w = picture.shape
    top, left = round(0.012 * px_per_m), (page.shape[1] - w) // 2
    if left < 0.008 * px_per_m or top + h > page.shape[0] - 0.03 * px_per_m:
        size = " x ".join(f"{1000 * s:.0f}" for s in config.size_m)
        raise ConfigError(f"The board is {size} mm and does not fit on A4 (280 x 168 mm): choose smaller squares.")
    page[top : top + h, left : left + w] = picture
    _draw_ruler(page, px_per_m)
    text = f"{config}. Print at 100 %: the ruler must measure 100 mm."
    scale = dpi / 600 * 2.2
    at = (round(0.02 * px_per_m), page.shape[0] - round(0.008 * px_per_m))
    cv2.putText(page, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 0, max(1, round(2 * scale)), cv2.LINE_AA)
    return page


def _draw_ruler(page: U8, px_per_m: float) -> None:
    """A line of 100 mm with a tick every 10 mm, at the lower edge of the sheet."""
    y, x = page.shape[0] - round(0.020 * px_per_m), round(0.02 * px_per_m)
    thick = max(1, round(0.0002 * px_per_m))
    for mm in range(0, 101, 10):
        tick = round((0.005 if mm % 50 == 0 else 0.003) * px_per_m)
        at = x + round(mm / 1000 * px_per_m)
        page[y - tick : y, at - thick : at + thick] = 0
    page[y - thick : y + thick, x : x + round(0.1 * px_per_m)] = 0
