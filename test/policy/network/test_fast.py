"""The fast path gives what the plain path gives, for every variant of the network."""

from dataclasses import fields, replace
from functools import partial

import pytest
import torch

from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.fast.heads import HeadLayout, apply_rotary, rotary_phases
from stvla_ros.policy.network.fast.network import DdpmSteps, FastKeyposeNetwork
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.network.rotary import rotary_table, rotate
from stvla_ros.policy.network.schedulers import Ddpm
from stvla_ros.policy.network.values import NetworkInput, Noise

CLOSE = 1e-5

SMALL = NetworkConfig(
    image_px=32, width=30, heads=2, visual="nano", visual_stride=4, text="words", vocabulary=9, subsample_factor=4
)
"""Heads of 15 channels, as in the published networks."""

DIFFUSION = replace(SMALL, denoiser="ddpm", steps=100)
RN50 = replace(SMALL, visual="clip_rn50", visual_stride=8, image_px=64)

VARIANTS = {
    "flow": SMALL,
    "diffusion": DIFFUSION,
    "original": replace(
        DIFFUSION,
        rotary="normalised",
        modulate_kv=False,
        text_ffn=False,
        subsampler="farthest",
        text="features",
        vocabulary=0,
    ),
    "normalised": replace(SMALL, rotary="normalised"),
    "kv not modulated": replace(SMALL, modulate_kv=False),
    "no text ffn": replace(SMALL, text_ffn=False),
    "farthest": replace(SMALL, subsampler="farthest", subsample_factor=5),
    "two hands, two cameras": replace(SMALL, hands=2, cameras=2, history=2),
    "even heads": replace(SMALL, width=24, heads=2),
    "one head": replace(SMALL, width=18, heads=1),
    "shallow": replace(SMALL, cross_layers=1, shared_layers=1, branch_layers=1, history_layers=1, vision_text_layers=1),
    "cloud seen": replace(SMALL, visual_cloud=True, rotary="normalised", rotary_scale=5.0),
    "cloud seen, metres": replace(SMALL, visual_cloud=True, rotary_scale=60.0),
    "shared scene": replace(SMALL, shared_scene=True),
    "shared scene, diffusion": replace(DIFFUSION, shared_scene=True),
    "shared scene, two hands, two cameras": replace(SMALL, shared_scene=True, hands=2, cameras=2, history=2),
    "shared scene, even heads": replace(SMALL, shared_scene=True, width=24, heads=2),
    "path seen": replace(SMALL, visual_cloud=True, path_channels=True, shared_scene=True),
    "path seen, two cameras, normalised": replace(
        SMALL, visual_cloud=True, path_channels=True, cameras=2, rotary="normalised"
    ),
    "rn50": RN50,
    "rn50, folded": replace(RN50, subsampler="farthest"),
}


def build(config: NetworkConfig) -> KeyposeNetwork:
    """A network in which nothing is zero, one or the identity, and of which every result depends on everything."""
    torch.manual_seed(0)
    network = KeyposeNetwork(config, [[-0.1, -0.5, 0.7], [0.6, 0.5, 1.5]])
    for name, parameter in network.named_parameters():
        if "workspace" not in name and "text_encoder.model" not in name:
            parameter.data.add_(
                torch.randn_like(parameter), alpha=0.1 if parameter.ndim == 1 or "adaln" in name else 0.0
            )
    for name, buffer in network.named_buffers():
        if "running_mean" in name:
            buffer.normal_(std=0.1)
        if "running_var" in name:
            buffer.uniform_(0.5, 1.5)
    return network.eval()


def observe(config: NetworkConfig, batch: int = 2) -> NetworkInput:
    generator = torch.Generator().manual_seed(1)
    image = (batch, config.cameras, 3, config.image_px, config.image_px)
    text = torch.randint(0, 9, (batch, 5), generator=generator)
    if config.text == "features":
        text = torch.randn(batch, 5, 512, generator=generator)
    history = torch.rand(batch, config.history, config.hands, 8, generator=generator)
    rgb, xyz_m, path_m = (torch.rand(*shape, generator=generator) for shape in (image, image, (batch, 16, 3)))
    return NetworkInput(rgb, xyz_m, text, history, path_m)


