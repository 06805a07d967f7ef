"""Images of the tripod camera are metrically right, and masks and depth show the same instant."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from stvla_ros.sim.camera import TripodCameraConfig, look_at, make_camera
from stvla_ros.sim.cell import Cell, CellConfig, CellTruth
from stvla_ros.sim.objects import BLOCK_M, Bottle
from stvla_ros.sim.sensor import SensorConfig
from stvla_ros.sim.tasks import make_task
from stvla_ros.sim.tasks.pick_place import PickPlace
from stvla_ros.types import F64, RgbdFrame


def points(frame: RgbdFrame) -> F64:
    """(H, W, 3) of every pixel in the base frame."""
    v, u = np.mgrid[: frame.camera.height_px, : frame.camera.width_px]
    ray = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(frame.camera.K).T
    T = frame.camera.T_base_camera
    return (ray * frame.depth_m[..., None].astype(np.float64)) @ T[:3, :3].T + T[:3, 3]


def project(frame: RgbdFrame, xyz: F64) -> F64:
    p = np.linalg.inv(frame.camera.T_base_camera) @ np.append(xyz, 1.0)
    uvw = frame.camera.K @ p[:3]
    return uvw[:2] / uvw[2]


@pytest.fixture(scope="module")
def scene(cell: Cell) -> tuple[RgbdFrame, CellTruth]:
    cell.reset("stack_cube", 11)
    return cell.render(), cell.truth()


def test_table_is_the_plane_z_zero(scene: tuple[RgbdFrame, CellTruth]) -> None:
    frame, truth = scene
    xyz = points(frame)
    table = (truth.labels == 0) & (np.abs(xyz[..., 0] - 0.5) < 0.2) & (np.abs(xyz[..., 1]) < 0.4)
    assert table.sum() > 50_000
    assert np.abs(xyz[table][:, 2]).max() < 0.001


def test_blocks_are_where_and_as_large_as_they_are(scene: tuple[RgbdFrame, CellTruth]) -> None:
    frame, truth = scene
    xyz = points(frame)
    for label, name in enumerate(truth.names, 1):
        mask = truth.labels == label
        assert mask.sum() > 300, f"{name} is hidden"
        centre = truth.T_base_object[name][:3, 3]
        local = (xyz[mask] - centre) @ truth.T_base_object[name][:3, :3]
        assert np.abs(local).max() < BLOCK_M / 2 + 0.001
        u, v = np.rint(project(frame, centre)).astype(int)
        assert truth.labels[v, u] == label


def test_colour_of_upper_faces_is_the_named_one(cell: Cell) -> None:
    from stvla_ros.colours import COLOURS

    for seed in range(4):
        cell.reset("stack_cube", seed)
        frame, truth = cell.render(), cell.truth()
        xyz = points(frame)
        for label, name in enumerate(truth.names, 1):
            top = (truth.labels == label) & (xyz[..., 2] > BLOCK_M - 0.0005)
            wanted = np.array(COLOURS[name.removesuffix("_block")])
            assert np.abs(frame.rgb[top].mean(axis=0) / 255 - wanted).max() < 0.06


def test_workspace_and_the_hand_at_home_are_in_view(scene: tuple[RgbdFrame, CellTruth], cell: Cell) -> None:
    frame, truth = scene
    for x in (0.30, 0.65):
        for y in (-0.30, 0.30):
            u, v = project(frame, np.array([x, y, 0.0]))
            assert 10 < u < 630
            assert 10 < v < 470
    u, v = np.rint(project(frame, cell.state().T_base_tcp[:3, 3])).astype(int)
    assert 40 < v < 240
    assert (truth.labels[v - 40 : v, u - 40 : u + 40] == -1).any()
    for x in np.linspace(0.30, 0.65, 15):
        for y in np.linspace(-0.30, 0.30, 25):
            u, v = np.rint(project(frame, np.array([x, y, 0.0]))).astype(int)
            assert truth.labels[v, u] != -1, "the arm at home covers the workspace"


def test_depth_beyond_the_range_is_nan_and_the_rest_positive(scene: tuple[RgbdFrame, CellTruth]) -> None:
    depth = scene[0].depth_m
    assert np.isnan(depth[:20]).any()
    assert np.nanmin(depth) > 0.3
    assert np.nanmax(depth) <= CellConfig().sensor.max_range_m


def test_images_repeat_exactly(cell: Cell) -> None:
    cell.reset("push_buttons", 4)
    a, b = cell.render(), cell.render()
    assert np.array_equal(a.rgb, b.rgb)
    assert np.array_equal(a.depth_m, b.depth_m, equal_nan=True)
    assert a.stamp_ns == b.stamp_ns == cell.time_ns


def test_third_view_has_its_own_size(cell: Cell) -> None:
    image = cell.render_third()
    assert image.shape == (cell.config.third.height_px, cell.config.third.width_px, 3)
    assert image.std() > 20


def test_optical_frame_looks_at_its_target_with_a_level_horizon() -> None:
    config = TripodCameraConfig()
    T = look_at(config)
    assert np.allclose(T[:3, :3].T @ T[:3, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1.0)
    assert T[2, 0] == pytest.approx(0.0)
    assert T[2, 1] < 0, "y of the optical frame points down"
    target = np.array([config.target_x_m, config.target_y_m, config.target_z_m, 1.0])
    seen = make_camera(config).K @ (np.linalg.inv(T) @ target)[:3]
    assert seen[:2] / seen[2] == pytest.approx([319.5, 239.5])


def test_hidden_objects_leave_what_is_behind_them(cell: Cell) -> None:
    cell.reset("stack_cube", 11)
    whole, truth = cell.render(), cell.truth()
    gone, rest = truth.names[0], truth.names[1:]
    frame, labels = cell.render(hidden=[gone]), cell.truth(hidden=[gone]).labels
    was = truth.labels == 1
    assert not (labels == 1).any()
    assert np.array_equal(frame.rgb[~was], whole.rgb[~was])
    assert np.array_equal(frame.depth_m[~was], whole.depth_m[~was], equal_nan=True)
    assert np.abs(points(frame)[was & (labels == 0)][:, 2]).max() < 0.001, "behind a block is the table"
    assert {truth.names[i - 1] for i in np.unique(labels[labels > 0])} == set(rest)
    assert np.array_equal(cell.render().rgb, whole.rgb), "the cell itself keeps its objects"


def test_hiding_what_is_not_there_is_an_error(cell: Cell) -> None:
    with pytest.raises(KeyError):
        cell.render(hidden=["no_such_thing"])


def test_shadows_darken_the_table_and_go_with_their_object() -> None:
    images = {}
    for shadows in (False, True):
        made = Cell(CellConfig(camera=TripodCameraConfig(width_px=320, height_px=240, shadows=shadows)))
        made.reset("stack_cube", 11)
        hidden = made.truth().names
        images[shadows] = made.render().rgb.astype(int), made.render(hidden).rgb.astype(int), made.truth().labels
        made.close()
    table = (images[True][2] == 0) & (images[True][1] == images[False][1]).all(axis=2)  # where no shadow of the arm is
    assert np.array_equal(
        images[True][0][table] < images[False][0][table] - 20, images[True][0][table] < images[True][1][table] - 20
    )
    assert (images[False][0] - images[True][0])[table].max() > 20


def test_noise_does_not_depend_on_what_is_hidden_and_ideal_has_none() -> None:
    noisy = Cell(CellConfig(camera=TripodCameraConfig(width_px=160, height_px=120), sensor=SensorConfig(enabled=True)))
    noisy.reset("pick_place", 2)
    truth = noisy.truth()
    whole, without, ideal = noisy.render(), noisy.render(hidden=truth.names), noisy.render(ideal=True)
    noisy.close()
    far = cv2.dilate((truth.labels > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert np.array_equal(whole.rgb[far], without.rgb[far])
    assert np.array_equal(whole.depth_m[far], without.depth_m[far], equal_nan=True)
    table = far & (truth.labels == 0) & (ideal.depth_m < 1.5)
    assert np.abs(points(ideal)[table][:, 2]).max() < 0.001
    assert 0.0005 < np.nanstd((whole.depth_m - ideal.depth_m)[table]) < 0.003


def test_a_scene_of_ones_own_is_laid_with_things_beyond_the_tasks_area(cell: Cell) -> None:
    task = make_task("pick_place", 5)
    assert isinstance(task, PickPlace)
    bottle = Bottle("teal" if task.colour != "teal" else "navy", (0.4, 0.5), 0.25)
    assert cell.reset_to(replace(task, objects=(*task.objects, bottle)), 5) == task.instruction
    frame, truth = cell.render(), cell.truth()
    mask = truth.labels == len(truth.names)
    assert points(frame)[mask][:, 2].max() == pytest.approx(0.25, abs=0.002)
    behind = cell.render(hidden=[bottle.name]).depth_m[mask]
    assert np.ptp(behind) > 0.3, "the bottle stands across the table's edge on the image"


@pytest.fixture
def small() -> Iterator[Cell]:
    made = Cell(CellConfig(camera=TripodCameraConfig(width_px=160, height_px=120)))
    yield made
    made.close()


def test_physics_rendering_and_resets_run_side_by_side(small: Cell) -> None:
    def look() -> int:
        frame, truth = small.render(), small.truth()
        small.render_third()
        return frame.rgb.shape[0] + truth.labels.shape[0]

    small.reset("pick_place", 0)
    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(look) for _ in range(12)]
        turns = [pool.submit(small.advance, 0.05) for _ in range(10)]
        resets = [pool.submit(small.reset, "pick_place", seed) for seed in range(5)]
        assert all(job.result() == 240 for job in looks)
        assert [job.result() for job in turns] == [None] * len(turns)
        assert all(job.result().startswith("Put the") for job in resets)


def test_close_twice_is_fine_and_rendering_afterwards_is_refused() -> None:
    cell = Cell()
    cell.render_third()
    cell.close()
    cell.close()
    with pytest.raises(RuntimeError):
        cell.render()
