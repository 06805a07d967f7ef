"""Scene and camera moved together change nothing: paths move along, pictures stay."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_plans import PICK_TO_PLATE, make_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_caster import Box, Scene, block, front_camera, home_robot, plate

from stvla_ros.geometry.cameras import project, px_to_uv, uv_to_px
from stvla_ros.geometry.paths import distance, resample
from stvla_ros.geometry.se3 import pose, rotation_z
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.perception.lift import LiftConfig, lift
from stvla_ros.perception.overlay import draw_trace
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import RgbdFrame, RobotState, Segments, TracePlan

ANYWHERE = LiftConfig(x_min_m=-20.0, x_max_m=20.0, y_max_m=20.0, z_max_m=20.0)
THINGS = [block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22)]
WALL = Box((0.5, 0.0, 0.17), (0.06, 0.5, 0.34), 0.0, (0.6, 0.6, 0.62))
FRAME, _ = Scene(list(THINGS)).render(front_camera(320, 240), noise_m=0.001)
WALLED, _ = Scene([WALL, block("red", 0.7, -0.3)]).render(front_camera(320, 240), noise_m=0.001)
CROWD, CROWD_IDS = Scene([*THINGS, block("blue", 0.65, 0.0), block("green", 0.4, 0.28)]).render(
    front_camera(320, 240), noise_m=0.001
)
ANYWHERE_MASKED = GuideConfig(mode="mask_only", lift=ANYWHERE)
EXAMPLES = settings(deadline=None, max_examples=15)
YAW, SHIFT = st.floats(-np.pi, np.pi), st.floats(-0.5, 0.5)


def drawn(points_m: np.ndarray, frame: RgbdFrame) -> TracePlan:
    px, depth = project(frame.camera, points_m)
    return make_plan(px_to_uv(px, frame.camera), depth - start_depth(frame, px[0]))


def moved(frame: RgbdFrame, G: np.ndarray) -> RgbdFrame:
    """The same image, taken where everything was moved by G in the base frame."""
    return replace(frame, camera=replace(frame.camera, T_base_camera=G @ frame.camera.T_base_camera))


def at(G: np.ndarray, points_m: np.ndarray) -> np.ndarray:
    return points_m @ G[:3, :3].T + G[:3, 3]


LOW = PICK_TO_PLATE - [0.0, 0.0, 0.045]
INSIDE = resample(
    np.array([[0.7, -0.3, 0.03], [0.7, -0.2, 0.12], [0.51, -0.1, 0.12], [0.51, 0.1, 0.12], [0.7, 0.2, 0.12]]), 8
)


@EXAMPLES
@given(YAW, SHIFT, SHIFT, st.sampled_from(["plain", "low", "wall"]))
def test_a_motion_in_the_plane_of_the_table_moves_the_path_along(yaw: float, x: float, y: float, kind: str) -> None:
    """Repairs at the table and at a wall included."""
    frame = WALLED if kind == "wall" else FRAME
    plan = drawn({"plain": PICK_TO_PLATE, "low": LOW, "wall": INSIDE}[kind], frame)
    G = pose(rotation_z(yaw), (x, y, 0.0))
    here, there = lift(plan, frame, ANYWHERE), lift(plan, moved(frame, G), ANYWHERE)
    np.testing.assert_allclose(there.xyz_m, at(G, here.xyz_m), atol=2e-6)
    np.testing.assert_array_equal(there.source, here.source)
    assert len(there.notes) == len(here.notes) == (kind != "plain")


class TrueMasks:
    """A segmenter that knows what the ray caster drew."""

    def segment(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        return Segments(CROWD_IDS, tuple(range(1, int(CROWD_IDS.max()) + 1)))

    def refresh(self) -> None:
        pass


@settings(deadline=None, max_examples=8)
@given(YAW, SHIFT, SHIFT)
def test_the_guide_decides_and_fills_alike_wherever_the_scene_stands(yaw: float, x: float, y: float) -> None:
    G = pose(rotation_z(yaw), (x, y, 0.0))
    here, there = (
        guide.guide(guide.lift(drawn(PICK_TO_PLATE, CROWD), frame), frame, home_robot())
        for guide, frame in ((SpatialGuide(TrueMasks(), ANYWHERE_MASKED), f) for f in (CROWD, moved(CROWD, G)))
    )
    assert (there.kept_ids, there.removed_ids) == (here.kept_ids, here.removed_ids) == ((1, 2), (3, 4))
    assert np.abs(there.frame.rgb.astype(int) - here.frame.rgb).max() <= 1
    np.testing.assert_allclose(there.frame.depth_m, here.frame.depth_m, atol=2e-5)


def rotation(q: tuple[float, float, float, float]) -> np.ndarray:
    x, y, z, w = np.array(q) / np.linalg.norm(q)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * skew + 2 * skew @ skew


QUATERNION = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)


@EXAMPLES
@given(QUATERNION, st.tuples(SHIFT, SHIFT, SHIFT))
def test_far_from_the_table_any_rigid_motion_does(q: tuple[float, ...], shift: tuple[float, ...]) -> None:
    plan = drawn(PICK_TO_PLATE, FRAME)
    x, y, z = shift
    G = pose(rotation(q), (x, y, 6.0 + z))  # type: ignore[arg-type]
    here, there = lift(plan, FRAME, ANYWHERE), lift(plan, moved(FRAME, G), ANYWHERE)
    np.testing.assert_allclose(there.xyz_m, at(G, here.xyz_m), atol=5e-6)
    np.testing.assert_array_equal(there.source, here.source)


@EXAMPLES
@given(YAW, SHIFT, SHIFT)
def test_the_picture_stays(yaw: float, x: float, y: float) -> None:
    G = pose(rotation_z(yaw), (x, y, 0.0))
    there = moved(FRAME, G)
    plan = drawn(PICK_TO_PLATE, FRAME)
    pictures = [
        draw_trace(f.rgb, lift(plan, f, ANYWHERE), f.camera, depth_m=f.depth_m, progress_m=0.1).astype(int)
        for f in (FRAME, there)
    ]
    changed = np.abs(pictures[0] - pictures[1]).max(axis=2)
    assert (changed > 12).sum() <= 4, "but for rounding at a sixteenth of a pixel"


@EXAMPLES
@given(st.integers(0, 10_000))
def test_lifting_what_was_projected_gives_it_back(seed: int) -> None:
    """Any path that starts on the block and then stays above everything, but for its rounded corners."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([0.25, -0.3, 0.08], [0.65, 0.3, 0.3], (8, 3))
    points[0] = PICK_TO_PLATE[0]
    trace = lift(drawn(points, FRAME), FRAME, LiftConfig(spike_m=5.0))
    np.testing.assert_allclose(trace.xyz_m[[0, -1]], points[[0, -1]], atol=1e-5)
    assert distance(points, trace.xyz_m).max() < 0.003 + 1e-5
    assert trace.notes == ()


@EXAMPLES
@given(st.permutations(range(8)))
def test_waypoints_are_converted_one_by_one(order: list[int]) -> None:
    uv = drawn(PICK_TO_PLATE, FRAME).uv
    there_and_back = px_to_uv(uv_to_px(uv[order], FRAME.camera), FRAME.camera)
    np.testing.assert_allclose(there_and_back[np.argsort(order)], uv, atol=1e-9)


@pytest.mark.parametrize("size", [(256, 256), (640, 480), (1280, 720)])
def test_the_size_of_the_image_does_not_matter(size: tuple[int, int]) -> None:
    frame, _ = Scene(list(THINGS)).render(front_camera(*size))
    trace = lift(drawn(PICK_TO_PLATE, frame), frame, LiftConfig())
    assert distance(trace.xyz_m, PICK_TO_PLATE).max() < 0.003 + 1e-5
