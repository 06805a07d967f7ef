"""Samplers against closed forms: for Gaussian data the perfect denoiser is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from stvla_ros.policy.st4vla.config import ActionExpertConfig
from stvla_ros.policy.st4vla.heads import ActionHead, DiffusionHead, FlowHead, action_head, kept_signal, sampling_times

MEAN, SPREAD = 0.3, 0.2
CONFIG = ActionExpertConfig(
    vlm_width=4, queries=2, bridge_width=4, bridge_heads=2, width=8, depth=1, heads=2, chunk=3, action_dim=2,
    guidance=1.0, clip=None,
)  # fmt: skip


class Known(torch.nn.Module):
    """In place of the network: the expectation of noise (or velocity) given noisy Gaussian data."""

    def __init__(self, head: ActionHead, mean: float, spread: float, error: float = 0.0) -> None:
        super().__init__()
        self.flow, self.mean, self.spread, self.error = isinstance(head, FlowHead), mean, spread, error
        self.kept = kept_signal(head.config.diffusion_steps)
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor, times: Tensor, condition: Tensor, dropped: Tensor | None = None) -> Tensor:
        self.inputs.append(x)
        if self.flow:
            t = (times / 1000)[:, None, None].double()
            a, b = 1 - t, t
        else:
            kept = self.kept[times.long()][:, None, None]
            a, b = kept.sqrt(), (1 - kept).sqrt()
        shared = (x - a * self.mean) / (a**2 * self.spread**2 + b**2)
        noise, clean = b * shared, self.mean + a * self.spread**2 * shared
        return (noise - clean if self.flow else noise) + self.error


def sampled(config: ActionExpertConfig, noise: Tensor, spread: float = SPREAD, error: float = 0.0) -> Tensor:
    head = action_head(config)
    head.net = Known(head, MEAN, spread, error)
    return head.sample(torch.zeros(len(noise), 2, 4), noise)


def noises(count: int = 400) -> Tensor:
    return torch.randn(count, 3, 2, dtype=torch.float64, generator=torch.manual_seed(0))


@pytest.mark.parametrize(
    ("spacing", "steps"), [("trailing", 1), *((s, n) for s in ("trailing", "leading") for n in (5, 10, 20, 100))]
)
def test_ddim_of_gaussian_data_is_a_known_product(spacing: str, steps: int) -> None:
    """Every step scales the distance from the mean by a factor that the two levels of noise decide."""
    kept = kept_signal(100).numpy()
    times = sampling_times(100, steps, spacing)
    noise = noises(3).numpy()
    distance = noise - np.sqrt(kept[times[0]]) * MEAN
    for k, time in enumerate(times):
        a, b = kept[time], kept[times[k + 1]] if k + 1 < len(times) else 1.0
        distance *= (np.sqrt(a * b) * SPREAD**2 + np.sqrt((1 - a) * (1 - b))) / (a * SPREAD**2 + 1 - a)
    found = sampled(replace(CONFIG, spacing=spacing, sampling_steps=steps), torch.from_numpy(noise))
    np.testing.assert_allclose(found, MEAN + distance, atol=1e-9)


def test_data_at_one_point_are_found_in_any_number_of_steps() -> None:
    for steps in (1, 3, 10, 100):
        for head in ("diffusion", "flow"):
            found = sampled(replace(CONFIG, head=head, sampling_steps=steps), noises(3), spread=0.0)
            np.testing.assert_allclose(found, MEAN, atol=1e-6)


@pytest.mark.parametrize("head", ["diffusion", "flow"])
def test_many_steps_give_the_distribution_of_the_data(head: str) -> None:
    found = sampled(replace(CONFIG, head=head, sampling_steps=100), noises())
    assert float(found.mean()) == pytest.approx(MEAN, abs=3 * SPREAD / found.numel() ** 0.5)
    assert float(found.std()) == pytest.approx(SPREAD, rel=0.12)


def test_euler_steps_of_a_flow_are_a_known_product() -> None:
    noise = noises(3)
    x = noise.numpy().copy()
    for k in range(4):
        t = 1 - k / 4
        slope = (t - (1 - t) * SPREAD**2) / ((1 - t) ** 2 * SPREAD**2 + t**2)
        x = x - (slope * (x - (1 - t) * MEAN) - MEAN) / 4
    found = sampled(replace(CONFIG, head="flow", sampling_steps=4), noise)
    np.testing.assert_allclose(found, x, atol=1e-9)


def test_trailing_sampling_starts_where_pure_noise_belongs() -> None:
    """Mean of 10 steps: leading spacing treats noise as data with a trace of signal, and loses some of the mean."""
    assert sampling_times(100, 10, "trailing") == [99, 89, 79, 69, 59, 49, 39, 29, 19, 9]
    assert sampling_times(100, 10, "leading") == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
    assert [sampling_times(100, n, "leading")[0] for n in (5, 20)] == [80, 95]
    kept = kept_signal(100)
    amplitude = [float(kept[t].sqrt()) for t in (80, 90, 95)]
    assert amplitude == pytest.approx([0.29, 0.14, 0.06], abs=0.006)
    error = {}
    for spacing in ("trailing", "leading"):
        found = sampled(replace(CONFIG, spacing=spacing), noises(), spread=0.4)
        error[spacing] = abs(float(found.mean() - MEAN) - float(noises().mean()) * 0.4)
    assert error["trailing"] < 0.3 * error["leading"]
    with pytest.raises(ValueError, match="no stride gives 30 of 100"):
        sampling_times(100, 30, "leading")


def test_an_error_in_the_last_diffusion_step_leaves_the_workspace_unless_clipped() -> None:
    """One hundredth off in the predicted noise: by how much the second evaluation's input is off."""
    noise, off = noises(3), {}
    for clip in (None, 1.0):
        second = []
        for error in (0.0, 0.01):
            head = action_head(replace(CONFIG, clip=clip))
            head.net = Known(head, MEAN, SPREAD, error)
            head.sample(torch.zeros(len(noise), 2, 4), noise)
            second.append(head.net.inputs[1])
        off[clip] = float((second[1] - second[0]).abs().max())
    assert off[None] == pytest.approx(3.2, abs=0.4)
    assert off[1.0] < 0.32
    assert 1 / float(kept_signal(100)[99].sqrt()) == pytest.approx(2000, rel=0.1)


