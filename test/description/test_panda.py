"""The Panda's description against MuJoCo, which reads the generated URDF with its own code."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import mujoco
import numpy as np
import pytest

from stvla_ros.config import ConfigError
from stvla_ros.description import body, hulls, kinematics, panda
from stvla_ros.description.urdf import ALLOWED_PAIRS, srdf, urdf


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(urdf())


def random_q(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(panda.Q_MIN_RAD, panda.Q_MAX_RAD)


def place(model: mujoco.MjModel, q: np.ndarray, gripper_m: float) -> mujoco.MjData:
    data = mujoco.MjData(model)
    data.qpos[:7], data.qpos[7:] = q, gripper_m / 2
    mujoco.mj_forward(model, data)
    return data


def test_forward_kinematics_equals_mujoco(model: mujoco.MjModel) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        q, width = random_q(rng), rng.uniform(0.0, panda.MAX_WIDTH_M)
        data, poses = place(model, q, width), kinematics.link_poses(q, width)
        for i in range(1, model.nbody):
            T = poses[model.body(i).name]
            np.testing.assert_allclose(T[:3, 3], data.xpos[i], atol=1e-6)
            np.testing.assert_allclose(T[:3, :3], data.xmat[i].reshape(3, 3), atol=1e-6)


def test_jacobian_equals_mujoco_and_batches(model: mujoco.MjModel) -> None:
    rng = np.random.default_rng(1)
    qs = np.array([random_q(rng) for _ in range(20)])
    poses, jacobians = kinematics.tcp_and_jacobian(qs)
    tcp = model.body(panda.TCP_LINK).id
    for q, T, J in zip(qs, poses, jacobians, strict=True):
        data = place(model, q, 0.0)
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacBody(model, data, linear, angular, tcp)
        np.testing.assert_allclose(T[:3, 3], data.xpos[tcp], atol=1e-6)
        np.testing.assert_allclose(J, np.vstack([linear, angular])[:, :7], atol=1e-6)


def test_home_pose_points_down_before_the_base() -> None:
    T = kinematics.tcp_pose(panda.HOME_Q_RAD)
    np.testing.assert_allclose(T[:3, 2], [0, 0, -1], atol=1e-9)
    np.testing.assert_allclose(T[:3, 3], [0.3069, 0.0, 0.4869], atol=1e-4)


def test_masses_and_limits_reach_the_model(model: mujoco.MjModel) -> None:
    assert model.body("panda_hand").mass[0] == pytest.approx(0.73)
    assert model.body_mass.sum() == pytest.approx(sum(i.mass_kg for i in panda.INERTIALS.values()))
    np.testing.assert_allclose(model.jnt_range[:7], np.stack([panda.Q_MIN_RAD, panda.Q_MAX_RAD], axis=1))


def test_home_is_free_of_self_collision_and_allowed_pairs_are_links(model: mujoco.MjModel) -> None:
    assert place(model, panda.HOME_Q_RAD, 0.08).ncon == 0
    assert {name for pair in ALLOWED_PAIRS for name in pair} <= set(panda.LINKS)
    assert srdf().count("disable_collisions") == len(ALLOWED_PAIRS)


def test_fine_visuals_keep_the_hulls_as_collision() -> None:
    text = urdf(fine_visuals=True)
    assert text.count("<collision>") == len(panda.LINKS)
    assert text.count("<visual>") > len(panda.LINKS)
    assert all(Path(part.path).stat().st_size > 0 for parts in hulls.visual_meshes().values() for part in parts)


def test_hulls_are_light_closed_and_cover_the_meshes() -> None:
    for link in panda.LINKS:
        vertices, faces, _ = hulls.read_obj(hulls.hull_meshes()[link])
        assert len(vertices) < 200
        assert len(vertices) - 1.5 * len(faces) + len(faces) == 2  # Euler: a closed surface of triangles
        planes = body.half_spaces()[link]
        fine = hulls.source_mesh(link)[0]
        sticking_out = (fine @ planes.normals.T - planes.offsets).max(axis=1)
        assert sticking_out.max() < hulls.HULL_ERROR_M + 1e-4  # the text file is rounded


def test_robot_distance_agrees_with_mujoco(model: mujoco.MjModel) -> None:
    """Probe balls at random places: the hull distance is never above MuJoCo's and rarely far below."""
    rng = np.random.default_rng(2)
    q = panda.HOME_Q_RAD + rng.uniform(-0.4, 0.4, 7)
    spec = mujoco.MjSpec.from_string(urdf())
    probe = spec.worldbody.add_body(name="probe", mocap=True)
    probe.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[1e-4, 0, 0], contype=2, conaffinity=0)
    probed = spec.compile()
    data = mujoco.MjData(probed)
    data.qpos[:7], data.qpos[7:] = q, 0.02
    ball = probed.body("probe").id
    geoms = [g for g in range(probed.ngeom) if probed.geom_bodyid[g] != ball]
    geom = next(g for g in range(probed.ngeom) if probed.geom_bodyid[g] == ball)
    points = kinematics.link_poses(q)["panda_link4"][:3, 3] + rng.uniform(-0.3, 0.3, (60, 3))
    ours = body.robot_distance(points, q, 0.04, reach_m=0.2)
    for point, distance in zip(points, ours, strict=True):
        data.mocap_pos[0] = point
        mujoco.mj_kinematics(probed, data)
        exact = min(mujoco.mj_geomDistance(probed, data, geom, g, 0.5, None) for g in geoms)
        if exact > 0.2:
            assert distance == np.inf or distance <= exact + 1e-3
        else:
            assert distance <= exact + 1e-3
            assert exact <= 0 or distance > 0.3 * exact - 1e-3


def test_robot_mask_handles_unknown_points() -> None:
    points = np.array([[np.nan] * 3, [0.0, 0.0, 0.1], [2.0, 0.0, 0.0]])
    assert body.robot_mask(points, panda.HOME_Q_RAD).tolist() == [False, True, False]


def test_missing_mesh_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(_: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setenv("STVLA_CACHE", str(tmp_path))
    monkeypatch.setattr(hulls, "files", missing)
    hulls.hull_meshes.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install --no-deps dm-robotics-panda==0\.4\.8"):
        hulls.hull_meshes()
    hulls.hull_meshes.cache_clear()


def test_cache_that_cannot_be_written_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("STVLA_CACHE", str(blocked))
    hulls.hull_meshes.cache_clear()
    with pytest.raises(ConfigError, match="STVLA_CACHE"):
        hulls.hull_meshes()
    hulls.hull_meshes.cache_clear()
