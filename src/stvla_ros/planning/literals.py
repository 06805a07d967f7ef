"""Lists and points in an answer, written as JSON, Python or plain brackets. Nothing is evaluated; the work is linear.

An answer is split into tokens. Closed brackets become nodes. Outside all brackets, nodes that follow each other like
the items of one list form runs. Quoted parts are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import NamedTuple

from stvla_ros.planning.answer import MARK, is_thought, number

MAX_TOKENS = 12_000
"""Longer answers are refused."""

MAX_DEPTH = 8
"""Largest depth of nested brackets."""

MAX_GAP = 240
"""Points further apart in the text do not form a list."""

Point = tuple[float, float]

_TOKEN = re.compile(
    r"(?P<aside><action>[^<>]{0,80}</action>|<ref>[^<>]{0,80}</ref>"
    r"|<\|object_ref_start\|>[^<>]{0,80}<\|object_ref_end\|>"
    r"|(?<=[\"'\d]>)[^<>]{1,80}(?=</points?>))"
    rf"|(?P<mark>{MARK.pattern})"
    r"""|(?P<text>"(?:[^"\\\n]|\\.){0,400}"|(?<!\w)'(?:[^'\\\n]|\\.){0,400}'(?!\w))"""
    r"|(?P<number>[-+]?\.?\d[\w.]*(?:(?<=[eE])[-+]\d+)?)"
    r"|(?P<word>[^\W\d_](?:[\w’-]|'(?=\w)|\.(?=[^\W\d]))*)"
    r"|(?P<open>[\[({])|(?P<close>[\])}])|(?P<comma>[,;])|(?P<line>\n)|(?P<more>\.\.\.|…)|(?P<remark>\#|//)"
    r"|(?P<sign>[^\s])"
)
_WIDE = str.maketrans("（）［］｛｝，；：＝｜−－–。、“”„", '()[]{},;:=|---.,"""')
_NO_NUMBER = frozenset(("nan", "inf", "infinity", "null", "none"))
_DECIMAL = r"([-+]?\d{1,9}(?:\.\d{0,12})?)"
_BARE_POINT = re.compile(
    r"^([^\n()\[\]{}<>\"']{0,40}?)\b"
    rf"x\s?[=:]\s?{_DECIMAL}\s{{0,9}}[,;]?\s{{0,9}}\by\s?[=:]\s?{_DECIMAL}(?![\w%])",
    re.MULTILINE | re.IGNORECASE,
)
_HEADING = re.compile(r"[# \t]*\w")
_BRACKET_TAG = re.compile(r"<\|?/?(?:point|box|point_2d)(?:_start|_end)?\|?>", re.I)
_ATTRIBUTE = re.compile(r"\b([xy])(\d{0,3})\s?=\s?[\"']?([^\"'\s<>/]{1,40})[\"']?", re.I)
_JOINERS = frozenset(
    (
        "point",
        "points",
        "waypoint",
        "waypoints",
        "p",
        "wp",
        "point_2d",
        "label",
        "x",
        "y",
        "and",
        "then",
        "to",
        "step",
        "position",
    )
)
_OPENING, _CLOSING = "([{<", ")]}>"


class Token(NamedTuple):
    """A word, number, sign, mark or quoted text."""

    kind: str
    text: str
    start: int
    end: int


class Item(NamedTuple):
    """One item of a list or object: ``"x": 593`` has the key ``x`` and the value 593."""

    key: str
    value: float | str | Node | None


@dataclass(frozen=True, eq=False)
class Node:
    """A pair of brackets.

    Attributes:
        items: Its items; the value None is neither a number, a text nor a node.
        sound: The brackets match and are not too deep.
        counts: It contains numbers, or words such as NaN.
        depth: Depth of the brackets in it.
        words: All its words, texts and keys, to be searched for doubts.
    """

    items: tuple[Item, ...]
    sound: bool
    counts: bool
    depth: int
    start: int
    end: int
    words: tuple[str, ...]


Part = Token | Node


