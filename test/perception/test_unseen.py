"""Things without depth stand where their image meets the table, and decisions on them are those of their true places."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE, plan_through
from ray_caster import Scene, block, front_camera, home_robot, plate

from stvla_ros.geometry.cameras import cloud
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.perception.unseen import placed, unseen
from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.types import Guidance, RgbdFrame, RobotState, Segments

CAMERA = front_camera(320, 240)
SCENE = Scene(
    [
        block("red", 0.5, 0.1, 0.4),
        *plate(0.45, -0.22),
        block("blue", 0.65, 0.0, size=0.08, z=0.04),
        block("green", 0.42, 0.0),
    ]
)
"""The blue block stands 13 cm from the path but hides its table; the green one stands under it."""


class Given:
    """A segmenter with a given answer."""

    def __init__(self, ids: np.ndarray, notes: tuple[str, ...] = ()) -> None:
        self._segments = Segments(ids.astype(np.int32), tuple(np.unique(ids[ids > 0]).tolist()), notes)

    def segment(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        return self._segments

    def refresh(self) -> None:
        pass


def without_depth(frame: RgbdFrame, where: np.ndarray) -> RgbdFrame:
    return replace(frame, depth_m=np.where(where, np.float32(np.nan), frame.depth_m))


def segments_of(ids: np.ndarray) -> Segments:
    return Segments(ids.astype(np.int32), tuple(np.unique(ids[ids > 0]).tolist()))


@pytest.mark.parametrize("thing", [1, 3, 4])
def test_a_thing_without_depth_stands_where_it_stood(thing: int) -> None:
    frame, ids = SCENE.render(CAMERA)
    blind = without_depth(frame, ids == thing)
    points, notes = placed(segments_of(ids), cloud(blind), CAMERA, SupportPlane())
    true = cloud(frame)
    off = np.linalg.norm((points - true)[:, ids == thing], axis=0)
    assert np.median(off) < 0.02
    assert off.max() < 0.12  # its depth: the far corner of its top
    np.testing.assert_array_equal(points[:, ids != thing], true[:, ids != thing])
    assert notes == ("1 instances have no depth: their places are estimated from where they meet the table.",)


def test_a_thing_with_some_depth_stays_as_measured() -> None:
    frame, ids = SCENE.render(CAMERA)
    some = np.random.default_rng(0).random(ids.shape) < 0.5
    points = cloud(without_depth(frame, (ids == 3) & some))
    assert unseen(segments_of(ids), points) == ()
    result, notes = placed(segments_of(ids), points, CAMERA, SupportPlane())
    assert result is points
    assert notes == ()


def test_what_hangs_above_the_horizon_has_no_place() -> None:
    _, ids = SCENE.render(CAMERA)
    labels = np.zeros_like(ids)
    labels[:2, 100:140] = 1
    pose = CAMERA.T_base_camera.copy()
    pose[:3, :3] = [[0, 0, -1], [1, 0, 0], [0, -1, 0]]  # looks along -x, level
    level = replace(CAMERA, T_base_camera=pose)
    points = np.full((3, *ids.shape), np.nan, np.float32)
    result, notes = placed(segments_of(labels), points, level, SupportPlane())
    assert not np.isfinite(result).any()
    assert notes == ("1 instances have neither depth nor a foot on the table: their places are unknown.",)


def guided(frame: RgbdFrame, ids: np.ndarray, notes: tuple[str, ...] = ()) -> Guidance:
    guide = SpatialGuide(Given(ids, notes), GuideConfig(mode="mask_only"))
    return guide.guide(guide.lift(plan_through(PICK_TO_PLATE, frame), frame), frame, home_robot())


def test_decisions_do_not_depend_on_whether_a_thing_has_depth() -> None:
    """A glass that the task is about must not vanish because the sensor looks through it."""
    frame, ids = SCENE.render(CAMERA)
    whole = guided(frame, ids)
    assert (whole.kept_ids, whole.removed_ids) == ((1, 2), (3, 4))
    for thing in (2, 3, 4):
        blind = guided(without_depth(frame, ids == thing), ids)
        assert (blind.kept_ids, blind.removed_ids) == (whole.kept_ids, whole.removed_ids), thing
        assert "have no depth" in " ".join(blind.notes)


def test_what_the_segmenter_cannot_know_reaches_the_operator() -> None:
    frame, ids = SCENE.render(CAMERA)
    assert guided(frame, ids, ("Something is doubtful.",)).notes == ("Something is doubtful.",)
    assert guided(frame, ids).notes == ()
