"""The query-heatmap network: a convolutional trunk, a word transformer, and one heatmap per named object.

The words give two queries, one for the start of a step and one for its end. Each query's product with the image
features is a heatmap over 64 x 64 cells. One more value, which no cell may exceed if the object is absent, means "not
in the image". The words alone determine the action, the objects and the number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stvla_ros.planning.heatmap.words import ACTIONS, KINDS, MAX_STEPS, MAX_WORDS, PALETTE

CELLS = 64
"""Cells of the heatmap along each axis; the image has four times as many pixels."""

WINDOW = 2
"""A position is the mean of the heatmap within this many cells of its maximum."""

NO_COLOUR = len(PALETTE)


@dataclass(frozen=True)
class HeatmapNetworkConfig:
    """Architecture.

    Attributes:
        vocabulary: Number of words, including padding and the unknown word.
        actions: Number of the first :data:`~stvla_ros.planning.heatmap.words.ACTIONS` that it tells apart.
        kinds: The same of :data:`~stvla_ros.planning.heatmap.words.KINDS`.
        width: Width of the cell features.
        words_width: Width of the word transformer.
        words_layers: Its depth.
    """

    vocabulary: int
    actions: int = len(ACTIONS)
    kinds: int = len(KINDS)
    width: int = 64
    words_width: int = 64
    words_layers: int = 2


@dataclass(frozen=True, eq=False)
class TextQuery:
    """The interpretation of T texts.

    Attributes:
        query: (T, 2, width) of start and end.
        absent: (T, 2) logits of "not in the image".
        action: (T, actions) logits over ``ACTIONS``.
        steps: (T, 3) logits of the number of steps.
        kind: (T, 2, kinds) logits over ``KINDS``.
        colour: (T, 2, 21) logits over the colours; the last means none.
    """

    query: Tensor
    absent: Tensor
    action: Tensor
    steps: Tensor
    kind: Tensor
    colour: Tensor


class _Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


def _conv(width_in: int, width_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(width_in, width_out, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width_out), nn.ReLU())


class _Trunk(nn.Module):
    """(B, 3, 256, 256) to (B, width, 64, 64), with the surroundings of each cell seen at strides 8 and 16."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(_conv(3, 24, 5, 2), _conv(24, 48, 3, 2), _Block(48))
        self.middle = nn.Sequential(_conv(48, 80, 3, 2), _Block(80))
        self.coarse = nn.Sequential(_conv(80, 96, 3, 2), _Block(96))
        self.from_fine, self.from_middle = nn.Conv2d(48, width, 1), nn.Conv2d(80, width, 1)
        self.from_coarse = nn.Conv2d(96, width, 1)
        self.join = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        fine = self.fine(image)
        middle = self.middle(fine)
        around = self.from_middle(middle) + _doubled(self.from_coarse(self.coarse(middle)))
        out: Tensor = self.join(self.from_fine(fine) + _doubled(around))
        return out


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class _Layer(nn.Module):
    """One layer of a transformer, norms first."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """(T, L, width) of (T, L, width); ``seen`` (T, 1, 1, L) is false for padding."""
        q, k, v = self.look(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, seen)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.think(self.between(x))


class _Words(nn.Module):
    """Words and the number of a step to two queries and what they mean."""

    def __init__(self, config: HeatmapNetworkConfig) -> None:
        super().__init__()
        width = config.words_width
        self.word = nn.Embedding(config.vocabulary, width, padding_idx=0)
        self.place = nn.Parameter(torch.randn(MAX_WORDS, width) * 0.1)
        self.ask = nn.Parameter(torch.randn(2, width) * 0.3)
        self.step = nn.Embedding(MAX_STEPS, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(config.words_layers))
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, config.width)
        self.absent = nn.Linear(width, 1)
        self.action, self.steps = nn.Linear(width, config.actions), nn.Linear(width, MAX_STEPS)
        self.kind, self.colour = nn.Linear(width, config.kinds), nn.Linear(width, NO_COLOUR + 1)

    def forward(self, words: Tensor, step: Tensor) -> TextQuery:
        ask = self.ask + self.step(step)[:, None]
        x = torch.cat([ask, self.word(words) + self.place[: words.shape[1]]], 1)
        seen = torch.cat([words.new_ones((len(words), 2), dtype=torch.bool), words != 0], 1)[:, None, None]
        for layer in self.layers:
            x = layer(x, seen)
        x = self.norm(x[:, :2])
        return TextQuery(
            self.query(x),
            self.absent(x)[..., 0],
            self.action(x[:, 0]),
            self.steps(x[:, 0]),
            self.kind(x),
            self.colour(x),
        )


class HeatmapNetwork(nn.Module):
    """Image and words to heatmaps."""

    def __init__(self, config: HeatmapNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk, self.words = _Trunk(config.width), _Words(config)
        self.cell_kind = nn.Conv2d(config.width, config.kinds + 2, 1)
        self.cell_colour = nn.Conv2d(config.width, NO_COLOUR + 1, 1)

    def features(self, rgb: Tensor) -> Tensor:
        """(B, width, 64, 64) of (B, 3, 256, 256) images, values 0..1."""
        image = ((rgb - 0.5) * 4).contiguous(memory_format=torch.channels_last)
        out: Tensor = self.trunk(image)
        return out

    def heat(self, features: Tensor, asked: TextQuery, image: Tensor) -> Tensor:
        """(T, 2, 64 * 64 + 1) logits; the last: not in the image.

        Args:
            features: (B, width, 64, 64).
            asked: T texts.
            image: (T,) which image each text is about; ascending.
        """
        cells, counts = features.flatten(2).float(), torch.bincount(image, minlength=len(features)).tolist()
        heat = torch.cat([q.flatten(0, 1) @ c for q, c in zip(asked.query.split(counts), cells, strict=True)])
        heat = heat.unflatten(0, (-1, 2)) / self.config.width**0.5
        return torch.cat([heat, asked.absent[..., None]], -1)


def positions(heat: Tensor) -> tuple[Tensor, Tensor]:
    """Where heatmaps have their maximum.

    Args:
        heat: (..., 64 * 64 + 1) logits.

    Returns:
        (..., 2) u and v in 0..1000, and (...) the share of all probability that lies around there.
    """
    probability = heat.float().softmax(-1)[..., :-1]
    best = probability.argmax(-1)
    return local_mean(probability, best)


def elsewhere(heat: Tensor) -> tuple[Tensor, Tensor]:
    """The second maximum, twice the ``WINDOW`` of :func:`positions` away.

    Args:
        heat: (..., 64 * 64 + 1) logits.

    Returns:
        As of :func:`positions`.
    """
    probability = heat.float().softmax(-1)[..., :-1]
    best = probability.argmax(-1, keepdim=True)
    cell = torch.arange(CELLS * CELLS, device=heat.device)
    rows, columns = (cell // CELLS - best // CELLS).abs(), (cell % CELLS - best % CELLS).abs()
    other = probability.masked_fill(torch.maximum(rows, columns) <= 2 * WINDOW, 0.0)
    return local_mean(other, other.argmax(-1))


def local_mean(probability: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Mean position within ``WINDOW`` of a cell: (..., 2) in 0..1000, and (...) the probability there."""
    row, column = cell // CELLS, cell % CELLS
    around = torch.arange(-WINDOW, WINDOW + 1, device=cell.device)
    rows, columns = row[..., None] + around, column[..., None] + around
    inside = ((rows >= 0) & (rows < CELLS))[..., :, None] & ((columns >= 0) & (columns < CELLS))[..., None, :]
    index = rows.clamp(0, CELLS - 1)[..., :, None] * CELLS + columns.clamp(0, CELLS - 1)[..., None, :]
    weight = torch.gather(probability, -1, index.flatten(-2)) * inside.flatten(-2)
    mass = weight.sum(-1)
    share = (weight / mass.clamp_min(1e-9)[..., None]).unflatten(-1, inside.shape[-2:])
    v = (share.sum(-1) * (rows + 0.5)).sum(-1)
    u = (share.sum(-2) * (columns + 0.5)).sum(-1)
    return torch.stack([u, v], -1) * (1000 / CELLS), mass