@dataclass
class Run:
    """Nodes that follow each other like the items of one list.

    Attributes:
        points: Points of all nodes.
        bad: The first node that is not a point.
        loose: Single points, as opposed to bracketed lists.
        bare: Single points without enclosing brackets.
        lined: The first point starts a line of a list: ``1. (593, 569)``.
        goes_on: Another item follows.
        described: Each point has a description on its line: ``1. (593, 569) - start``.
    """

    points: list[Point]
    bad: Node | None
    loose: bool
    bare: bool
    start: int
    end: int
    lined: bool
    goes_on: bool = False
    described: bool = False


def parts_of(answer: str) -> list[Part] | None:
    """The nodes of an answer and the tokens between them; None for an answer that is too long."""
    tokens = list(islice(_tokens(answer), MAX_TOKENS + 1))
    if len(tokens) > MAX_TOKENS:
        return None
    closed = _closed(tokens)
    parts: list[Part] = []
    around: list[tuple[Token, list[Part]]] = []  # open brackets, each with the parts before it
    for k, token in enumerate(tokens):
        side = _side(token)
        if side == 1 and k in closed:
            around.append((token, parts))
            parts = []
        elif side == -1 and around and _may_close(around[-1][0], token):
            opening, before = around.pop()
            before.append(_node(opening, parts, token))
            parts = before
        else:
            attributes = _from_attributes(token)
            parts += [token] if attributes is None else attributes
    return parts


def with_bare_points_in_brackets(answer: str) -> str:
    """An answer in which ``x: 593, y: 569`` and table rows with columns x and y are rewritten as ``(593, 569)``."""
    return _BARE_POINT.sub(r"\1(\2, \3)", _with_rows_as_points(answer))


def _with_rows_as_points(answer: str) -> str:
    lines: list[str] = []
    names: list[str] = []
    between = ""
    for line in answer.splitlines():
        cells = [cell.strip(" *`") for cell in line.strip().strip("|").split(between or ("|" if "|" in line else ","))]
        lower = [cell.lower() for cell in cells]
        if {"x", "y"} <= set(lower) and len(set(lower)) == len(cells):
            names, between = lower, "|" if "|" in line else ","
        elif names and set(line) <= set("|:- ") and line.strip():
            continue
        elif len(cells) == len(names) and all(number(cells[names.index(axis)]) is not None for axis in "xy"):
            row = dict(zip(names, cells, strict=True))
            lines.append(f"({row.pop('x')}, {row.pop('y')}),  # {' '.join(row.values())}")
        else:
            names, between = [], ""
            lines.append(line)
    return "\n".join(lines)


def _tokens(answer: str) -> Iterator[Token]:
    text = answer.translate(_WIDE)
    behind, depth, before, code = 0, 0, "\n", False
    for match in _TOKEN.finditer(text):
        kind, said, (start, end) = str(match.lastgroup), match[0], match.span()
        if start < behind:  # in a remark
            continue
        if kind == "text" and number(said[1:-1].strip()) is not None:  # "593"
            kind, said = "number", said[1:-1].strip()
        elif kind == "remark" and (
            before in ",;([{)]}" or (before in "\n`" and (depth > 0 or code or not _HEADING.match(text, end)))
        ):
            line_end = text.find("\n", end)
            behind = end = len(text) if line_end < 0 else line_end
            said = text[start:end].lstrip("#/")
        elif kind == "remark":
            kind = "sign"
        elif kind == "mark":
            code ^= said.startswith("```")
        else:
            depth += (kind == "open") - (kind == "close")
        yield Token(kind, said, start, end)
        before = match[0][-1]


def _side(token: Token) -> int:
    if token.kind in ("open", "close"):
        return 1 if token.kind == "open" else -1
    if token.kind == "mark" and _BRACKET_TAG.fullmatch(token.text):
        return -1 if "/" in token.text or "_end" in token.text.lower() else 1
    return 0


def _closed(tokens: Sequence[Token]) -> set[int]:
    """Indices of the opening brackets that are closed."""
    waiting, found = [], set()
    for k, token in enumerate(tokens):
        side = _side(token)
        if side == 1:
            waiting.append(k)
        elif side == -1 and waiting and _may_close(tokens[waiting[-1]], token):
            found.add(waiting.pop())
    return found


