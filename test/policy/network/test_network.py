"""The network as a whole, in its smallest form."""

from dataclasses import replace

import pytest
import torch

from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.fast.network import FastKeyposeNetwork
from stvla_ros.policy.network.nano_visual import NEAR, ways_to_path
from stvla_ros.policy.network.network import KeyposeNetwork, NetworkInput, Noise
from stvla_ros.policy.network.text import PADDING

NANO = NetworkConfig(
    image_px=32,
    width=24,
    heads=4,
    visual="nano",
    visual_stride=4,
    text="words",
    vocabulary=9,
    subsample_factor=4,
    dropout=0.0,
    rotary_dropout=0.0,
)

BOUNDS_M = [[-0.1, -0.5, 0.7], [0.6, 0.5, 1.5]]

VARIANTS = {
    "flow": NANO,
    "diffusion": replace(NANO, denoiser="ddpm", steps=10, rotary="normalised", modulate_kv=False, text_ffn=False),
    "farthest": replace(NANO, subsampler="farthest", visual_stride=8, subsample_factor=2),
    "features": replace(NANO, text="features", vocabulary=0),
    "two hands": replace(NANO, hands=2, cameras=2, history=2),
    "shared scene": replace(NANO, shared_scene=True, visual_cloud=True, path_channels=True),
    "shared scene, two hands": replace(NANO, shared_scene=True, hands=2, cameras=2, history=2),
}


def build(config: NetworkConfig) -> KeyposeNetwork:
    """A network whose modulations do something, as after training."""
    torch.manual_seed(0)
    network = KeyposeNetwork(config, BOUNDS_M)
    for name, parameter in network.named_parameters():
        if "adaln" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def poses(generator: torch.Generator, *shape: int) -> torch.Tensor:
    low, high = torch.tensor(BOUNDS_M)
    xyz = torch.rand(*shape, 3, generator=generator) * (high - low) + low
    opened = torch.randint(0, 2, (*shape, 1), generator=generator)
    return torch.cat((xyz, torch.randn(*shape, 4, generator=generator), opened), -1)


def observe(config: NetworkConfig, batch: int = 3) -> NetworkInput:
    generator = torch.Generator().manual_seed(1)
    image = (batch, config.cameras, 3, config.image_px, config.image_px)
    ids = torch.randint(0, 9, (batch, 5), generator=generator)
    text = torch.randn(batch, 5, 512, generator=generator) if config.text == "features" else ids
    xyz = torch.rand(image, generator=generator)
    history = poses(generator, batch, config.history, config.hands)
    path_m = torch.rand(batch, 7, 3, generator=generator)
    return NetworkInput(torch.rand(image, generator=generator), xyz, text, history, path_m)


def rows(inputs: NetworkInput, chosen: slice) -> NetworkInput:
    return NetworkInput(**{name: value[chosen] for name, value in vars(inputs).items()})


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_samples_are_poses_and_depend_on_the_noise_alone(config: NetworkConfig) -> None:
    network, inputs = build(config), observe(config)
    noise = Noise.draw(config, 3, torch.Generator().manual_seed(2), length=2)
    found = network.predict(inputs, noise)
    assert found.shape == (3, 2, config.hands, 8)
    torch.testing.assert_close(found[..., 3:7].norm(dim=-1), torch.ones(3, 2, config.hands))
    assert ((found[..., 7] > 0) & (found[..., 7] < 1)).all()
    assert torch.equal(found, network.predict(inputs, noise))
    other = Noise.draw(config, 3, torch.Generator().manual_seed(3), length=2)
    assert not torch.allclose(found, network.predict(inputs, other), atol=1e-3)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_rows_of_a_batch_are_independent(config: NetworkConfig) -> None:
    network, inputs = build(config), observe(config)
    noise = Noise.draw(config, 3, torch.Generator().manual_seed(2))
    alone = Noise(noise.start[1:2], noise.steps[:, 1:2])
    batched = network.predict(inputs, noise)[1:2]
    torch.testing.assert_close(network.predict(rows(inputs, slice(1, 2)), alone), batched, atol=1e-4, rtol=0)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_several_draws_share_a_scene(config: NetworkConfig) -> None:
    network, inputs = build(config), observe(config, 2)
    x = torch.randn(2, 3, 1, config.hands, 9)
    times = torch.tensor([1, 3, 7])
    context = network.encode(inputs)
    together = network.denoise(context, x.flatten(0, 1), times.repeat(2)).unflatten(0, (2, 3))
    for draw, time in enumerate(times):
        torch.testing.assert_close(together[:, draw], network.denoise(context, x[:, draw], time), atol=1e-5, rtol=0)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_gradients_reach_every_parameter(config: NetworkConfig) -> None:
    network = build(config).train()
    target = poses(torch.Generator().manual_seed(4), 3, 1, config.hands)
    losses = network.loss(network.encode(observe(config)), target, draws=2)
    losses["total"].backward()
    for name, parameter in network.named_parameters():
        if name != "workspace_normalizer":
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    expected = 30 * losses["position"] + 10 * losses["rotation"] + losses["open"]
    torch.testing.assert_close(losses["total"], expected)


