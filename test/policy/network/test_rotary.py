"""The rotary encoding in three dimensions."""

import torch

from stvla_ros.policy.network.rotary import Sinusoidal, rotary_table, rotate

WIDTH = 24


def test_only_differences_of_position_matter() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 5, WIDTH)
    at, key_at, shift = torch.randn(1, 5, 3), torch.randn(1, 5, 3), torch.tensor([0.3, -2.0, 5.0])

    def products(offset: torch.Tensor) -> torch.Tensor:
        turned = rotate(query, rotary_table(at + offset, WIDTH))
        return turned @ rotate(key, rotary_table(key_at + offset, WIDTH)).mT

    torch.testing.assert_close(products(torch.zeros(3)), products(shift), atol=1e-5, rtol=0)
    assert not torch.allclose(products(torch.zeros(3)), query @ key.mT, atol=1e-2)


def test_channels_of_an_axis() -> None:
    table = rotary_table(torch.tensor([[[0.5, 0.0, 0.0]]]), WIDTH)
    third = WIDTH // 3
    angles = 0.5 * torch.tensor([10000 ** (-2 * k / third) for k in range(third // 2)])
    torch.testing.assert_close(table.cos[0, 0, :third:2], angles.cos())
    torch.testing.assert_close(table.sin[0, 0, 1:third:2], angles.sin())
    torch.testing.assert_close(table.sin[0, 0, :third:2], -angles.sin())
    assert (table.cos[0, 0, third:] == 1).all()
    assert (table.sin[0, 0, third:] == 0).all()


def test_lengths_are_kept() -> None:
    tokens = torch.randn(2, 7, WIDTH)
    turned = rotate(tokens, rotary_table(torch.randn(2, 7, 3), WIDTH))
    torch.testing.assert_close(turned.norm(dim=-1), tokens.norm(dim=-1))


def test_sinusoidal() -> None:
    values = Sinusoidal(8)(torch.tensor([0, 1]))
    torch.testing.assert_close(values[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    angles = torch.tensor([1.0, 10000 ** (-1 / 3), 10000 ** (-2 / 3), 1e-4])
    torch.testing.assert_close(values[1], torch.cat((angles.sin(), angles.cos())))
