"""The hard look: everything by the seed, hollow things are hollow, and what is hidden leaves no trace."""

import pickle
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from stvla_ros.config import build
from stvla_ros.sim import LOOKS
from stvla_ros.sim.camera import TripodCameraConfig
from stvla_ros.sim.cell import Cell, CellConfig
from stvla_ros.sim.household import Cable, Carton, Finish, Household, Tub, bowl, mug
from stvla_ros.sim.looks import BASE_FREE_M, HAND_ROOM_M, dressed
from stvla_ros.sim.scene import StateRenderer
from stvla_ros.sim.tasks import TASKS, make_task
from stvla_ros.sim.things import KINDS, make_thing
from stvla_ros.sim.world import World

SMALL = {"look": "hard", "camera": {"width_px": 160, "height_px": 120}}


@pytest.fixture(scope="module")
def hard() -> Iterator[Cell]:
    cell = Cell(build(CellConfig, SMALL, "test"))
    yield cell
    cell.close()


def test_the_seed_decides_the_whole_picture(hard: Cell) -> None:
    pictures = []
    for seed in (4, 5, 4):
        hard.reset("stack_cube", seed)
        pictures.append(hard.render())
    assert np.array_equal(pictures[0].rgb, pictures[2].rgb)
    assert np.array_equal(pictures[0].depth_m, pictures[2].depth_m, equal_nan=True)
    assert (pictures[0].rgb != pictures[1].rgb).mean() > 0.8


def test_another_process_draws_the_same_pixels() -> None:
    cell = Cell(build(CellConfig, {**SMALL, "sensor": {"enabled": True, "kind": "stereo"}}, "test"))
    elsewhere = StateRenderer()
    cell.reset("pick_place", 3)
    frame, drawn = cell.render(), elsewhere.frame(pickle.loads(pickle.dumps(cell.scene_state())))
    assert np.array_equal(drawn.rgb, frame.rgb)
    assert np.array_equal(drawn.depth_m, frame.depth_m, equal_nan=True)
    elsewhere.close()
    cell.close()


def test_a_plain_cell_is_not_touched(cell: Cell) -> None:
    assert CellConfig().look == LOOKS[0] == "plain"
    cell.reset("pick_place", 3)
    assert {name.split("_")[-1] for name in cell.truth().names} <= {"block", "plate"}
    assert (cell.optics().opacity == 1.0).all()


def test_hidden_things_leave_neither_pixels_nor_shadows(hard: Cell) -> None:
    hard.reset("pick_place", 6)
    things = [name for name in hard.truth().names if "block" not in name and name != "plate"]
    bare = Cell(build(CellConfig, SMALL, "test"))
    bare.reset_to(make_task("pick_place", 6), 6)
    hidden, expected = hard.render(hidden=things), bare.render()
    bare.close()
    np.testing.assert_allclose(hidden.depth_m, expected.depth_m, atol=1e-5)
    assert (np.abs(hidden.rgb.astype(int) - expected.rgb) > 2).mean() < 0.001
    assert (np.abs(hidden.rgb.astype(int) - hard.render().rgb) > 10).mean() > 0.02


@pytest.mark.parametrize("task", TASKS)
def test_things_leave_the_hand_room_and_do_not_change_the_task(task: str) -> None:
    for seed in range(12):
        plain = make_task(task, seed)
        made = dressed(plain, seed)
        assert made.objects[: len(plain.objects)] == plain.objects
        assert made.instruction == plain.instruction
        assert len({o.name for o in made.objects}) == len(made.objects) > len(plain.objects)
        for thing in made.objects[len(plain.objects) :]:
            assert isinstance(thing, Household)
            if thing.name == "tray_below":
                continue
            assert np.hypot(*thing.xy_m) > BASE_FREE_M
            for own in plain.objects:
                gap = np.hypot(*np.subtract(thing.xy_m, own.xy_m)) - thing.clearance_m - own.clearance_m
                assert gap > HAND_ROOM_M - 1e-9