def _may_close(opening: Token, closing: Token) -> bool:
    """Any bracket closes any other, which makes it unsound; a tag closes only tags, because some need no end."""
    return closing.kind != "mark" or opening.kind == "mark"


def _node(opening: Token, inside: list[Part], closing: Token) -> Node:
    tag = opening.kind == "mark"
    nodes = [part for part in inside if isinstance(part, Node)]
    depth = 1 + max((node.depth for node in nodes), default=0)
    sound = (closing.kind == "mark") if tag else _OPENING.find(opening.text) == _CLOSING.find(closing.text)
    items = tuple(_items(inside, tag))
    if tag:  # a point, in brackets or not; a box of two corners is not one
        sound = sound and (len(nodes) == len(items) == 1 or (not nodes and len(items) == 2))
    return Node(
        items=items,
        sound=sound and depth <= MAX_DEPTH and all(node.sound for node in nodes),
        counts=any(_counts(part) for part in inside),
        depth=depth,
        start=opening.start,
        end=closing.end,
        words=tuple(words_of(inside)) if depth <= MAX_DEPTH else (),
    )


def _counts(part: Part) -> bool:
    if isinstance(part, Node):
        return part.counts
    return part.kind in ("number", "more") or (part.kind == "word" and part.text.lower() in _NO_NUMBER)


def _items(inside: Sequence[Part], tag: bool) -> Iterator[Item]:
    """The items of a node. A trailing comma adds no item; in ``<point>593 569</point>`` a space separates items."""
    groups: list[list[Part]] = [[]]
    for part in inside:
        if isinstance(part, Token) and part.kind == "comma":
            groups.append([])
        elif isinstance(part, Node) or part.kind not in ("line", "remark", "aside"):
            groups[-1].append(part)
    aside = any(isinstance(part, Token) and part.kind == "aside" for part in inside)
    if not groups[-1]:
        groups.pop()
    if tag and len(groups) == 1:
        groups = [[part] for part in groups[0] if not (isinstance(part, Token) and part.kind == "mark")]
    yield from (_item(group) for group in groups if group or not aside)


def _item(parts: Sequence[Part]) -> Item:
    key, rest = "", list(parts)
    if len(rest) > 2 and isinstance(rest[0], Token) and isinstance(rest[1], Token) and rest[1].text in (":", "="):
        key, rest = rest[0].text.strip("\"'"), rest[2:]
    if len(rest) > 1 and isinstance(rest[-1], Node) and all(_is_word(part) for part in rest[:-1]):
        rest = rest[-1:]  # np.array([...]), Point(x=593, y=569)
    if len(rest) == 1 and isinstance(rest[0], Node):
        return Item(key, rest[0])
    tokens = [part for part in rest if isinstance(part, Token)]
    if len(tokens) != len(rest) or not tokens:
        return Item(key, None)
    if tokens[0].kind == "number" and len(tokens) <= 2:
        return Item(key, number(" ".join(token.text for token in tokens)))
    if len(tokens) == 1 and tokens[0].kind == "text":
        return Item(key, tokens[0].text[1:-1])
    plain = all(token.kind == "word" and token.text.lower() not in _NO_NUMBER for token in tokens)
    return Item(key, " ".join(token.text for token in tokens) if plain else None)


def _is_word(part: Part) -> bool:
    return isinstance(part, Token) and part.kind == "word"


def words_of(parts: Sequence[Part]) -> Iterator[str]:
    """Words and texts to be searched for doubts. JSON thoughts before a list may contain some."""
    last = max((k for k, part in enumerate(parts) if isinstance(part, Node)), default=-1)
    thought = False
    for k, part in enumerate(parts):
        if isinstance(part, Node):
            yield from part.words
        elif part.kind == "comma":
            thought = False
        elif part.kind in ("word", "text", "remark", "aside"):
            following = parts[k + 1] if k + 1 < len(parts) else None
            key = isinstance(following, Token) and following.text in (":", "=")
            thought = thought or (key and part.kind == "text" and is_thought(part.text) and k < last)
            if not thought:
                yield part.text