def draw(config: NetworkConfig, batch: int = 2, length: int = 1) -> Noise:
    return Noise.draw(config, batch, torch.Generator().manual_seed(2), length=length)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_same_keyposes_after_all_steps(config: NetworkConfig) -> None:
    plain, inputs, noise = build(config), observe(config), draw(config)
    fast = FastKeyposeNetwork(plain)
    wanted = plain.predict(inputs, noise)
    assert difference(fast.predict(inputs, noise), wanted) <= CLOSE
    other = replace(noise, start=noise.start.roll(1, 0))
    assert difference(plain.predict(inputs, other), wanted) > 100 * CLOSE, "this test can fail"
    with torch.no_grad():
        assert difference(fast.sample(fast.prepare(plain.encode(inputs)), noise), wanted) <= CLOSE


@pytest.mark.parametrize("name", ["flow", "diffusion", "original", "kv not modulated", "shared scene"])
def test_same_prediction_at_every_step(name: str) -> None:
    """Diffusion clips, which hides differences: here each step's prediction is compared before that."""
    config = VARIANTS[name]
    plain, inputs, noise = build(config), observe(config), draw(config)
    fast, x = FastKeyposeNetwork(plain), noise.start
    with torch.no_grad():
        context = plain.encode(inputs)
        scene, places = fast.encode(inputs), fast.head.embedding.places(1, 1)
        for index, time in enumerate(plain.scheduler.times):
            wanted = plain.denoise(context, x, time)
            xyz = x[..., :3] if config.rotary == "normalised" else plain.unnormalise(x[..., :3])
            found = fast.head.step(scene, places, x[:, 0], xyz[:, 0], index)
            assert difference(found[:, None], wanted) <= CLOSE, index
            x = plain.scheduler.step(index, x, wanted[..., :-1], noise.steps[index] if len(noise.steps) else None)


def test_no_field_is_overlooked() -> None:
    """A new field of the configuration needs a variant here, and then a line in this list."""
    shape = {"image_px", "cameras", "width", "heads", "history", "hands", "subsample_factor", "steps", "vocabulary"}
    layers = {f"{name}_layers" for name in ("vision_text", "history", "cross", "shared", "branch")}
    kinds = {"visual", "visual_stride", "visual_cloud", "text", "rotary", "rotary_scale", "subsampler", "denoiser"}
    switches = {"modulate_kv", "text_ffn", "shared_scene", "path_channels"}
    training = {"dropout", "rotary_dropout", "backbone_batch_statistics"}
    assert {field.name for field in fields(NetworkConfig)} == shape | layers | kinds | switches | training


@pytest.mark.parametrize(
    "name", ["flow", "two hands, two cameras", "shared scene", "shared scene, two hands, two cameras"]
)
def test_several_samples_and_longer_sequences(name: str) -> None:
    config = VARIANTS[name]
    plain, inputs, noise = build(config), observe(config), draw(config, batch=6, length=2)
    fast = FastKeyposeNetwork(plain)
    assert difference(fast.sample(fast.encode(inputs), noise), plain.predict(inputs, noise)) <= CLOSE


def test_default_noise_is_drawn() -> None:
    fast = FastKeyposeNetwork(build(SMALL))
    assert fast.predict(observe(SMALL)).shape == (2, 1, 1, 8)


def test_same_tokens_are_kept() -> None:
    for name in ("flow", "rn50", "rn50, folded"):
        plain, inputs = build(VARIANTS[name]), observe(VARIANTS[name])
        fast = FastKeyposeNetwork(plain)
        with torch.no_grad():
            wanted = fast.prepare(plain.encode(inputs)).sampled
        assert difference(fast.encode(inputs).sampled, wanted) < 1e-4


def test_weights_are_copies() -> None:
    for config in (SMALL, replace(RN50, subsampler="farthest")):
        plain, inputs, noise = build(config), observe(config), draw(config)
        fast = FastKeyposeNetwork(plain)
        before = fast.predict(inputs, noise)
        for name, value in (*plain.named_parameters(), *plain.named_buffers()):
            if "text_encoder" not in name and value.is_floating_point():
                value.data.zero_()
        assert torch.equal(fast.predict(inputs, noise), before)