def test_twenty_steps_of_training() -> None:
    torch.manual_seed(0)
    network, inputs = KeyposeNetwork(NANO, BOUNDS_M), observe(NANO)
    target = poses(torch.Generator().manual_seed(4), 3, 1, 1)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=2e-3)

    def loss() -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        return network.loss(network.encode(inputs), target, draws=8, generator=generator)["total"]

    before = loss().item()
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.8 * before


def test_a_fresh_network_does_not_modulate() -> None:
    network = KeyposeNetwork(NANO, BOUNDS_M).eval()
    context, x = network.encode(observe(NANO)), torch.randn(3, 1, 9)
    assert torch.equal(network.denoise(context, x, 0.2), network.denoise(context, x, 0.9))


def test_a_token_is_where_its_middle_pixels_are() -> None:
    inputs = observe(NANO, 1)
    context = build(NANO).encode(inputs)
    squares = inputs.xyz_m[0, 0].unflatten(1, (8, 4)).unflatten(3, (8, 4))  # (3, row, 4, column, 4)
    middle = squares[:, :, 1:3, :, 1:3].mean((2, 4)).flatten(1).T
    torch.testing.assert_close(context.image_xyz[0], middle)
    spoilt = inputs.xyz_m.clone().unflatten(3, (8, 4))
    spoilt[..., 0, :] = torch.nan
    context = build(NANO).encode(replace(inputs, xyz_m=spoilt.flatten(3, 4)))
    assert context.image_xyz.isfinite().all()


def test_normalised_positions() -> None:
    network = build(NANO)
    corners = torch.tensor(BOUNDS_M)
    torch.testing.assert_close(network.normalise(corners), torch.tensor([[-1.0] * 3, [1.0] * 3]))
    torch.testing.assert_close(network.unnormalise(network.normalise(corners)), corners)