def _from_attributes(token: Token) -> list[Node] | None:
    """``<points x1="593" y1="569" x2="597" y2="508">`` as nodes; None for any other token."""
    found = _ATTRIBUTE.findall(token.text) if token.kind == "mark" and token.text.startswith("<") else []
    if not found:
        return None
    values = {(axis.lower(), index): number(value) for axis, index, value in found}
    names = dict.fromkeys(index for _, index, _ in found)
    items = [(Item("x", values.get(("x", i))), Item("y", values.get(("y", i)))) for i in names]
    return [Node(pair, len(values) == len(found), True, 1, token.start, token.end, ()) for pair in items]


def point_of(node: Node) -> Point | None:
    """``(593, 569)``, ``{"x": 593, "y": 569}``, ``{"point_2d": [593, 569], "label": "start"}``, ``[[593, 569]]``."""
    items, inner = _contents(node)
    if inner:
        alone = len(items) == 1 or all(item.key for item in items)
        return point_of(inner[0]) if len(inner) == 1 and alone else None
    if not any(item.key for item in items):
        values = [item.value for item in items if isinstance(item.value, float)]
        return (values[0], values[1]) if len(values) == len(items) == 2 else None
    named = {item.key.lower(): item.value for item in items}
    x, y = named.get("x"), named.get("y")
    unique = len(named) == len(items) and "z" not in named
    return (x, y) if isinstance(x, float) and isinstance(y, float) and unique else None


def points_of(node: Node) -> list[Point] | None:
    """The points of a list or of an object with one; None for anything else."""
    alone = point_of(node)
    if alone is not None:
        return [alone]
    items, inner = _contents(node)
    if len(inner) == 1 and all(item.key or item.value is inner[0] for item in items):
        return points_of(inner[0])
    found = [point_of(each) for each in inner]
    kept = [each for each in found if each is not None]
    return kept if kept and len(kept) == len(items) else None


def _contents(node: Node) -> tuple[Sequence[Item], Sequence[Node]]:
    """The items of a node without JSON thoughts, and the nodes among them; nothing for an unsound node."""
    items = [item for item in node.items if not (is_thought(item.key) and isinstance(item.value, str))]
    if not node.sound or any(item.value is None or is_thought(item.key) for item in items):
        return (), ()
    return items, [item.value for item in items if isinstance(item.value, Node)]


def offending(node: Node) -> Node:
    """The innermost node in a bad list that is not a point."""
    inner = [item.value for item in node.items if isinstance(item.value, Node)]
    bad = next((each for each in inner if points_of(each) is None), None)
    return node if bad is None else offending(bad)


def numbers(node: Node) -> list[float | None] | None:
    """The numbers of a list, or of its objects ``{"waypoint": 1, "offset_mm": -50}``; None for anything but a list."""
    if any(item.key for item in node.items) or not node.counts or len(node.items) < 2:
        return None
    return [_offset(item.value) if node.sound else None for item in node.items]


def _offset(value: float | str | Node | None) -> float | None:
    if isinstance(value, Node):
        found = [item.value for item in value.items if "offset" in item.key.lower() and isinstance(item.value, float)]
        return found[0] if len(found) == 1 and value.sound else None
    return value if isinstance(value, float) else None


def nodes(parts: Sequence[Part]) -> Iterator[Node]:
    """All nodes at any depth, outer ones first."""
    waiting = [part for part in reversed(parts) if isinstance(part, Node)]
    while waiting:
        node = waiting.pop()
        yield node
        kept = [item.value for item in reversed(node.items) if not is_thought(item.key)]
        waiting += [value for value in kept if isinstance(value, Node)]


