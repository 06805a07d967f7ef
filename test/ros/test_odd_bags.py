"""Bags of other setups: what is read and what is said is what docs/bags.md says, and what is read is right."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ros.bags import START, TENTH
from ros.odd_bags import BAGS, DOC, MARK, OddBag, line, opened
from ros.odd_messages import RGB


@pytest.mark.parametrize("odd", BAGS, ids=[odd.name for odd in BAGS])
def test_odd_bag(odd: OddBag, tmp_path: Path) -> None:
    frames, said = opened(odd, tmp_path)
    assert line(odd, frames, said) in DOC.read_text().splitlines(), "run python -m ros.odd_bags"
    assert frames or said
    counts = []
    for recorded in frames:
        rgb, depth_m = recorded.frame.rgb.astype(int), recorded.frame.depth_m
        counts.append(round(float(rgb[..., 0].mean())) - RGB[0])
        np.testing.assert_allclose(
            rgb, np.broadcast_to(np.array(RGB) + counts[-1], rgb.shape), atol=0 if odd.exact else 3
        )
        assert np.isnan(depth_m[0, 0])
        np.testing.assert_allclose(depth_m[1:], 0.5, rtol=1e-6)
    assert counts == sorted(set(counts))
    stamps = [recorded.frame.stamp_ns for recorded in frames]
    assert all((b - a) % TENTH == 0 and b > a for a, b in pairwise(stamps))
    assert not stamps or stamps[0] - START in range(10 * TENTH)


def test_table_has_nothing_else() -> None:
    lines = [
        text
        for text in DOC.read_text().split(MARK)[1].splitlines()
        if text.startswith("| ") and not text.startswith("| bag |")
    ]
    assert len(lines) == len({odd.name for odd in BAGS}) == len(BAGS) >= 30