def test_clip_keeps_its_weights_and_moves_its_averages_if_told_to() -> None:
    from stvla_ros.policy.network.clip_resnet import ClipResnet

    rgb = torch.randn(2, 3, 32, 32)
    for moves in (True, False):
        backbone = ClipResnet(moves).train()
        before = backbone.bn1.running_mean.clone()
        maps = backbone(rgb)
        assert [tuple(level.shape) for level in maps] == [(2, 512, 4, 4), (2, 1024, 2, 2), (2, 2048, 1, 1)]
        assert torch.equal(before, backbone.bn1.running_mean) is not moves
        assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rgb": torch.zeros(3, 2, 3, 32, 32)}, r"NetworkInput.rgb: wanted .*, found \(3, 2, 3, 32, 32\)"),
        ({"xyz_m": torch.zeros(3, 1, 3, 64, 64)}, "NetworkInput.xyz_m"),
        ({"text": torch.zeros(2, 5, dtype=torch.long)}, "NetworkInput.text"),
        ({"history": torch.zeros(3, 2, 1, 8)}, "NetworkInput.history"),
    ],
)
def test_wrong_shapes(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(NANO).encode(replace(observe(NANO), **change))


@pytest.mark.parametrize("bounds", [[[0, 0, 0]], [[0, 0, 0], [1, 1, 0]]])
def test_wrong_bounds(bounds: list) -> None:
    with pytest.raises(ValueError, match="lower and upper corner, in metres"):
        KeyposeNetwork(NANO, bounds)


def test_padding_changes_nothing() -> None:
    """Neither the words before it nor what attends to them, in training as in evaluation."""
    network, inputs = build(replace(NANO, shared_scene=True)), observe(NANO)
    padded = replace(inputs, text=torch.nn.functional.pad(inputs.text, (0, 3), value=PADDING))
    noise = Noise.draw(NANO, 3, torch.Generator().manual_seed(2))
    for mode in (True, False):
        network.train(mode)
        plain, found = (network.predict(seen, noise) for seen in (inputs, padded))
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)
    wordy = replace(inputs, text=torch.nn.functional.pad(inputs.text, (0, 3), value=1))
    assert (network.predict(wordy, noise) - plain).abs().max() > 1e-4, "this test can fail"
    with pytest.raises(ValueError, match="without padding"):
        FastKeyposeNetwork(network).encode(padded)


def test_a_shared_scene_is_seen_the_same_by_every_draw() -> None:
    """Each draw gets what it would get alone, although one pass over the scene serves them all."""
    config = replace(NANO, shared_scene=True, hands=2)
    network, inputs = build(config), observe(config, 2)
    x = torch.randn(2 * 5, 3, 2, 9, generator=torch.Generator().manual_seed(4))
    times = torch.rand(10, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        together = network.denoise(network.encode(inputs), x, times)
        for row in range(10):
            scene = network.encode(rows(inputs, slice(row // 5, row // 5 + 1)))
            alone = network.denoise(scene, x[row : row + 1], times[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


class TestWaysToPath:
    PATH = torch.tensor([[[0.5, 0.0, 0.1], [0.5, 0.2, 0.1]]])

    def ways(self, *points: tuple[float, float, float]) -> torch.Tensor:
        """(N, 3) in metres."""
        xyz = torch.tensor(points).T[None, :, None]  # (1, 3, 1, N)
        return ways_to_path(xyz, self.PATH)[0, :, 0].T * NEAR

    def test_lead_to_the_nearest_point(self) -> None:
        found = self.ways((0.5, 0.0, 0.1), (0.48, 0.19, 0.0), (0.5, -0.1, 0.1))
        torch.testing.assert_close(found, torch.tensor([[0.0, 0, 0], [0.02, 0.01, 0.1], [0, 0.1, 0]]))

    def test_are_no_longer_than_near(self) -> None:
        torch.testing.assert_close(self.ways((2.0, 0.2, 0.1)), torch.tensor([[-NEAR, 0.0, 0.0]]))

    def test_are_zero_without_a_path(self) -> None:
        xyz = torch.rand(2, 3, 4, 4)
        path = torch.stack((torch.full((5, 3), torch.nan), torch.rand(5, 3)))
        found = ways_to_path(xyz, path)
        assert (found[0] == 0).all()
        assert (found[1] != 0).any()

    def test_a_network_with_them_wants_a_path(self) -> None:
        config = VARIANTS["shared scene"]
        network, inputs = build(config), observe(config)
        noise = Noise.draw(config, 3, torch.Generator().manual_seed(2))
        without = replace(inputs, path_m=torch.full_like(inputs.path_m, torch.nan))
        assert not torch.equal(network.predict(inputs, noise), network.predict(without, noise))
        assert network.predict(without, noise).isfinite().all()
        with pytest.raises(ValueError, match=r"path_m: wanted shape \(3, points, 3\), found None"):
            network.predict(replace(inputs, path_m=None))
