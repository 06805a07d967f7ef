"""Obstacles from rendered depth images: by instance, hidden or seen, fused over time and views."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from motion.scenes import box, depth_image
from ray_caster import Box as Thing
from ray_caster import Scene, front_camera, home_robot, look_at

from stvla_ros.description.body import robot_distance
from stvla_ros.description.kinematics import link_poses
from stvla_ros.description.panda import HOME_Q_RAD
from stvla_ros.geometry.se3 import pose, tool_down
from stvla_ros.motion import ik
from stvla_ros.motion.collision import Grid, Surface, VoxelConfig, columns_below, in_box, seen_cells
from stvla_ros.motion.held import held_box, with_hidden_part
from stvla_ros.motion.scene import PlanningScene
from stvla_ros.tabletop.support_plane import SupportPlane
from stvla_ros.types import F32, F64, Box, Camera, RgbdFrame

CONFIG = VoxelConfig()
BLOCK = box(0.5, 0.1, 0.03, 0.06, 0.06, 0.06)
TARGET = box(0.5, 0.1, 0.02, 0.04, 0.04, 0.04)
ACROSS = -np.pi / 2  # the fingers open along y
SIDE = replace(front_camera(320, 240), T_base_camera=look_at((0.45, -0.9, 0.7), (0.45, 0.0, 0.05)))


def seen(*things: Thing, config: VoxelConfig = CONFIG) -> PlanningScene:
    scene = PlanningScene(config)
    show(scene, *things)
    return scene


def show(
    scene: PlanningScene, *things: Thing, at_s: float = 0.0, camera: Camera | None = None, held: Box | None = None
) -> None:
    scene.observe(depth_image(list(things), round(at_s * 1e9), camera), home_robot(), held)


def cells_of(voxels_m: F32, thing: Thing, grow_m: float = 0.011) -> int:
    """Number of cells in a box."""
    low, high = (np.array(thing.centre_m) + s * (np.array(thing.size_m) / 2 + grow_m) for s in (-1, 1))
    return int(((voxels_m > low) & (voxels_m < high)).all(axis=1).sum())


def id_of(scene: PlanningScene, thing: Thing) -> int:
    """The instance that most cells in a box belong to."""
    low, high = (np.array(thing.centre_m) + s * np.array(thing.size_m) / 2 for s in (-1, 1))
    return int(np.bincount(scene.ids[((scene.voxels_m > low) & (scene.voxels_m < high)).all(axis=1)]).argmax())


def test_cells_have_numbers_and_columns_are_consecutive() -> None:
    grid = Grid(0.01)
    points = np.random.default_rng(0).uniform([-0.19, -0.99, -0.04], [1.19, 0.99, 1.29], (500, 3)).astype(np.float32)
    centres = grid.centres(grid.keys(points))
    assert np.abs(centres - points).max() <= 0.005001
    np.testing.assert_array_equal(grid.keys(centres), grid.keys(points))
    np.testing.assert_allclose(grid.centres(grid.keys(centres) + 1) - centres, [[0, 0, 0.01]] * 500, atol=1e-5)


def test_voxels_cover_a_block_and_nothing_else() -> None:
    voxels, edge = seen(BLOCK).voxels_m, CONFIG.size_m
    low, high = np.array([0.47, 0.07, 0.0]), np.array([0.53, 0.13, 0.06])
    assert ((voxels > low - edge) & (voxels < high + edge)).all()
    inner = np.stack(np.meshgrid(*[np.arange(a + edge / 2, b, edge) for a, b in zip(low, high, strict=True)]), -1)
    for point in inner.reshape(-1, 3):
        assert np.abs(voxels - point).max(axis=1).min() < 0.75 * edge, point  # columns reach the hidden side


def test_an_empty_table_has_no_voxels_even_with_noise_and_holes() -> None:
    frame = Scene([]).render(front_camera(), noise_m=0.002)[0]
    holes = np.where(np.random.default_rng(0).random(frame.depth_m.shape) < 0.1, np.nan, frame.depth_m)
    scene = PlanningScene(CONFIG)
    scene.observe(RgbdFrame(frame.rgb, holes.astype(np.float32), frame.camera, 0), home_robot())
    assert len(scene.voxels_m) < 5


@pytest.mark.parametrize("unknown", ["free", "column", "occupied"])
def test_an_image_without_depth_has_no_obstacles(unknown: str) -> None:
    frame = depth_image([])
    scene = PlanningScene(VoxelConfig(unknown=unknown))
    scene.observe(RgbdFrame(frame.rgb, np.full_like(frame.depth_m, np.nan), frame.camera, 0), home_robot())
    assert scene.voxels_m.shape == (0, 3)
    assert scene.world((tool_down([0.5, 0.1, 0.02], ACROSS),)).voxels_m.shape == (0, 3)


def test_the_arm_itself_is_no_obstacle() -> None:
    """Boxes drawn exactly where hand and forearm are: all their points go."""
    poses = link_poses(HOME_Q_RAD, 0.08)
    hand, elbow = poses["panda_hand"][:3, 3], poses["panda_link4"][:3, 3]
    scene = seen(box(*hand, 0.04, 0.15, 0.04), box(*elbow, 0.06, 0.06, 0.06), BLOCK)
    assert len(scene.voxels_m)
    assert (scene.voxels_m[:, 2] < 0.07).all()
    assert np.isinf(robot_distance(scene.voxels_m, HOME_Q_RAD, 0.08, CONFIG.self_margin_m)).all()


def test_what_is_between_the_fingers_and_what_is_known_to_be_held_is_no_obstacle() -> None:
    """A bar that sticks out far beyond the fingers."""
    T = tool_down([0.5, 0.1, 0.2], ACROSS)
    robot = home_robot(0.04, ik.solve(T, HOME_Q_RAD[None])[0])
    bar = box(*T[:3, 3], 0.16, 0.04, 0.04)
    held = Box(np.eye(4), np.array([0.16, 0.04, 0.04]))
    scene = PlanningScene(CONFIG)
    scene.observe(depth_image([bar, BLOCK]), robot)
    assert (scene.voxels_m[:, 2] > 0.15).any(), "the ends of the bar"
    scene.clear()
    scene.observe(depth_image([bar, BLOCK]), robot, held)
    assert len(scene.voxels_m)
    assert (scene.voxels_m[:, 2] < 0.07).all()


def test_lone_points_are_noise_and_columns_are_filled() -> None:
    tower = np.tile([[0.505, 0.105, 0.055]], (5, 1)).astype(np.float32)
    lone = np.array([[0.3, 0.3, 0.5]], dtype=np.float32)
    surface = Surface(
        np.concatenate([tower, lone]), np.full(6, 1e-5, np.float32), np.array([0, 0, 3, 3, 3, 0], np.int32)
    )  # a tenth of a voxel's face each
    grid = Grid(0.01)
    keys, labels = seen_cells(surface, grid, 0.3)
    np.testing.assert_allclose(grid.centres(keys), [[0.505, 0.105, 0.055]], atol=1e-6)
    assert labels.tolist() == [3], "points of an instance count more than those of none"
    below, of = columns_below(keys, SupportPlane(), grid)
    np.testing.assert_allclose(np.sort(grid.centres(below)[:, 2]), np.arange(5) * 0.01 + 0.005, atol=1e-6)
    assert (of == 0).all()
    assert len(columns_below(keys, SupportPlane(c=0.03), grid)[0]) == 2, "not below the table"


@pytest.mark.parametrize("width", [320, 640, 1280])
def test_resolution_does_not_matter(width: int) -> None:
    scene = PlanningScene(CONFIG)
    scene.observe(depth_image([BLOCK], camera=front_camera(width, width * 3 // 4)), home_robot())
    assert 200 <= len(scene.voxels_m) <= 450  # 6 x 6 x 6 and what the edges touch


@pytest.mark.parametrize("gap_m", [0.01, 0.02])
@pytest.mark.parametrize("unknown", ["free", "column", "occupied"])
def test_the_target_may_be_touched_and_its_neighbour_may_not(gap_m: float, unknown: str) -> None:
    """Part of the neighbour is as close to the tool as the target is."""
    neighbour = box(0.5, 0.1 + 0.02 + gap_m + 0.01, 0.03, 0.04, 0.02, 0.06)
    scene = seen(TARGET, neighbour, config=VoxelConfig(unknown=unknown))
    T = tool_down([0.5, 0.1, 0.02], ACROSS)
    near = np.linalg.norm(scene.voxels_m - T[:3, 3], axis=1) < CONFIG.target_radius_m
    if gap_m < 0.02:
        assert (near & (scene.ids == id_of(scene, neighbour))).sum() > 3, "a radius alone would take some of it"
    left = scene.world(touched=(T,)).voxels_m
    assert cells_of(left, TARGET, 0.0) == 0
    assert cells_of(left, neighbour, 0.0) == cells_of(scene.voxels_m, neighbour, 0.0) > 3


def test_far_parts_of_what_is_touched_stay_obstacles() -> None:
    long = box(0.5, 0.1, 0.02, 0.04, 0.30, 0.04)
    scene = seen(long)
    left = scene.world(touched=(tool_down([0.5, 0.1, 0.02], ACROSS),)).voxels_m
    assert cells_of(left, box(0.5, 0.1, 0.02, 0.03, 0.03, 0.03), 0.0) == 0
    assert cells_of(left, box(0.5, 0.2, 0.02, 0.04, 0.06, 0.04), 0.0) > 30


def test_a_thing_too_small_for_an_instance_may_be_touched() -> None:
    crumb = box(0.5, 0.1, 0.01, 0.012, 0.012, 0.02)
    scene = seen(crumb)
    assert len(scene.voxels_m)
    assert cells_of(scene.world(touched=(tool_down([0.5, 0.1, 0.01], ACROSS),)).voxels_m, crumb) == 0


def test_the_end_of_the_path_tells_what_is_touched() -> None:
    """The keypose misses the target by 3 cm; the path ends on it."""
    scene = seen(TARGET)
    T = tool_down([0.5, 0.135, 0.02], ACROSS)
    before = cells_of(scene.world(touched=(T,)).voxels_m, TARGET)
    assert before == cells_of(scene.voxels_m, TARGET)
    end = np.array([0.5, 0.11, 0.04])
    assert cells_of(scene.world(touched=(T,), ends_m=(end,)).voxels_m, TARGET) < before
    far = np.array([0.5, 0.08, 0.04])
    assert cells_of(scene.world(touched=(T,), ends_m=(far,)).voxels_m, TARGET) == before, "an end elsewhere"


WALL = box(0.6, 0.0, 0.1, 0.02, 0.30, 0.20)
BEHIND = box(0.5, 0.0, 0.04, 0.08, 0.20, 0.06)  # nothing is there; the camera is at x = 1.2, z = 0.7


def test_what_is_hidden_is_treated_as_the_setting_says() -> None:
    counts = {
        unknown: cells_of(seen(WALL, config=VoxelConfig(unknown=unknown)).voxels_m, BEHIND, 0.0)
        for unknown in ("free", "column", "occupied")
    }
    assert counts["free"] == counts["column"] == 0
    assert counts["occupied"] > 0.9 * (8 * 20 * 6)
    for unknown in ("column", "occupied"):
        solid = cells_of(seen(WALL, config=VoxelConfig(unknown=unknown)).voxels_m, WALL, 0.0)
        assert solid > 0.9 * (2 * 30 * 20), "the wall itself"


def test_hidden_space_ends_at_the_table_and_at_the_arm() -> None:
    scene = seen(WALL, box(0.35, 0.0, 0.3, 0.3, 0.3, 0.02), config=VoxelConfig(unknown="occupied"))
    assert scene.voxels_m[:, 2].min() > -0.011
    assert np.isinf(robot_distance(scene.voxels_m, HOME_Q_RAD, 0.08, CONFIG.self_margin_m)).all()


def test_a_second_camera_sees_what_the_first_cannot() -> None:
    config = VoxelConfig(unknown="occupied")
    scene = seen(WALL, config=config)
    show(scene, WALL, at_s=0.1, camera=SIDE)
    assert cells_of(scene.voxels_m, BEHIND, 0.0) < 0.02 * (8 * 20 * 6)
    show(scene, WALL, at_s=0.2)
    assert cells_of(scene.voxels_m, BEHIND, 0.0) < 0.02 * (8 * 20 * 6), "still known, now that the first looks again"
    show(scene, WALL, at_s=0.2 + config.memory_s + 1)
    assert cells_of(scene.voxels_m, BEHIND, 0.0) > 0.9 * (8 * 20 * 6), "known no longer"


def test_what_an_old_image_saw_to_be_free_is_not_free_inside_a_new_object() -> None:
    scene = seen()
    show(scene, BLOCK, at_s=1.0)
    assert cells_of(scene.voxels_m, BLOCK, 0.0) >= 5 * 6 * 6


def test_below_a_shelf_it_is_free_where_the_camera_sees_through() -> None:
    shelf = box(0.5, 0.0, 0.25, 0.2, 0.4, 0.02)
    scene = seen(shelf)
    assert cells_of(scene.voxels_m, shelf, 0.0) > 0.8 * (20 * 40 * 2)
    assert cells_of(scene.voxels_m, box(0.57, 0.0, 0.08, 0.04, 0.3, 0.06), 0.0) == 0, "seen from the front"
    assert cells_of(scene.voxels_m, box(0.42, 0.0, 0.15, 0.02, 0.2, 0.06), 0.0) > 0, "hidden by the board"


def test_what_moved_is_gone_at_once_and_what_is_hidden_fades() -> None:
    scene = seen(BLOCK)
    moved = box(0.5, -0.2, 0.03, 0.06, 0.06, 0.06)
    show(scene, moved, at_s=1.0)
    assert cells_of(scene.voxels_m, BLOCK) == 0
    assert cells_of(scene.voxels_m, moved) > 200
    screen = box(0.75, -0.2, 0.2, 0.02, 0.4, 0.4)
    hidden = box(0.5, -0.2, 0.03, 0.06, 0.06, 0.06)
    show(scene, screen, at_s=2.0)
    assert cells_of(scene.voxels_m, hidden) > 200, "still remembered"
    show(scene, screen, at_s=1.0 + CONFIG.memory_s - 0.1)
    assert cells_of(scene.voxels_m, hidden) > 200
    show(scene, screen, at_s=1.0 + CONFIG.memory_s + 0.1)
    assert cells_of(scene.voxels_m, hidden) == 0


def test_what_moved_takes_its_hidden_cells_along() -> None:
    """A plate that slides away below a screen which hides one end of its old place."""
    plate = box(0.5, 0.0, 0.01, 0.12, 0.20, 0.02)
    scene = seen(plate)
    screen = box(0.72, 0.08, 0.15, 0.02, 0.06, 0.30)
    hidden = box(0.5, 0.06, 0.01, 0.10, 0.04, 0.02)
    show(scene, plate, screen, at_s=1.0)
    assert cells_of(scene.voxels_m, hidden, 0.0) > 20, "still there, though hidden"
    show(scene, box(0.5, -0.3, 0.01, 0.12, 0.20, 0.02), screen, at_s=2.0)
    assert cells_of(scene.voxels_m, hidden, 0.0) == 0


def test_without_memory_only_the_image_counts() -> None:
    config = VoxelConfig(memory_s=0.0)
    scene = seen(BLOCK, config=config)
    show(scene, box(0.75, 0.1, 0.2, 0.02, 0.4, 0.4), at_s=0.1)
    assert cells_of(scene.voxels_m, BLOCK) == 0


def test_a_clock_set_back_clears_the_scene_and_a_little_disorder_does_not() -> None:
    scene = PlanningScene(CONFIG)
    show(scene, BLOCK, at_s=10.0)
    screen = box(0.75, 0.1, 0.2, 0.02, 0.4, 0.4)
    show(scene, screen, at_s=9.9)
    assert cells_of(scene.voxels_m, BLOCK) > 200
    show(scene, screen, at_s=2.0)
    assert cells_of(scene.voxels_m, BLOCK) == 0


def test_instances_keep_their_ids_in_place() -> None:
    things = [TARGET, box(0.5, -0.2, 0.02, 0.04, 0.04, 0.04), box(0.62, 0.2, 0.02, 0.04, 0.04, 0.04)]
    scene = seen(*things)
    ids = [id_of(scene, thing) for thing in things]
    assert len(set(ids)) == 3
    assert 0 not in ids
    moved = box(0.4, 0.25, 0.02, 0.04, 0.04, 0.04)
    show(scene, things[0], things[2], moved, at_s=1.0)
    assert [id_of(scene, thing) for thing in (things[0], things[2])] == [ids[0], ids[2]]
    assert id_of(scene, moved) not in ids


def hidden_by_hand(frame: RgbdFrame, thing: Thing) -> RgbdFrame:
    """The frame without depth where an object is, as if the hand were in front of it."""
    only, _ = Scene([thing]).render(frame.camera)
    empty, _ = Scene([]).render(frame.camera)
    depth = np.where(only.depth_m < empty.depth_m - 1e-4, np.float32(np.nan), frame.depth_m)
    return RgbdFrame(frame.rgb, depth, frame.camera, frame.stamp_ns)


def test_a_target_hidden_by_the_hand_is_remembered_and_may_be_touched() -> None:
    neighbour = box(0.5, 0.16, 0.03, 0.04, 0.02, 0.06)
    scene = seen(TARGET, neighbour)
    scene.observe(hidden_by_hand(depth_image([TARGET, neighbour], 1_000_000_000), TARGET), home_robot())
    assert cells_of(scene.voxels_m, TARGET, 0.0) > 30
    left = scene.world(touched=(tool_down([0.5, 0.1, 0.02], ACROSS),)).voxels_m
    assert cells_of(left, TARGET, 0.0) == 0
    assert cells_of(left, neighbour) == cells_of(scene.voxels_m, neighbour)


def test_worlds_are_made_once_and_share_their_voxels() -> None:
    scene = seen(TARGET, BLOCK)
    T = tool_down([0.5, 0.1, 0.02], ACROSS)
    held = Box(np.eye(4), np.full(3, 0.04))
    assert scene.world(touched=(T,)) is scene.world(touched=(T.copy(),))
    assert scene.world(touched=(T,)) is not scene.world(left=(T,))
    assert np.shares_memory(scene.world(held=held).voxels_m, scene.world().voxels_m)
    before = scene.world()
    show(scene, BLOCK, at_s=1.0)
    assert scene.world() is not before


def put(T: F64, size_m: float = 0.04) -> tuple[Box, F64]:
    return Box(pose(np.eye(3), [0.0, 0.0, 0.0]), np.full(3, size_m)), T


def test_what_the_held_object_is_put_on_may_be_touched_and_what_it_is_put_beside_may_not() -> None:
    support = box(0.5, 0.1, 0.02, 0.04, 0.04, 0.04)
    beside = box(0.5, 0.1 + 0.02 + 0.011 + 0.02, 0.05, 0.04, 0.04, 0.10)
    scene = seen(support, beside)
    held, T = put(tool_down([0.5, 0.1, 0.062], ACROSS))
    left = scene.world(touched=(T,), held=held).voxels_m
    assert not in_box(left, T, held.size_m).any(), "room for the held object"
    assert cells_of(left, box(0.5, 0.1, 0.035, 0.03, 0.03, 0.01), 0.0) == 0, "it may touch what it stands on"
    kept, were = cells_of(left, beside, 0.0), cells_of(scene.voxels_m, beside, 0.0)
    assert kept == were > 100
    assert scene.world(held=held).held is held


def test_walls_of_a_container_stay_obstacles() -> None:
    """A held block is put into a tray with walls 8 cm high: one instance."""
    walls = [box(0.5 + dx, 0.1 + dy, 0.04, *size) for dx, dy, size in (
        (0.09, 0.0, (0.02, 0.2, 0.08)), (-0.09, 0.0, (0.02, 0.2, 0.08)),
        (0.0, 0.09, (0.2, 0.02, 0.08)), (0.0, -0.09, (0.2, 0.02, 0.08)),
    )]  # fmt: skip
    scene = seen(box(0.5, 0.1, 0.01, 0.2, 0.2, 0.02), *walls, config=VoxelConfig(unknown="free"))
    held, T = put(tool_down([0.5, 0.1, 0.042], ACROSS))
    left = scene.world(touched=(T,), held=held).voxels_m
    assert cells_of(left, box(0.5, 0.1, 0.02, 0.04, 0.04, 0.02), 0.0) == 0, "the floor"
    for wall in walls:
        assert cells_of(left, wall, 0.005) == cells_of(scene.voxels_m, wall, 0.005) > 20


@pytest.mark.parametrize("yaw", [ACROSS, ACROSS + 0.3])
def test_a_grasped_instance_is_attached_with_its_whole_shape(yaw: float) -> None:
    """A bar 16 x 4 x 4 cm held across its middle; another block 1.5 cm beside its end is not taken along."""
    along = yaw + np.pi / 2
    place = [np.array([0.5, 0.1]) + d * np.array([np.cos(along), np.sin(along)]) for d in (0.0, 0.115)]
    bar = box(*place[0], 0.02, 0.16, 0.04, 0.04, along)
    other = box(*place[1], 0.02, 0.04, 0.04, 0.04, along)
    scene = seen(bar, other)
    T = tool_down([*place[0], 0.025], yaw)
    held = scene.take(T, 0.04)
    assert held.size_m[0] == pytest.approx(0.16, abs=0.012)
    assert held.size_m[1] == pytest.approx(0.04, abs=0.008)
    assert held.T_frame_box[0, 3] == pytest.approx(0.0, abs=0.008)
    top, bottom = (held.T_frame_box[2, 3] + s * held.size_m[2] / 2 for s in (-1, 1))
    assert top == pytest.approx(-0.015, abs=0.006)
    assert 0.008 < bottom < 0.025  # not into the table
    assert not in_box(scene.voxels_m, T @ held.T_frame_box, held.size_m - 0.02).any()
    assert cells_of(scene.voxels_m, box(*place[1], 0.02, 0.02, 0.02, 0.03), 0.0) > 3


@pytest.mark.parametrize("unknown", ["column", "occupied"])
def test_a_grasped_instance_that_the_hand_hides_has_its_remembered_shape(unknown: str) -> None:
    """The last image shows only one end of a bar; its shadow is not part of it."""
    bar = box(0.5, 0.1, 0.02, 0.04, 0.16, 0.04)
    scene = seen(bar, config=VoxelConfig(unknown=unknown))
    frame = hidden_by_hand(depth_image([bar], 1_000_000_000), box(0.5, 0.08, 0.02, 0.04, 0.12, 0.04))
    scene.observe(frame, home_robot())
    held = scene.take(tool_down([0.5, 0.1, 0.025], 0.0), 0.04)
    assert held.size_m[0] == pytest.approx(0.16, abs=0.012)
    assert held.size_m[1] == pytest.approx(0.04, abs=0.012)
    assert len(scene.voxels_m) == 0


def test_a_body_wider_than_the_grip_is_attached_too() -> None:
    """A bottle held at its neck."""
    body, neck = box(0.5, 0.1, 0.05, 0.08, 0.08, 0.10), box(0.5, 0.1, 0.12, 0.03, 0.03, 0.04)
    scene = seen(body, neck)
    held = scene.take(tool_down([0.5, 0.1, 0.115], ACROSS), 0.03)
    assert held.T_frame_box[2, 3] + held.size_m[2] / 2 > 0.09
    assert (held.size_m[:2] > 0.07).all()


def test_a_grasp_of_what_was_never_seen_is_what_the_fingers_tell() -> None:
    for measured in (
        held_box(np.zeros((0, 3), np.float32), tool_down([0.5, 0.1, 0.03], 0.0), 0.03),
        seen().take(tool_down([0.5, 0.1, 0.03], 0.0), 0.03),
    ):
        np.testing.assert_allclose(measured.size_m[:2], [0.03, 0.03])
        assert 0 < measured.size_m[2] < 0.03


def test_what_is_held_leaves_no_shadow_of_itself() -> None:
    """After a grasp nothing of the object is remembered where it was, and it is filtered where the hand carries it."""
    scene = seen(TARGET)
    held = scene.take(tool_down([0.5, 0.1, 0.02], ACROSS), 0.04)
    assert cells_of(scene.voxels_m, TARGET) == 0
    show(scene, at_s=1.0, held=held)
    assert len(scene.voxels_m) == 0


def test_many_images_of_one_camera_do_not_displace_another_view() -> None:
    """What the side camera saw to be free behind a wall stays free while the front camera looks twice per second."""
    wall = box(0.5, 0.0, 0.1, 0.02, 0.3, 0.2)
    scene = PlanningScene(VoxelConfig(unknown="occupied"))
    show(scene, wall, at_s=0.0, camera=SIDE)
    show(scene, wall, at_s=0.5)
    free = len(scene.voxels_m)
    for i in range(2, 19):
        show(scene, wall, at_s=0.5 * i)
    assert len(scene.voxels_m) == free
    alone = PlanningScene(VoxelConfig(unknown="occupied"))
    show(alone, wall)
    assert len(alone.voxels_m) > 1.5 * free


def test_what_the_arm_passes_close_by_stays_where_it_is_not() -> None:
    """A post 1 cm beside the hand, seen before and hidden now: forgotten only where a motion begins."""
    T = tool_down([0.5, 0.1, 0.12], ACROSS)
    robot = home_robot(0.08, ik.solve(T, HOME_Q_RAD[None])[0])
    post = box(0.5 + 0.045, 0.1, 0.1, 0.02, 0.02, 0.2)
    blind = depth_image([], 10**9)
    blind = RgbdFrame(blind.rgb, np.full_like(blind.depth_m, np.nan), blind.camera, 10**9)
    scene = seen(post)
    before = len(scene.voxels_m)
    scene.observe(blind, robot, passing=True)
    passed = len(scene.voxels_m)
    scene.observe(blind, robot)
    assert before == passed > len(scene.voxels_m)


def column(low_m: float, high_m: float) -> np.ndarray:
    """(N, 3) points of an upright rod below the tool at (0.5, 0, 0.3), from one height to another."""
    z = np.arange(low_m, high_m, 0.002)
    return np.stack([np.full_like(z, 0.505), np.zeros_like(z), z], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("points", "bottom_m"),
    [
        (column(0.25, 0.31), 0.05 - 0.004),  # a base hangs below what was seen before
        (column(0.284, 0.31), 0.02),  # no more than was seen
        (np.concatenate([column(0.25, 0.31), column(0.10, 0.20)]), 0.05 - 0.004),  # what stands below is another thing
        (column(0.02, 0.31), 0.09),  # it reaches no lower than the table at its grasp
    ],
)
def test_a_part_that_was_hidden_before_the_lift_belongs_to_the_held_object(points: np.ndarray, bottom_m: float) -> None:
    T = tool_down([0.5, 0.0, 0.3], 0.0)
    held = Box(pose(np.eye(3), [0.0, 0.0, 0.0]), np.array([0.06, 0.06, 0.04]))
    found = with_hidden_part(held, points, T, deepest_m=0.09)
    assert found.T_frame_box[2, 3] + found.size_m[2] / 2 == pytest.approx(bottom_m, abs=0.003)
    assert found.T_frame_box[2, 3] - found.size_m[2] / 2 == pytest.approx(-0.02)
