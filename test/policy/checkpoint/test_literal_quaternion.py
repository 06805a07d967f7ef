"""The quaternion trap: weights whose training took xyzw for wxyz still give, and learn, true xyzw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.spatial.transform import Rotation

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.literal_quaternion import (
    LiteralQuaternionNetwork,
    read_literally,
    written_literally,
)
from stvla_ros.policy.checkpoint.policy_file import PolicyFile, read_policy_file
from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.network import KeyposeNetwork, NetworkInput, Noise
from stvla_ros.policy.network.rotations import quaternion_from_sixd

SMALL = NetworkConfig(
    image_px=32, visual="nano", text="words", vocabulary=5, width=24, heads=2, subsample_factor=2, history_layers=1
)
BOUNDS = [[-1, -1, -1], [1, 1, 1]]


def policy(quaternion: str) -> PolicyFile:
    torch.manual_seed(0)
    return PolicyFile(SMALL, KeyposeNetwork(SMALL, BOUNDS).state_dict(), quaternion=quaternion)


def observation() -> NetworkInput:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand((1, 1, 3, 32, 32), generator=generator)
    return NetworkInput(image, image - 0.5, torch.tensor([[1, 2]]), torch.zeros(1, 3, 1, 8))


def published(xyzw: torch.Tensor) -> torch.Tensor:
    """Six numbers as the published code makes them with quaternion_format=wxyz: its first number is taken for r."""
    matrix = torch.from_numpy(Rotation.from_quat(xyzw.numpy()[..., [1, 2, 3, 0]]).as_matrix())
    return torch.cat((matrix[..., 0], matrix[..., 1]), -1)


def test_what_the_published_code_learned_is_read_back() -> None:
    true = torch.nn.functional.normalize(
        torch.randn(50, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64), dim=-1
    )
    network_gives = torch.cat((torch.zeros(50, 3), quaternion_from_sixd(published(true)), torch.ones(50, 1)), -1)
    found = read_literally(network_gives)[:, 3:7]
    assert (found * true).sum(-1).abs().min() > 1 - 1e-9
    wrong = (network_gives[:, 3:7] * true).sum(-1).abs()
    assert wrong.min() < 0.5  # read as it comes it is another rotation


def test_the_inverse() -> None:
    keyposes = torch.arange(8.0).expand(2, 1, 1, 8)
    assert torch.equal(written_literally(read_literally(keyposes)), keyposes)
    assert read_literally(keyposes)[0, 0, 0].tolist() == [0, 1, 2, 6, 3, 4, 5, 7]


def test_networks_differ_in_the_quaternion_only() -> None:
    noise = Noise.draw(SMALL, 1, torch.Generator().manual_seed(3))
    plain, literal = (policy(q).build().predict(observation(), noise) for q in ("xyzw", "wxyz_literal"))
    assert torch.equal(literal, read_literally(plain))
    assert not torch.allclose(literal[..., 3:7], plain[..., 3:7], atol=0.1)


@pytest.mark.parametrize("quaternion", ["xyzw", "wxyz_literal"])
def test_the_fast_network_reads_it_too(quaternion: str) -> None:
    noise = Noise.draw(SMALL, 1, torch.Generator().manual_seed(3))
    plain, fast = policy(quaternion).build(), policy(quaternion).build_fast()
    assert torch.allclose(fast.predict(observation(), noise), plain.predict(observation(), noise), atol=1e-5)


def test_training_goes_on_as_it_began() -> None:
    target = torch.zeros(1, 1, 1, 8)
    target[..., 3:7] = torch.tensor([0.1, 0.5, -0.3, 0.8])
    losses = []
    for quaternion, wanted in (("wxyz_literal", target), ("xyzw", written_literally(target))):
        network = policy(quaternion).build()
        context = network.encode(observation())
        losses.append(network.loss(context, wanted, generator=torch.Generator().manual_seed(4))["total"])
    assert losses[0] == losses[1]


def test_the_file_says_it(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    replace(policy("wxyz_literal"), cameras=("front",), frame="rlbench").save(path)
    found = read_policy_file(path)
    assert (found.quaternion, found.cameras, found.frame) == ("wxyz_literal", ("front",), "rlbench")
    assert isinstance(found.build(), LiteralQuaternionNetwork)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quaternion": "wxyz"}, "quaternion is 'wxyz'; wanted one of xyzw, wxyz_literal"),
        ({"frame": "world"}, "frame is 'world'"),
        ({"guidance": "some"}, "guidance is 'some'"),
        ({"cameras": ("front", "wrist")}, "wanted names of 1 cameras, found front, wrist"),
    ],
)
def test_values_that_mean_nothing(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(policy("xyzw"), **change)
