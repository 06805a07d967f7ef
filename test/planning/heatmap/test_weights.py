"""The weights that come with the package: these bytes, these answers, trained on what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stvla_ros.files import digest
from stvla_ros.planning.heatmap.ground import WEIGHTS, small
from stvla_ros.planning.heatmap.weights_file import load, padded
from stvla_ros.planning.heatmap.words import Goal, Name
from stvla_ros.tables.run import WEIGHTS as TABLE_WEIGHTS

ALL, HELD_OUT = (TABLE_WEIGHTS / f"heatmap-{name}.safetensors" for name in ("all", "held-out"))
DIGESTS = {
    WEIGHTS: "c6e63919f26ed20b141e0b1a60f7002623ecb80747828e4fc4331ac6d3d8345d",
    ALL: "f1d455ab029f07cabd358cdd433cc5fb6db5daa52c01e0fecc429aeb60d88777",
    HELD_OUT: "249e9c79377d949a0103ccf1c8e1e804b74fe7bbf3bd6d0a5336bf66e65b03c0",
}
GOLDEN = {
    WEIGHTS: [0.73, 0.494, -0.304, -0.435, 1.091, 4.063],
    ALL: [1.953, 2.069, 1.139, 1.22, -3.036, -5.402],
    HELD_OUT: [2.424, 2.096, 0.678, 0.523, -2.588, -1.405],
}
"""Absent logits of start and end, the first of each query, and two of the features of noise."""


def golden(path: Path) -> list[float]:
    grounder = load(path)
    text = padded([grounder.numbers(Goal("stack", (Name("block", "red"), Name("block", "navy"))).sentence(0))])
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    with torch.inference_mode():
        asked = grounder.network.words(text, torch.zeros(1, dtype=torch.long))
        features = grounder.network.features(small(noise))[0].float().flatten(1)
    return [*asked.absent[0].tolist(), *asked.query[0, :, 0].tolist(), *features.mean(1)[:2].tolist()]


@pytest.mark.parametrize("path", DIGESTS, ids=lambda path: path.stem)
def test_these_bytes(path: Path) -> None:
    assert digest(path) == DIGESTS[path]
    assert path.stat().st_size < 1.5e6


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_output(path: Path) -> None:
    np.testing.assert_allclose(golden(path), GOLDEN[path], atol=2e-3)


def test_the_record_says_what_was_held_out() -> None:
    assert load(ALL).trained["experiment"]["all_colours"]
    assert not load(HELD_OUT).trained["experiment"]["all_colours"]
    assert load(ALL).trained["scenes_seen"] == load(HELD_OUT).trained["scenes_seen"] == 24_000
