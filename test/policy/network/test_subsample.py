"""Both ways to thin out tokens, against loops written out."""

import numpy as np
import torch

from stvla_ros.policy.network.subsample import density_based, farthest_point


def features() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(3, 40, 6)).astype(np.float32))


def test_rarest() -> None:
    for found, points in zip(density_based(features(), 10), features().double().numpy()):
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
        near = np.sort(distances, axis=1)[:, :8].mean(1)
        assert found.tolist() == np.argsort(-near)[:10].tolist()


def test_rarest_of_few() -> None:
    assert sorted(density_based(features()[:, :5], 5)[0].tolist()) == [0, 1, 2, 3, 4]


def test_farthest() -> None:
    for found, points in zip(farthest_point(features(), 10), features().double().numpy()):
        chosen = [0]
        while len(chosen) < 10:
            nearest = [min(np.linalg.norm(point - points[i]) for i in chosen) for point in points]
            chosen.append(int(np.argmax(nearest)))
        assert found.tolist() == chosen


def test_farthest_takes_the_first_of_equals() -> None:
    points = torch.tensor([[[0.0], [1.0], [-1.0], [1.0]]])
    assert farthest_point(points, 3).tolist() == [[0, 1, 2]]
