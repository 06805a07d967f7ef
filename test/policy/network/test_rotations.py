"""Quaternions and six-number rotations, against scipy."""

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from stvla_ros.policy.network.rotations import matrix_from_sixd, quaternion_from_sixd, sixd_from_quaternion


def quaternions() -> np.ndarray:
    halves = Rotation.from_rotvec(np.pi * np.eye(3)).as_quat()  # each has one component alone
    random = Rotation.random(500, random_state=0).as_quat()
    return np.concatenate(([[0.0, 0.0, 0.0, 1.0]], halves, random)).astype(np.float32)


def test_columns_of_the_matrix() -> None:
    given = quaternions()
    sixd = sixd_from_quaternion(torch.from_numpy(given))
    matrix = Rotation.from_quat(given).as_matrix()
    np.testing.assert_allclose(sixd, np.concatenate((matrix[:, :, 0], matrix[:, :, 1]), -1), atol=1e-6)
    np.testing.assert_allclose(matrix_from_sixd(sixd), matrix, atol=1e-6)


def test_there_and_back() -> None:
    given = torch.from_numpy(quaternions())
    back = quaternion_from_sixd(sixd_from_quaternion(given))
    np.testing.assert_allclose((back * given).sum(-1).abs(), 1.0, atol=1e-6)
    assert (back.gather(-1, back.abs().argmax(-1, keepdim=True)) > 0).all()


def test_six_numbers_of_any_length() -> None:
    sixd = torch.randn(4, 5, 6)
    matrix = matrix_from_sixd(3.0 * sixd)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand(4, 5, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(4, 5))
    first = sixd[..., :3] / sixd[..., :3].norm(dim=-1, keepdim=True)
    torch.testing.assert_close(matrix[..., 0], first)


def test_degenerate_numbers_stay_finite() -> None:
    assert quaternion_from_sixd(torch.zeros(1, 6)).isfinite().all()
    assert quaternion_from_sixd(torch.ones(1, 6)).isfinite().all()
