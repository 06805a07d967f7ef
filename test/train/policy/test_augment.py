"""Augmentation keeps colour, cloud, history and target together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stvla_ros.geometry.se3 import from_quaternion
from stvla_ros.policy.network.network import NetworkInput
from stvla_ros.policy.network.text import PADDING
from stvla_ros.train.policy.augment import augment, multiply
from stvla_ros.train.policy.experiments import Augmentation


def batch(count: int = 4, size: int = 32) -> tuple[NetworkInput, torch.Tensor]:
    torch.manual_seed(0)
    pose = torch.cat([torch.rand(count, 3), torch.nn.functional.normalize(torch.randn(count, 4), dim=-1)], -1)
    pose = torch.cat([pose, torch.ones(count, 1)], -1)
    inputs = NetworkInput(
        torch.rand(count, 1, 3, size, size),
        torch.rand(count, 1, 3, size, size),
        torch.randint(1, 9, (count, 7)),
        pose[:, None, None].repeat(1, 3, 1, 1),
        torch.rand(count, 5, 3),
    )
    return inputs, pose[:, None, None].clone()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_nothing_asked_nothing_changed() -> None:
    inputs, target = batch()
    same, kept = augment(inputs, target, Augmentation(), generator())
    assert same is inputs
    assert kept is target


def test_scaling_moves_whole_pixels_of_both_images() -> None:
    """Every pixel of the result is one of the original, colour and point of the same place."""
    inputs, target = batch()
    code = torch.arange(32 * 32, dtype=torch.float32).view(1, 1, 1, 32, 32)
    inputs = replace(inputs, rgb=code.expand(4, 1, 3, 32, 32) / 1024, xyz_m=code.expand(4, 1, 3, 32, 32).clone())
    out, kept = augment(inputs, target, Augmentation(scale=(0.75, 1.25)), generator())
    assert torch.equal(kept, target)
    assert torch.equal(out.rgb * 1024, out.xyz_m)
    assert torch.equal(out.xyz_m, out.xyz_m.round())
    assert not torch.equal(out.xyz_m, inputs.xyz_m)


@pytest.mark.parametrize(
    "how",
    [
        Augmentation(shift_m=0.1),
        Augmentation(turn_rad=0.5),
        Augmentation(shift_m=0.1, turn_rad=0.5),
        Augmentation(turn_rad=0.5, about_base=True),
    ],
)
def test_moving_is_rigid(how: Augmentation) -> None:
    """What lies where as seen from the target's own frame stays the same."""
    inputs, target = batch()
    out, moved = augment(inputs, target, how, generator())

    def seen_from(pose: torch.Tensor, points: torch.Tensor) -> np.ndarray:
        R = from_quaternion(pose[3:7].double().numpy())
        return (points.double().numpy() - pose[:3].double().numpy()) @ R

    for i in range(len(target)):
        for name in ("xyz_m", "history", "path_m"):
            before, after = getattr(inputs, name)[i], getattr(out, name)[i]
            a = before[0].movedim(0, -1).reshape(-1, 3) if name == "xyz_m" else before[..., :3].reshape(-1, 3)
            b = after[0].movedim(0, -1).reshape(-1, 3) if name == "xyz_m" else after[..., :3].reshape(-1, 3)
            np.testing.assert_allclose(
                seen_from(moved[i, 0, 0], b), seen_from(target[i, 0, 0], a), atol=1e-5, err_msg=name
            )
    assert not torch.allclose(moved, target)
    assert torch.equal(moved[..., 2], target[..., 2])  # gravity stays where it is


def test_turning_about_the_base_is_a_motion_of_the_first_joint() -> None:
    """Every point keeps its distance from the base's axis and its height, and all turn by one angle."""
    inputs, target = batch()
    out, moved = augment(inputs, target, Augmentation(turn_rad=0.5, about_base=True), generator())
    places = [(target[:, 0, :, :3], moved[:, 0, :, :3]), (inputs.path_m, out.path_m)]
    for before, after in places:
        torch.testing.assert_close(after[..., :2].norm(dim=-1), before[..., :2].norm(dim=-1))
        torch.testing.assert_close(after[..., 2], before[..., 2])
    first, later = (torch.atan2(points[..., 1], points[..., 0]) for points in (inputs.path_m, out.path_m))
    angle = (later - first + torch.pi) % (2 * torch.pi) - torch.pi
    torch.testing.assert_close(angle, angle[:, :1].expand_as(angle), atol=1e-5, rtol=0)
    assert 0.05 < angle.abs().max() <= 0.5


def test_without_a_path_there_is_none_afterwards() -> None:
    inputs, target = batch()
    without = replace(inputs, path_m=torch.full_like(inputs.path_m, torch.nan))
    out, _ = augment(without, target, Augmentation(shift_m=0.1, turn_rad=0.5), generator())
    assert out.path_m.isnan().all()


def test_jitter_moves_the_history_alone() -> None:
    inputs, target = batch()
    out, kept = augment(inputs, target, Augmentation(jitter_m=0.01), generator())
    gap = (out.history - inputs.history).abs()
    assert 0 < gap[..., :3].max() <= 0.01
    assert gap[..., 3:].max() == 0
    assert torch.equal(kept, target)
    assert torch.equal(out.xyz_m, inputs.xyz_m)


def test_some_words_become_unknown() -> None:
    inputs, target = batch(64)
    out, _ = augment(inputs, target, Augmentation(unknown_words=0.25), generator())
    changed = out.text != inputs.text
    assert (out.text[changed] == 0).all()
    assert 0.15 < changed.float().mean() < 0.35


def test_padding_is_no_word() -> None:
    inputs, target = batch()
    padded = replace(inputs, text=torch.full_like(inputs.text, PADDING))
    out, _ = augment(padded, target, Augmentation(unknown_words=0.9), generator())
    assert (out.text == PADDING).all()


def test_the_product_of_quaternions_is_that_of_their_rotations() -> None:
    a, b = torch.nn.functional.normalize(torch.randn(2, 4, generator=generator()).double(), dim=-1)
    product = from_quaternion(multiply(a, b).numpy())
    np.testing.assert_allclose(product, from_quaternion(a.numpy()) @ from_quaternion(b.numpy()), atol=1e-12)
