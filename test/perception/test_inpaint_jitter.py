"""Masks that jitter: the hole follows them at its rim, and is made anew when something moves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from perception.test_inpaint import arguments, front_camera, render, with_rgb

from stvla_ros.perception.inpaint import FillConfig, Filler, fill
from stvla_ros.perception.inpaint.hole import Hole
from stvla_ros.perception.inpaint.jitter import PATIENCE, Jitter
from stvla_ros.perception.inpaint.masks import dilated
from stvla_ros.types import U8

WIDTH_PX = 320


def box(*place: int) -> U8:
    top, bottom, left, right = place
    mask = np.zeros((240, WIDTH_PX), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


NOTHING, THING, OTHER = box(0, 0, 0, 0), box(50, 90, 50, 90), box(150, 190, 200, 240)


def jitter() -> Jitter:
    both = THING | OTHER
    return Jitter(Hole(both, dilated(both, 2), dilated(both, 2), dilated(both, 1)), 8, WIDTH_PX)


def test_the_rim_grows_by_what_a_mask_gains() -> None:
    followed = jitter()
    more = THING | OTHER | box(60, 70, 90, 96)
    added = followed.follow(more, NOTHING)
    assert added is not None
    assert (added[60:70, 91:97] == 255).all(), "with a fringe"
    assert not added[:, 100:].any()
    again = followed.follow(more, NOTHING)
    assert again is not None
    assert not again.any(), "once"
    back = followed.follow(THING | OTHER, NOTHING)
    assert back is not None
    assert not back.any()
    assert (followed.steady[60:70, 91:96] == 255).all(), "and does not shrink at once"


def test_what_a_mask_lacks_for_long_is_uncovered() -> None:
    followed, less = jitter(), box(50, 90, 50, 90) - box(50, 53, 50, 62)
    for _ in range(3):
        followed.follow(less - box(53, 60, 50, 62) | OTHER, NOTHING)
        assert followed.follow(THING | OTHER, NOTHING) is not None
    for _ in range(PATIENCE - 1):
        assert followed.follow(less - box(53, 60, 50, 62) | OTHER, NOTHING) is not None
    assert followed.follow(less - box(53, 60, 50, 62) | OTHER, NOTHING) is None
    assert followed.steady[50, 50] == 0
    assert (followed.steady[60:90, 50:90] == 255).all()


def test_frames_far_apart_count_as_many() -> None:
    followed, less = jitter(), (THING | OTHER) - box(50, 60, 50, 62)
    assert followed.follow(less, NOTHING, 2_000_000_000) is None
    assert followed.steady[50, 50] == 0


def test_a_thing_that_vanishes_is_uncovered_after_a_while_and_one_that_moves_at_once() -> None:
    gone = jitter()
    for _ in range(PATIENCE - 1):
        assert gone.follow(THING, NOTHING) is not None, "masks of noisy frames lack whole things"
    assert gone.follow(THING, NOTHING) is None
    assert (gone.steady == THING).all()
    moved = jitter()
    assert moved.follow(THING | np.roll(OTHER, 8, axis=1), NOTHING) is None
    assert (moved.steady == THING).all(), "nothing stays hidden where it was"


def test_a_speck_makes_no_new_hole_and_many_do() -> None:
    followed, speck = jitter(), box(20, 22, 200, 204)
    added = followed.follow(THING | OTHER | speck, NOTHING)
    assert added is not None
    assert (added[20:22, 200:204] == 255).all()
    assert followed.follow(THING | OTHER | speck | box(120, 122, 20, 25), NOTHING) is None


def test_what_appears_elsewhere_needs_a_new_hole_which_keeps_the_rest() -> None:
    followed = jitter()
    assert followed.follow((THING | OTHER | box(20, 30, 200, 210)) - box(50, 58, 50, 55), NOTHING) is None
    assert (followed.steady == THING | OTHER).all()


def test_what_stays_is_not_lacking() -> None:
    followed, arm = jitter(), box(150, 240, 200, 240)
    for _ in range(PATIENCE + 1):
        assert followed.follow(THING, arm) is not None


@dataclass(frozen=True)
class Rim:
    """A piece that some masks add to a thing, px."""

    wide: int
    long: int


@pytest.mark.parametrize("rim", [Rim(3, 12), Rim(8, 14)])
def test_a_filled_rim_looks_like_the_table_and_the_hole_is_not_made_anew(rim: Rim) -> None:
    frame, ids, _ = render(0.0, front_camera(640, 480))
    keep, remove = np.isin(ids, [1, 2]), ids > 2
    filler = Filler(FillConfig())
    filler.fill(*arguments(frame, remove, keep))
    plan = filler._plan
    v, u = np.argwhere(remove & ~np.roll(remove, -1, axis=1))[40]
    more = remove.copy()
    more[v : v + rim.long, u : u + rim.wide + 1] = True
    white = np.where((more & ~remove)[..., None], np.uint8(255), frame.rgb)
    out = filler.fill(*arguments(with_rgb(frame, white), more & ~keep, keep))
    fresh = fill(*arguments(with_rgb(frame, white), more & ~keep, keep))
    assert filler._plan is plan
    assert out.hidden[more & ~keep].all()
    new = more & ~remove & ~keep
    off = np.abs(out.rgb[new].astype(float) - fresh.rgb[new])
    assert off.mean() < 3
    assert off.max() < 20
    np.testing.assert_allclose(out.depth_m[new], fresh.depth_m[new], atol=1e-3)


def test_depth_that_flies_or_is_lost_beside_the_hole_in_a_later_frame_is_replaced() -> None:
    frame, ids, _ = render(0.0, front_camera(640, 480))
    keep, remove = np.isin(ids, [1, 2]), ids > 2
    filler = Filler(FillConfig())
    before = filler.fill(*arguments(frame, remove, keep))
    plan = filler._plan
    around = dilated(before.hidden.astype(np.uint8) * np.uint8(255), 3) > 0
    beside = around & ~before.hidden & (ids == 0)
    flying = np.where(np.arange(640) % 2 > 0, frame.depth_m - np.float32(0.1), np.float32(np.nan))
    stray = np.where(beside, flying, frame.depth_m)
    out = filler.fill(*arguments(replace(frame, depth_m=stray), remove, keep))
    assert filler._plan is plan
    assert beside.sum() > 100
    assert out.hidden[beside].all()
    np.testing.assert_allclose(out.depth_m[beside], frame.depth_m[beside], atol=2e-3)
    np.testing.assert_allclose(out.depth_m[before.hidden], before.depth_m[before.hidden], atol=2e-3)
