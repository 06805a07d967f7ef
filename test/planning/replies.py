"""Replies as models write them, and how they go wrong. Made from a seed, so that a failure can be run again."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable

Points = list[tuple[float, float]]


def pair(point: tuple[float, float], brackets: str = "()") -> str:
    return f"{brackets[0]}{point[0]:g}, {point[1]:g}{brackets[1]}"


def plain(points: Points) -> str:
    return f"[{', '.join(pair(p) for p in points)}]"


def nested(points: Points) -> str:
    return f"[{', '.join(pair(p, '[]') for p in points)}]"


def labelled(points: Points) -> str:
    return json.dumps([{"point_2d": list(p), "label": f"waypoint {k}"} for k, p in enumerate(points)])


FORMS: dict[str, Callable[[Points], str]] = {
    "tuples": plain,
    "lists": nested,
    "constrained": lambda p: json.dumps({"points": [list(q) for q in p]}),
    "labelled": labelled,
    "with depth": lambda p: json.dumps([{"point_2d": list(q), "depth": 1.08} for q in p]),
    "point": lambda p: json.dumps([{"point": list(q)} for q in p]),
    "fenced": lambda p: f"Here it is:\n```json\n{labelled(p)}\n```\nThe arm goes around (3 things).",
    "point tags": lambda p: "".join(f"<point>[[{q[0]:g}, {q[1]:g}]]</point>" for q in p),
    "ans": lambda p: f"TRAJECTORY: <ans>{plain(p)}</ans>",
    "answer start": lambda p: f"<answer_start> {plain(p)} <answer_end>",
    "answer": lambda p: f"<think>maybe [(1, 2), (3, 4)]?</think><answer>```json\n{labelled(p)}\n```</answer>",
    "unclosed": lambda p: plain(p)[:-1],
    "between words": lambda p: f"From (9, 9) to (8, 8): {plain(p)}. It ends at {pair(p[-1])}.",
    "numbered": lambda p: "\n".join(f"{k}. {pair(q)}" for k, q in enumerate(p, 1)),
    "named": lambda p: "\n".join(f"Point {k}: {pair(q)}" for k, q in enumerate(p, 1)),
    "actions": lambda p: f"<ans>[{', <action>Close Gripper</action>, '.join(pair(q) for q in p)}]</ans>",
    "arrows": lambda p: " -> ".join(pair(q) for q in p),
    "floats": lambda p: json.dumps([[q[0] + 0.0, q[1] + 0.0] for q in p]),
}

NO_NUMBERS = (
    "NaN",
    "nan",
    "Infinity",
    "-inf",
    "null",
    "1e999",
    "1e400",
    "--5",
    "5-",
    "0x1F",
    "1_0",
    "٣٤",
    "３４",
    "abc",
    "",
)


def some_points(rng: random.Random, count: int = 8) -> Points:
    if rng.random() < 0.2:
        return [(round(rng.uniform(0, 999), 2), round(rng.uniform(0, 999), 2)) for _ in range(count)]
    return [(rng.randint(0, 1000), rng.randint(2, 1000)) for _ in range(count)]


def broken(rng: random.Random, form: str) -> str:
    """A list in one of the forms that is certainly no list of 8 points in range."""
    write, points = FORMS[form], some_points(rng)
    kind = rng.randrange(5)
    if kind == 0:
        return write(some_points(rng, rng.choice([2, 3, 7, 9, 16, 40])))
    if kind == 1:
        k = rng.randrange(8)
        points[k] = rng.choice([(-1, 5), (5, 1001), (1000.5, 5), (10**9, 5), (5, -0.01), (1e17, 3)])
        return write(points)
    text = write([*points[:3], (31731, 5), *points[4:]])  # replaced below; stands nowhere else
    if kind == 2:
        return re.sub(r"31731(\.0)?", rng.choice(NO_NUMBERS), text)
    if kind == 3:
        return text.replace("31731", "317, 31")
    last = write([*points[:7], (31731, 5)])
    return last[: last.index("31731") + rng.randrange(5)]


def mutated(rng: random.Random, text: str) -> str:
    """A few random edits."""
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(len(text) + 1), rng.randint(0, 12)
        junk = rng.choice(JUNK)
        text = text[:at] + (junk if isinstance(junk, str) else junk(rng)) + text[at + rng.choice([0, 0, 1, length]) :]
    return text


JUNK: tuple[str | Callable[[random.Random], str], ...] = (
    *"[](){}<>,:;\"'`-+.\n\0 019",
    *NO_NUMBERS,
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "```",
        "```json\n",
        "<point>",
        '"point_2d":',
        "\\u0030",
        "\ud800",
    ),
    lambda r: "[" * r.randint(1, 60),
    lambda r: "9" * r.randint(1, 400),
    lambda r: "".join(
        chr(r.choice([r.randrange(128), r.randrange(0x660, 0x66A), r.randrange(0x110000)])) for _ in range(5)
    ),
)


def noise(rng: random.Random) -> str:
    """Random bytes, digits and brackets."""
    alphabet = rng.choice(["[](),0123456789. ", "".join(map(chr, range(256))), "[{(", "(1, 2)"])
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(0, 200)))
