"""Warnings on what has become old, which the browser draws by itself: the console may be frozen, or the link may stall.

What is shown comes in one message with the time that is left until it is old, and the browser counts that down: a CSS
animation hides the warning for so long. It needs neither the console nor the link, and where there is no such animation
the warning is always there.

A message that stalled on its way has less time left than was written into it. How much less the browser sees by the
console's clock in it: by so much it is later than the fastest message so far, and a custom element takes that off before
anything is drawn. What the fastest one took the console has taken off (:class:`stvla_ros.console.gate.Link`).
"""

from __future__ import annotations

import html
import secrets
from base64 import b64encode
from collections.abc import Sequence
from math import isfinite

from stvla_ros.console.views import OLD_S

MARGIN_S = 0.1
"""The warning comes so much earlier: a browser draws what it got somewhat later."""

DRIFT = 1e-5
"""[s per message] The fastest message is forgotten so slowly, as two computers' clocks run apart: at some 8 messages per
second, by less than 0.08 ms per second."""

CLOCK = secrets.token_hex(4)
"""Another console, on the same address later, has another clock."""

ELEMENT = f"""\
<style>@keyframes stvla-old{{from{{visibility:hidden}}to{{visibility:visible}}}}
stvla-old{{background:#c00;color:#fff;font-weight:bold;padding:0 .5em}}</style>
<img hidden src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=" onload="
customElements.get('stvla-old') || customElements.define('stvla-old', class extends HTMLElement {{
  static fastest = {{}};
  connectedCallback() {{
    const {{clock, sent, left}} = this.dataset, fastest = this.constructor.fastest;
    const took = performance.now() / 1e3 - sent;
    fastest[clock] = Math.min(took, (fastest[clock] ?? took) + {DRIFT});
    const delay = left - (took - fastest[clock]);
    if (delay > 0) this.style.animation = 'stvla-old 1ms ' + delay + 's both';
  }}
}})">"""
"""HTML that makes a page understand :func:`mark`."""


def left_s(age_s: float, latency_s: float) -> float:
    """Time that is left [s] when something is sent until it is old where it arrives; 0: it is, or may be.

    Args:
        age_s: When it is sent; infinite: there is none.
        latency_s: Of the connection; infinite: unknown.
    """
    return max(0.0, OLD_S - MARGIN_S - age_s - latency_s)


def mark(text: str, left_s: float, sent_s: float, style: str) -> str:
    """A warning as HTML that shows up once no time [s] is left.

    Args:
        text: The warning.
        left_s: See :func:`left_s`.
        sent_s: The console's clock, monotonic, when it is sent.
        style: Where it is, as CSS.
    """
    data = f'data-clock="{CLOCK}" data-sent="{sent_s:.3f}" data-left="{left_s:.3f}"'
    return f'<stvla-old {data} style="{style}">{html.escape(text)}</stvla-old>'


def data_url(jpeg: bytes) -> str:
    """A picture as an address."""
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


def beside(
    url: str, size_px: tuple[int, int], marks: Sequence[tuple[str, float]], taken_s: float, sent_s: float
) -> str:
    """A picture of several parts, side by side, with a mark on each, as HTML.

    Args:
        url: Of the picture.
        size_px: Its width and height.
        marks: Text and time left [s] of each part, from left to right.
        taken_s: The console's clock when the first part was taken, for whoever measures; not finite: never.
        sent_s: See :func:`mark`.
    """
    width, height = size_px
    drawn = "".join(
        mark(text, left, sent_s, f"position:absolute;top:.3em;left:{100.0 * number / len(marks) + 1.0:.0f}%")
        for number, (text, left) in enumerate(marks)
    )
    taken = f'data-taken="{taken_s:.3f}" ' if isfinite(taken_s) else ""
    return (
        f'<div {taken}style="position:relative;margin:0 .75em .5em"><img width={width} height={height} decoding="sync" '
        f'style="display:block;width:100%;height:auto" src="{url}">{drawn}</div>'
    )


def across(text: str, left_s: float, sent_s: float) -> str:
    """A mark across the bottom of the whole page, as HTML."""
    style = "position:fixed;bottom:0;left:0;right:0;z-index:10000;text-align:center;padding:.5em;pointer-events:none"
    return mark(text, left_s, sent_s, style)
