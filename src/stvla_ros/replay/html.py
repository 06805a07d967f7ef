"""HTML that is safe by construction, and plots as SVG: all text is escaped, only elements are not."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from math import ceil, floor, isfinite, isnan, log10
from pathlib import Path
from string import Template

from stvla_ros.config import ConfigError
from stvla_ros.files import written

NUMBERS = ("position mm", "rotation °", "path RMSE mm", "mask IoU")
"""Heads of the columns with differences."""

VOID = ("img", "input", "br")
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 520, 170, 52, 30, 12, 12


class Html(str):
    """Text that is HTML already."""


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. Children that are not :class:`Html` are escaped; ``None`` attributes are left out.

    A trailing underscore of an attribute's name is dropped (``class_``), the others become hyphens. ``True`` is an
    attribute without a value.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            label = key.rstrip("_").replace("_", "-")
            words.append(label if value is True else f'{label}="{html.escape(str(value))}"')
    inside = "".join(child if isinstance(child, Html) else html.escape(str(child)) for child in children)
    opening = f"<{' '.join(words)}>"
    return Html(opening if name in VOID else f"{opening}{inside}</{name}>")


def joined(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], class_: str = "") -> Html:
    """A table; columns whose head ends in a unit or a sign of number are aligned by the style sheet."""
    top = element("tr", *(element("th", text, scope="col") for text in head))
    body = joined(element("tr", *(element("td", cell) for cell in row)) for row in rows)
    return element("div", element("table", element("thead", top), element("tbody", body)), class_=f"wide {class_}")


def write_page(path: Path, title: str, body: Html) -> None:
    """Write a page that needs no other file. Raises ConfigError when it cannot be written."""
    template = Template(resources.files("stvla_ros.replay").joinpath("page.html").read_text(encoding="utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path, ConfigError) as part:
        part.write_text(template.substitute(title=html.escape(title), body=body), encoding="utf-8")


@dataclass(frozen=True)
class Series:
    """Points of a plot.

    Attributes:
        name: In the legend.
        style: ``first`` (blue dots), ``second`` (orange diamonds) or ``difference``.
        t_s: Times.
        values: As many; those that are not finite are left out.
    """

    name: str
    style: str
    t_s: Sequence[float]
    values: Sequence[float]

    @property
    def points(self) -> list[tuple[float, float]]:
        return [(t, v) for t, v in zip(self.t_s, self.values, strict=True) if isfinite(t) and isfinite(v)]


def plot(title: str, series: Sequence[Series], end_s: float, top: float | None = None) -> Html:
    """A scatter plot over time from 0 to ``end_s``, from 0 to ``top`` (None: the largest value); empty without points."""
    shown = [(one, one.points) for one in series if one.points]
    if not shown:
        return Html("")
    ticks = _ticks(top or max(v for _, points in shown for _, v in points) or 1.0)
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(t: float) -> float:
        return LEFT + across * t / max(end_s, 1e-9)

    def y(value: float) -> float:
        return TOP + up * (1 - value / ticks[-1])

    parts = [
        joined([
            element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y(v):.1f}", y2=f"{y(v):.1f}"),
            element("text", f"{v:g}", x=LEFT - 6, y=f"{y(v) + 4:.1f}", text_anchor="end"),
        ])
        for v in ticks
    ]  # fmt: skip
    for t in (t for t in _ticks(end_s) if t <= end_s):
        parts.append(element("text", f"{t:g} s", x=f"{x(t):.1f}", y=HEIGHT - 8, text_anchor="middle"))
    for one, points in shown:
        parts += [_marker(one.style, x(t), y(v)) for t, v in points]
    picture = element("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title)
    legend = [element("span", one.name, class_=f"key {one.style}") for one, _ in shown if len(series) > 1]
    return element("figure", element("figcaption", title, " ", *legend), picture, class_="plot")


def _marker(style: str, x: float, y: float) -> Html:
    if style == "second":
        return element("path", class_=style, d=f"M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4z")
    return element("circle", class_=style, cx=f"{x:.1f}", cy=f"{y:.1f}", r=4 if style == "first" else 3)


def _ticks(end: float) -> list[float]:
    """3 to 6 round numbers from 0; the last one is at least ``end``."""
    rough = max(end, 1e-9) / 4
    power = 10.0 ** floor(log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * (1 - 1e-9))
    return [round(i * step, 12) for i in range(ceil(end / step - 1e-9) + 1)]


def finite(values: Iterable[float]) -> list[float]:
    """Those that are known."""
    return [value for value in values if isfinite(value)]


def cells(values: Iterable[float]) -> list[str]:
    """Numbers for a table."""
    return ["–" if isnan(v) else f"{v:.3f}" if 0 < v < 1 else f"{v:.1f}" if v < 1000 else f"{v:.0f}" for v in values]