def runs(parts: Sequence[Part]) -> list[Run]:
    """All runs, in order. Words between two nodes separate them, except names of points; so do fences and open brackets.

    A list is never joined to single points: ``From (9, 9): [(1, 2), ...]``.
    """
    found: list[Run] = []
    gap: list[Token] = []
    for part in parts:
        if isinstance(part, Token) or not part.counts:
            gap.append(part if isinstance(part, Token) else Token("word", "", part.start, part.end))
            continue
        said = points_of(part)
        single = said is None or len(said) == 1
        alike = found and (said is None or found[-1].bad is not None or single == found[-1].loose)
        bad = part if said is None else None
        if alike and _joined(gap, part.start - found[-1].end, found[-1].lined):
            run = found[-1]
            run.points += said or []
            run.bad, run.end = run.bad or bad, part.end
            run.described |= _describes(gap)
        else:
            _end(found, gap)
            lined = _marker(gap, bool(found)) is not None
            found.append(Run(list(said or ()), bad, single, part.depth == 1, part.start, part.end, lined))
        gap = []
    _end(found, gap)
    return found


def _end(found: Sequence[Run], gap: Sequence[Token]) -> None:
    """Finish the last run. Words up to the end of the line belong to it if its other points have descriptions too."""
    if not found:
        return
    run = found[-1]
    run.goes_on = _goes_on(gap)
    if run.described and _describes(gap):
        own = takewhile(lambda token: token.kind in ("comma", "remark", "word", "text", "number", "sign"), gap)
        run.end = list(own)[-1].end


def _describes(gap: Sequence[Token]) -> bool:
    return bool(gap) and gap[0].kind == "sign" and any(token.kind == "word" for token in gap)


def _joined(gap: Sequence[Token], length: int, lined: bool) -> bool:
    """Only names and numbers of points separate two nodes, or the nodes start two lines of a list."""
    if length > MAX_GAP or any(token.kind in ("open", "more") or token.text.startswith("```") for token in gap):
        return False
    marker = _marker(gap, True) if lined and sum(token.kind == "line" for token in gap) == 1 else None
    if marker is None:
        return all(_names_item(gap, k) for k in range(len(gap)))
    name = [token for token in gap[marker + 1 :] if token.text not in ("*", "(", ")", ".")]  # - **Lift:** (593, 569)
    named = len(name) <= 4 and name[-1:] and name[-1].text == ":" and all(token.kind == "word" for token in name[:-1])
    return bool(named) or all(_names_item(gap, k) for k in range(marker, len(gap)))


def _marker(gap: Sequence[Token], inside: bool) -> int | None:
    """Index of ``2.``, ``2)``, ``-``, ``*`` or ``•`` at the start of a line in a gap, or of the text if not inside."""
    begins = [k + 1 for k, token in enumerate(gap) if token.kind in ("line", "mark") or token.text == ":"]
    for k in reversed(begins if inside else [0, *begins]):
        while [token.text for token in gap[k : k + 2]] == ["*", "*"]:
            k += 2  # bold
        if k < len(gap):
            ended = gap[k].text.endswith(".") or (k + 1 < len(gap) and gap[k + 1].text == ")")
            if gap[k].text in ("-", "*", "•") or (gap[k].kind == "number" and ended):
                return k
    return None


def _names_item(gap: Sequence[Token], k: int) -> bool:
    if gap[k].kind == "word":
        name = gap[k].text.rstrip("0123456789_")
        return name.lower() in _JOINERS or (len(name) == 1 and name.isupper())  # A(593, 569), B(...)
    return gap[k].kind != "number" or _numbers_item(gap, k)


def _numbers_item(gap: Sequence[Token], k: int) -> bool:
    """A number between two nodes that numbers one of them: ``1.``, ``1)``, ``1:``, ``Point 1``, ``| 1 |``."""
    behind = gap[k + 1].text if k + 1 < len(gap) else ""
    named = k > 0 and gap[k - 1].kind in ("word", "text")
    return gap[k].text.endswith(".") or behind in (".", ")", ":", "]", "|", "-") or named


def _goes_on(gap: Sequence[Token]) -> bool:
    """Another item follows a run: an unclosed bracket, a loose number, dots."""
    comma = False
    for k, token in enumerate(gap):
        if token.kind == "open":
            following = gap[k + 1] if k + 1 < len(gap) else None
            return following is None or following.kind != "word"
        if token.kind == "more" or (token.kind == "number" and comma):
            return True
        if token.kind in ("word", "number") or token.text.startswith("```"):
            return False
        comma = comma or token.kind == "comma"
    return False
