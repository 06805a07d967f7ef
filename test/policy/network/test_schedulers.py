"""Noise schedules against their published values and the identities that define them."""

import pytest
import torch

from stvla_ros.policy.network.schedulers import Ddpm, Flow

DEVICE = torch.device("cpu")


@pytest.mark.parametrize(
    ("channel", "time", "kept"),
    [(0, 0, 0.99990), (0, 50, 0.8915), (0, 99, 0.4846), (3, 0, 0.99937), (3, 50, 0.4783), (8, 99, 2.4e-7)],
)
def test_share_of_signal_kept(channel: int, time: int, kept: float) -> None:
    assert Ddpm(100).kept[time, channel].item() == pytest.approx(kept, rel=2e-2 if kept < 1e-3 else 1e-4)


def test_mean_and_variance_of_the_posterior() -> None:
    ddpm = Ddpm(100)
    kept = ddpm.kept.double()
    before = torch.cat((torch.ones(1, 9, dtype=torch.float64), kept[:-1]))
    torch.testing.assert_close(ddpm.of_clean + ddpm.of_noisy * kept.sqrt(), before.sqrt(), atol=1e-4, rtol=0)
    variance = ddpm.deviation.double() ** 2 + ddpm.of_noisy**2 * (1 - kept)
    torch.testing.assert_close(variance, 1 - before, atol=1e-4, rtol=0)


def test_diffusion_with_the_true_noise_predicted() -> None:
    ddpm = Ddpm(100)
    clean = torch.rand(4, 1, 1, 9) * 1.8 - 0.9
    x = torch.randn(clean.shape)
    for index, time in enumerate(ddpm.times):
        true = (x - ddpm.kept[time].sqrt() * clean) / (1 - ddpm.kept[time]).sqrt()
        x = ddpm.step(index, x, true, torch.randn(x.shape))
    torch.testing.assert_close(x, clean, atol=1e-4, rtol=0)


def test_diffusion_clips_what_it_takes_for_clean() -> None:
    x = Ddpm(100).step(99, torch.full((1, 9), 50.0), torch.zeros(1, 9))
    torch.testing.assert_close(x, torch.ones(1, 9))


def test_diffusion_needs_noise() -> None:
    with pytest.raises(ValueError, match=r"Diffusion step 0 needs noise of shape \(1, 9\)"):
        Ddpm(10).step(0, torch.zeros(1, 9), torch.zeros(1, 9))


def test_diffusion_noise_level() -> None:
    ddpm = Ddpm(100)
    clean, noise = torch.randn(2, 3, 1, 1, 9)
    noisy = ddpm.add_noise(clean, noise, torch.tensor([0, 50, 99]))
    expected = 0.4846**0.5 * clean[2, 0, 0, :3] + 0.5154**0.5 * noise[2, 0, 0, :3]
    torch.testing.assert_close(noisy[2, 0, 0, :3], expected, atol=1e-3, rtol=0)
    assert ddpm.target(clean, noise) is noise


def test_flow_along_the_true_velocity() -> None:
    flow = Flow(5)
    assert flow.times == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    clean, noise = torch.randn(2, 3, 1, 1, 9)
    x = noise
    for index, time in enumerate(flow.times):
        torch.testing.assert_close(x, flow.add_noise(clean, noise, torch.full((3,), time)))
        x = flow.step(index, x, flow.target(clean, noise))
    torch.testing.assert_close(x, clean)


def test_times_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = Flow(5).draw_times(20000, generator, DEVICE).logit()
    assert logits.mean().item() == pytest.approx(0.0, abs=0.05)
    assert logits.std().item() == pytest.approx(1.5, abs=0.05)
    times = Ddpm(10).draw_times(1000, generator, DEVICE)
    assert times.unique().tolist() == list(range(10))