@pytest.mark.parametrize(("width", "heads"), [(30, 2), (120, 8), (24, 2), (18, 1), (60, 10), (36, 4)])
def test_padded_heads_hold_every_channel_once_and_pairs_whole(width: int, heads: int) -> None:
    layout = HeadLayout(width, heads, torch.device("cpu"))
    assert sorted(layout.source[layout.own].tolist()) == list(range(width))
    assert (layout.source[layout.own] // (width // heads) == torch.arange(width) // (width // heads)).all()
    pairs = layout.source[layout.filled].view(-1, 2)
    assert (pairs[:, 0] % 2 == 0).all()
    assert (pairs[:, 1] == pairs[:, 0] + 1).all()
    assert layout.padded % (8 * heads) == 0
    assert HeadLayout(120, 8, torch.device("cpu")).padded == 128


@pytest.mark.parametrize(("width", "heads"), [(30, 2), (120, 8), (24, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_turning_padded_heads_is_the_rotary_encoding(width: int, heads: int, dtype: torch.dtype) -> None:
    layout, tokens, xyz = HeadLayout(width, heads, torch.device("cpu")), torch.randn(2, 7, width), torch.randn(2, 7, 3)
    padded = layout.rows(tokens.movedim(-1, 0), layout.filled).movedim(0, -1).contiguous().to(dtype)
    found = apply_rotary(padded, rotary_phases(xyz, layout.frequencies(2.0)))[..., layout.own]
    assert found.dtype == dtype
    close = 1e-6 if dtype == torch.float32 else 0.05
    assert difference(found.float(), rotate(tokens, rotary_table(xyz, width, 2.0))) <= close


class TestText:
    def test_of_clip(self, monkeypatch: pytest.MonkeyPatch) -> None:
        transformers = pytest.importorskip("transformers")
        tiny = partial(transformers.CLIPTextConfig, num_hidden_layers=1, vocab_size=9)
        monkeypatch.setattr(transformers, "CLIPTextConfig", tiny)
        config = replace(SMALL, text="clip", vocabulary=0)
        plain, inputs, noise = build(config), observe(config), draw(config)
        assert difference(FastKeyposeNetwork(plain).predict(inputs, noise), plain.predict(inputs, noise)) <= CLOSE

    def test_is_encoded_once_per_instruction(self) -> None:
        plain = build(SMALL)
        calls: list[torch.Tensor] = []
        plain.encoder.text_encoder.register_forward_hook(lambda module, given, found: calls.append(found))
        fast, inputs = FastKeyposeNetwork(plain), observe(SMALL)
        first = fast.encode(inputs)
        again = fast.encode(replace(inputs, text=inputs.text.clone(), rgb=inputs.rgb.flip(-1)))
        assert len(calls) == 1
        assert torch.equal(first.text_keys, again.text_keys)
        fast.encode(replace(inputs, text=inputs.text.flip(0)))
        fast.encode(replace(inputs, text=inputs.text[:, :4]))
        assert len(calls) == 3

    def test_of_the_same_ids_in_another_shape_is_another(self) -> None:
        fast = FastKeyposeNetwork(build(SMALL))
        ids = torch.zeros(2, 6, dtype=torch.long)
        assert fast.words(ids).shape == (2, 6, 30)
        assert fast.words(ids.view(3, 4)).shape == (3, 4, 30)

    def test_cache_forgets_the_oldest(self) -> None:
        fast = FastKeyposeNetwork(build(SMALL))
        fast.words.capacity = 2
        for word in (1, 2, 1, 3):
            with torch.no_grad():
                fast.words(torch.tensor([[word]]))
        assert len(fast.words) == 2
        assert {key[1][0] for key in fast.words._known} == {1, 3}


class TestFewerSteps:
    def test_times_are_those_of_leading_spacing(self) -> None:
        assert DdpmSteps(Ddpm(100), 10).times.tolist() == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
        assert DdpmSteps(Ddpm(100), 7).times.tolist() == [84, 70, 56, 42, 28, 14, 0]

    def test_all_steps_are_the_plain_ones(self) -> None:
        plain = Ddpm(10)
        fast, noise = DdpmSteps(plain, 10), torch.randn(10, 4, 9)
        x, y = torch.randn(4, 9), None
        y = x.clone()
        for index in range(10):
            predicted = torch.randn(4, 9)
            x = plain.step(index, x, predicted, noise[index])
            y = fast.advance(index, y, predicted, fast.scaled(noise))
        assert difference(x, y) <= 1e-6

    def test_step_of_a_stride_is_the_posterior(self) -> None:
        plain = Ddpm(100)
        fast, noisy, predicted = DdpmSteps(plain, 10), torch.randn(9) * 0.1, torch.randn(9) * 0.1
        kept, before = plain.kept[90], plain.kept[80]
        clean = ((noisy - (1 - kept).sqrt() * predicted) / kept.sqrt()).clamp(-1, 1)
        alpha = kept / before
        mean = (before.sqrt() * (1 - alpha) * clean + alpha.sqrt() * (1 - before) * noisy) / (1 - kept)
        assert difference(fast.advance(0, noisy, predicted, torch.zeros(10, 9)), mean) <= 1e-6

    def test_diffusion_with_fewer_steps_is_near(self) -> None:
        plain, inputs = build(DIFFUSION), observe(DIFFUSION)
        fast = FastKeyposeNetwork(plain, steps=10)
        noise = draw(replace(DIFFUSION, steps=10))
        found = fast.predict(inputs, noise)
        assert found.isfinite().all()
        with pytest.raises(ValueError, match=r"Noise.steps has shape \(100, .*wants \(10, "):
            fast.predict(inputs, draw(DIFFUSION))

    def test_flow_with_its_own_steps_is_the_plain_flow(self) -> None:
        plain, inputs, noise = build(SMALL), observe(SMALL), draw(SMALL)
        few = replace(SMALL, steps=3)
        other = KeyposeNetwork(few, plain.workspace_normalizer).eval()
        other.load_state_dict(plain.state_dict())
        found = FastKeyposeNetwork(plain, steps=3).predict(inputs, noise)
        assert difference(found, other.predict(inputs, noise)) <= CLOSE

    @pytest.mark.parametrize("steps", [0, 101])
    def test_there_must_be_so_many(self, steps: int) -> None:
        with pytest.raises(ValueError, match="wanted 1"):
            FastKeyposeNetwork(build(DIFFUSION), steps=steps)


class TestMistakes:
    @pytest.mark.parametrize("shape", [(3, 1, 1, 9), (2, 1, 2, 9), (2, 1, 1, 8), (2, 1, 9)])
    def test_noise_for_something_else(self, shape: tuple[int, ...]) -> None:
        fast = FastKeyposeNetwork(build(SMALL))
        start = torch.zeros(shape)
        with pytest.raises(ValueError, match=r"Noise.start has shape .*2 scene\(s\) and 1 hand"):
            fast.predict(observe(SMALL), Noise(start, start.new_zeros(0, *shape)))

    def test_noise_of_another_denoiser(self) -> None:
        fast = FastKeyposeNetwork(build(SMALL))
        with pytest.raises(ValueError, match=r"Noise.steps has shape .*wants \(0, "):
            fast.predict(observe(SMALL), draw(replace(DIFFUSION, steps=5)))

    def test_input_for_another_network(self) -> None:
        fast = FastKeyposeNetwork(build(SMALL))
        with pytest.raises(ValueError, match=r"NetworkInput.rgb: wanted shape"):
            fast.encode(observe(replace(SMALL, cameras=2)))

    def test_nothing_to_fold(self) -> None:
        with pytest.raises(ValueError, match="nano"):
            FastKeyposeNetwork(build(SMALL), folded=True)


def test_half_precision_is_near() -> None:
    plain, inputs, noise = build(SMALL), observe(SMALL), draw(SMALL)
    found = FastKeyposeNetwork(plain, dtype=torch.bfloat16).predict(inputs, noise)
    assert found.dtype == torch.float32
    assert 0 < difference(found[..., :3], plain.predict(inputs, noise)[..., :3]) < 0.1
