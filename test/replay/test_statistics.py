"""Paired statistics over recordings."""

from stvla_ros.replay.statistics import HEAD, paired


def rows(
    pairs: list[tuple[float | None, float | None]],
) -> list[tuple[dict[str, float | None], dict[str, float | None]]]:
    return [({"keypose_mm": a}, {"keypose_mm": b}) for a, b in pairs]


def test_a_line_of_heads_and_one_per_figure() -> None:
    head, line = paired(rows([(1.0, 2.0), (2.0, 2.5), (4.0, 3.0), (None, 9.0)]))
    assert tuple(head) == HEAD
    assert line == ["keypose off, mm", "2", "2.5", "+0.5", "2", "1", "0", "–"]


def test_wilcoxon_from_six_unequal_pairs_on() -> None:
    """All six in one direction: p = 2 / 2 ** 6 (Wilcoxon 1945, exact)."""
    _, line = paired(rows([(0.0, float(i)) for i in range(1, 7)]))
    assert line[-1] == "0.031"