def test_clipping_changes_nothing_within_the_workspace() -> None:
    free, clipped = (sampled(replace(CONFIG, clip=clip), noises(3), spread=0.05) for clip in (None, 1.0))
    np.testing.assert_allclose(free, clipped, atol=1e-9)


@pytest.mark.parametrize("head", ["diffusion", "flow"])
@pytest.mark.parametrize("guidance", [1.0, 1.5, 4.0])
def test_guidance_goes_on_from_the_unconditional_prediction(head: str, guidance: float) -> None:
    torch.manual_seed(0)
    made = action_head(replace(CONFIG, head=head, guidance=guidance)).eval()
    torch.nn.init.normal_(made.net.final_layer.linear.weight)
    x, told = torch.randn(4, 3, 2), torch.randn(4, 2, 4)
    time = 0.25 if head == "flow" else 25.0
    shown = torch.full((4,), 250.0 if head == "flow" else 25.0)
    known = made.net(x, shown, told)
    unknown = made.net(x, shown, torch.zeros_like(told), torch.ones(4).bool())
    torch.testing.assert_close(made.guided(x, time, told), (1 - guidance) * unknown + guidance * known)
    assert not torch.allclose(known, unknown, atol=1e-3)


def test_times_of_training() -> None:
    actions = torch.zeros(2000, 3, 2)
    diffusion, flow = (action_head(replace(CONFIG, head=head, dropped=0.1)) for head in ("diffusion", "flow"))
    assert isinstance(diffusion, DiffusionHead)
    drawn = diffusion.draw(actions, torch.manual_seed(0))
    assert (int(drawn.times.min()), int(drawn.times.max()), len(drawn.times)) == (0, 99, 8000)
    assert float(drawn.dropped.float().mean()) == pytest.approx(0.1, abs=0.012)
    times = flow.draw(actions, torch.manual_seed(0)).times
    assert float(times.mean()) == pytest.approx(0.6, abs=0.012)  # of Beta(1.5, 1)
    assert float(times.var()) == pytest.approx(1.5 / (2.5**2 * 3.5), abs=0.004)


def test_no_randomness_is_left_in_sampling() -> None:
    torch.manual_seed(1)
    made = action_head(CONFIG).eval()
    torch.nn.init.normal_(made.net.final_layer.linear.weight)
    told, noise = torch.randn(2, 2, 4), torch.randn(2, 3, 2)
    assert torch.equal(made.sample(told, noise), made.sample(told, noise))
    assert not torch.allclose(made.sample(told, noise), made.sample(told, -noise))
