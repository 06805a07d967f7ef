"""Boards: what is drawn is found where it was drawn; the sheet has a true ruler; wrong boards are refused."""

import numpy as np
import pytest

from stvla_ros.calibration.board import APRILTAG, CHARUCO, Board, BoardConfig, board_pose, sheet
from stvla_ros.config import ConfigError, build

PX_PER_M, MARGIN_M = 4000.0, 0.01
TAGS = BoardConfig(kind=APRILTAG, columns=5, rows=3, square_m=0.04, marker_m=0.03)


def picture(config):
    return np.repeat(Board(config).picture(PX_PER_M, MARGIN_M)[..., None], 3, axis=2)


@pytest.mark.parametrize(("config", "corners"), [(BoardConfig(), 24), (TAGS, 60)])
def test_every_corner_is_found_where_it_was_drawn(config, corners):
    found = Board(config).detect(picture(config))
    assert len(found.px) == len(set(found.ids.tolist())) == corners
    drawn = (found.points_m[:, :2] + np.array(config.size_m) / 2 + MARGIN_M) * PX_PER_M - 0.5
    assert np.abs(drawn - found.px).max() < 0.1
    assert np.abs(found.points_m.mean(axis=0)).max() < 1e-7  # the origin is the middle


def test_a_board_that_is_looked_at_straight_has_the_axes_of_the_optical_frame():
    found = Board(BoardConfig()).detect(picture(BoardConfig()))
    h, w = picture(BoardConfig()).shape[:2]
    K = np.array([[PX_PER_M, 0, w / 2 - 0.5], [0, PX_PER_M, h / 2 - 0.5], [0, 0, 1]])
    T = board_pose(found, K)  # a focal length of 4000 px and 4000 px per metre: 1 m away
    assert np.abs(T - np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])).max() < 2e-3


def test_no_board_and_too_little_of_one_are_not_found():
    image, board = picture(BoardConfig()), Board(BoardConfig())
    assert board.detect(np.full_like(image, 200)) is None
    assert board.detect(np.ascontiguousarray(image[:, :300])) is None
    assert Board(TAGS).detect(np.full_like(image, 200)) is None
    assert board.detect(np.ascontiguousarray(image[:, ::-1])) is None  # seen in a mirror


def test_the_sheet_is_a4_and_its_ruler_is_100_mm():
    page = sheet(BoardConfig(), 300)
    assert page.shape == (2480, 3508)
    black = np.flatnonzero(page[-round(0.020 * 300 / 0.0254)] == 0)
    assert (black[-1] - black[0]) * 0.0254 / 300 == pytest.approx(0.1, abs=5e-4)
    found = Board(BoardConfig()).detect(np.repeat(page[..., None], 3, axis=2))
    assert len(found.px) == 24
    spacing = np.linalg.norm(found.px[1] - found.px[0]) * 0.0254 / 300
    assert spacing == pytest.approx(0.028, abs=1e-4)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"marker_m": 0.03}, "smaller than its square"),
        ({"kind": CHARUCO, "columns": 20, "rows": 20}, "more than the 100"),
        ({"kind": "chess"}, "wanted one of charuco, apriltag"),
        ({"square_m": 0.0}, "wanted 0.005"),
    ],
)
def test_impossible_boards_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        build(BoardConfig, values, "board")


def test_a_board_larger_than_the_sheet_is_refused():
    with pytest.raises(ConfigError, match="350 x 250 mm and does not fit on A4"):
        sheet(BoardConfig(square_m=0.05, marker_m=0.04), 100)