def test_every_kind_of_thing_occurs_in_the_scenes() -> None:
    names = {o.name.split("_")[0] for seed in range(60) for o in dressed(make_task("pick_place", seed), seed).objects}
    assert {kind.split("_")[0] for kind in KINDS} <= names
    assert "inside" in names


def test_now_and_then_what_the_task_is_about_stands_in_a_tray() -> None:
    scenes = [dressed(make_task("stack_cube", seed), seed).objects for seed in range(30)]
    trays = [(objects, tray) for objects in scenes for tray in objects if tray.name == "tray_below"]
    assert 4 <= len(trays) <= 24
    for objects, tray in trays:
        inside = [o for o in objects if np.hypot(*np.subtract(o.xy_m, tray.xy_m)) < tray.clearance_m and o != tray]
        assert len(inside) == 1
        assert inside[0] in objects[:2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_is_seen_where_it_stands_and_stays_there(kind: str) -> None:
    thing = make_thing(kind, "thing", np.random.default_rng(1), (0.45, 0.05))
    task = replace(make_task("stack_cube", 0, 0), objects=(thing,))
    cell = Cell(
        build(CellConfig, {"camera": {"width_px": 160, "height_px": 120, "x_m": 1.0, "target_z_m": 0.0}}, "test")
    )
    try:
        cell.reset_to(task, 0)
        surface = cell.surfaces()["thing"]
        assert surface[:, 2].min() == pytest.approx(0.0, abs=0.001)
        assert np.linalg.norm(surface[:, :2] - [0.45, 0.05], axis=1).max() <= thing.clearance_m + 0.006
        assert (cell.truth().labels == 1).sum() > 20
        assert World(cell._model, cell._data).position("thing") == pytest.approx([0.45, 0.05, 0.0])
    finally:
        cell.close()


def test_hollow_things_are_hollow_and_lit_from_inside() -> None:
    shapes = {"bowl": bowl(0.08, 0.055), "mug": mug(0.04, 0.09), "bin": Tub((0.16, 0.2, 0.08))}
    camera = TripodCameraConfig(
        width_px=320, height_px=240, x_m=0.62, z_m=0.9, target_x_m=0.45, target_z_m=0.0, fov_y_deg=25
    )
    cell = Cell(CellConfig(camera=camera))
    try:
        for name, shape in shapes.items():
            thing = Household(name, shape, Finish("paint", (0.9, 0.9, 0.9)), (0.45, 0.0))
            cell.reset_to(replace(make_task("stack_cube", 0, 0), objects=(thing,)), 0)
            frame = cell.render()
            inside = frame.depth_m[118:122, 158:162]
            rim = frame.depth_m[cell.truth().labels == 1].min()
            assert inside.min() - rim > 0.03, name
            assert frame.rgb[118:122, 158:162].min() > 60, name
            middle = [box for box in shape.hulls() if np.hypot(*box.centre_m[:2]) < 0.02]
            assert not middle, name
    finally:
        cell.close()


def test_shapes_have_the_sizes_that_are_asked_for() -> None:
    high = Carton((0.05, 0.07, 0.12)).mesh().vertices_m
    np.testing.assert_allclose(np.ptp(high, axis=0), [0.05, 0.07, 0.12])
    line = Cable(0.4, 0.006, 3).mesh().vertices_m
    assert line[:, 2].max() == pytest.approx(0.006, rel=0.05)
    round_ = bowl(0.07, 0.05).mesh().vertices_m
    assert round_[:, 2].max() == pytest.approx(0.05)
    assert np.hypot(*round_.T[:2]).max() == pytest.approx(0.074, abs=0.001)


@pytest.mark.parametrize("shape", [bowl(0.07, 0.05), mug(0.04, 0.09), Tub((0.1, 0.2, 0.05)), Carton((0.1, 0.1, 0.1))])
def test_faces_look_outwards(shape: object) -> None:
    mesh = shape.mesh() if not getattr(shape, "handle_m", 0.0) else replace(shape, handle_m=0.0).mesh()
    a, b, c = mesh.vertices_m[mesh.faces].transpose(1, 0, 2)
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert volume > 0.0
