"""Locate the answer in a model's text: after its thoughts, inside its answer marks, before its end tokens.

Models mark thoughts and answers in many ways: ``<think>``, ``[THINK]``, ``<|channel|>analysis``, headings, code fences.
Known thoughts are removed; an unfinished thought leaves nothing. Unknown marks are reported by :func:`unknown_mark`,
and callers that act on an answer must refuse one that contains any. The work is linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = r"```(?:[ \t]{0,3}\w[\w+ -]{0,30}(?=[ \t\r]{0,3}\n))?"
"""Start or end of a fenced block, with its language."""

MARK = re.compile(
    r"<!--|<[/|!?@$_#&%*+~:.\s-]{0,4}\w[^<>]{0,400}>"  # <think>, </answer>, <|im_end|>, <point x="1" y="2"/>, <!--
    r"|-->"
    r"|\[/?[^\W\d][\w ]{1,30}\]"  # [THINK]
    r"|\{\{[^{}\n]{0,40}\}\}|\{%[^{}\n]{0,40}%\}|\{/?[^\W\d]\w{1,30}\}"  # {{think}}, {% think %}, {think}
    r"|[◁⟨〈《【「⟦⟪][^◁▷⟨⟩\d\n]{0,40}?[▷⟩〉》】」⟧⟫]"  # ◁think▷
    rf"|{FENCE}"
)
"""One mark around or inside an answer."""

_THOUGHT = re.compile(
    r"think|thought|reason|reflect|reflex|analy[sz]|scratch|deliberat|monolog|musing|ponder|rationale|brainstorm"
    r"|introspect|ruminat|critique|observation|^(?:cot|draft)$"
)
_THOUGHT_TAGS = frozenset(("details", "summary", "channel"))  # as headings they may be anything

_ANSWERS = ("answer", "ans", "final", "final_answer", "response", "output", "result", "solution", "begin_of_box")
_LAYOUT = """
    action point points waypoint waypoints path trajectory coordinates coords x y box point_2d object_ref ref quad
    list item offsets depth depths progress step p b br strong i em u ul ol li code pre span div table thead tbody tr td th
"""
_DRESS = frozenset((*_ANSWERS, *_LAYOUT.split()))
"""Names of tags that only concern the layout of an answer."""

_LANGUAGES = "json json5 jsonc python py text txt plaintext plain yaml csv xml html markdown"
_FENCES = frozenset(("", *_LANGUAGES.split()))

_SPECIAL = (
    r"(?:<\|?(?:/s|eos|eod|eom|eot|end|return|turn|user|observation|(?:im|eot|eom|role)_(?:end|id)"
    r"|end_?of_?(?:text|turn(?:_token)?|sentence|utterance|message|msg|sequence|generation))\|?>|\[EOS\])"
)
_ENDS = re.compile(rf"(?:\s*{_SPECIAL})+\s*\Z", re.I)
_STARTS = re.compile(
    r"\A\s*(?:<\|?(?:bos|begin_of_(?:text|sentence)|startoftext)\|?>\s*"
    r"|<\|im_start\|>(?:assistant)?\s*|<\|start_header_id\|>assistant<\|end_header_id\|>\s*"
    r"|<start_of_turn>(?:model)?\s*)+",
    re.I,
)
_WIDE = str.maketrans({"｜": "|", "▁": "_", "＜": "<", "＞": ">", "\ufeff": " ", "\u200b": " "})
_CHANNEL = re.compile(r"<\|channel\|>\s{0,9}(\w{1,20})[^<>]{0,60}<\|message\|>")  # gpt-oss (harmony)
_BARE_CHANNEL = re.compile(
    r"\A\s*(?:analysis|commentary)(?=[^\W_]|[\[({\"<])"
)  # the same after its special tokens were skipped

_HEADING = re.compile(
    r"^[ \t>#*_\-•]{0,12}(?:\d{1,2}[.)][ \t*_]{0,4})?([^\W\d_][^\n:：]{0,40}?)[ \t]{0,3}"
    r"(?:[*_]{0,3}[:：]|(?:\.{3}|…|[*_]{1,3})[ \t]*$)"  # Thought: | **Reasoning** | Thinking...
    r"|^[ \t]{0,3}#{1,6}[ \t]{1,4}([^\n:：]{1,40}?)[ \t#]{0,6}$"  # ## Reasoning
    r"|^[ \t*_]{0,6}((?:[Ss]o )?(?:[Tt]he|[Mm]y) (?:final )?answer is)\b"  # The answer is (B).
    r"|^[ \t]*([^\W\d_]{1,20}(?: [^\W\d_]{1,20})?)[ \t]*$",  # Analysis
    re.M,
)
_ANSWER_HEADING = re.compile(
    r"(?:here(?:'s| is) )?(?:(?:the|my|so|and) ){0,2}(?:(?:final|next|correct|robot) )?"
    r"(?:answer|action|path|trajectory|points?|waypoints?|(?:depth )?offsets|output|result|response|conclusion|solution"
    r"|progress|status|final)(?: is)?",
    re.I,
)
_FINAL_HEADING = re.compile(r"(?:(?:the|my|so) ){0,2}(?:final )?answer(?: is)?", re.I)

_NUMBER = re.compile(r"[-+]?(?:\d{1,20}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?(?:\s{0,3}(?:mm|px))?", re.ASCII)
_GROUP = re.compile(r"([\[(])([^\[\]()]{0,400})([\])])")
_CLOSED = {"[": "]", "(": ")"}
_DIGIT = re.compile(r"\d", re.ASCII)
_NO_NUMBER = re.compile(r"\bnan\b|\binf(?:inity)?\b|\bnull\b|\bnone\b", re.IGNORECASE)
_POINT_TAG = re.compile(r"</?point>", re.IGNORECASE)


@dataclass(frozen=True)
class Group:
    """The content of innermost brackets.

    Attributes:
        items: The texts between the commas.
        numbers: The items as numbers; None if not all are numbers.
        start: Index of the opening bracket.
        end: Index after the closing bracket.
    """

    items: tuple[str, ...]
    numbers: tuple[float, ...] | None
    start: int
    end: int


@dataclass(frozen=True)
class Mark:
    """A mark in a text.

    Attributes:
        name: Name in lower case, without brackets, attributes and begin or end markers.
        side: 1 opens, -1 closes, 0 stands alone.
        start: Index of its first character.
        end: Index after its last one.
    """

    name: str
    side: int
    start: int
    end: int


def marked_answer(text: str) -> str:
    """The answer in a reply: after all thoughts, from the first answer mark or heading on.

    Text after a closing answer mark is included: a model may retract its answer there. An unfinished thought leaves
    nothing.
    """
    text = _without_start(_without_ends(text.translate(_WIDE)))
    text = _behind_headings(_without_start(_behind_thoughts(_final_channel(text))))
    return _from(text, next((mark.end for mark in _marks(text) if mark.side == 1 and mark.name in _ANSWERS), 0))


def answer_of(text: str) -> str:
    """The content of the last answer marks or code fence of a reply: for statistics, not to act on."""
    text = marked_answer(text)
    marks = [mark for mark in _marks(text) if mark.name in _ANSWERS]
    begin = max((mark.end for mark in marks if mark.side == 1), default=0)
    end = next((mark.start for mark in marks if mark.start >= begin), len(text))
    fenced = [part for part in re.split(FENCE, text[begin:end])[1::2] if part.strip()]
    return _POINT_TAG.sub(" ", fenced[-1] if fenced else text[begin:end])


def unknown_mark(answer: str) -> str | None:
    """The first unknown mark in an answer; None if there is none."""
    found = (answer[mark.start : mark.end] for mark in _marks(answer) if not _known(mark))
    return next(found, "~~" if "~~" in answer else None)


def begins_again(answer: str) -> str | None:
    """The first mark that opens another answer after the end of one; None if there is none."""
    ended = False
    for mark in _marks(answer):
        if mark.name in _ANSWERS:
            if ended and mark.side == 1:
                return answer[mark.start : mark.end]
            ended = ended or mark.side == -1
    return None


def is_thought(name: str) -> bool:
    """A name for something other than an answer: ``reasoning``, ``Thought process``."""
    return bool(_THOUGHT.search(name.lower()))


_SIDES = re.compile(r"^(?:start|begin|end)_(?:of_)?|_(?:start|begin|end)$")


def _marks(text: str) -> Iterator[Mark]:
    """All marks in order. An arrow ``-->`` counts only after ``<!--``."""
    comment = False
    for match in MARK.finditer(text):
        if match[0] in ("<!--", "-->"):
            if comment or match[0] == "<!--":
                yield Mark("thought", -1 if match[0] == "-->" else 1, *match.span())
            comment = match[0] == "<!--"
        elif match[0].startswith("```"):
            yield Mark("```" + match[0][3:].strip().lower(), 0, *match.span())
        else:
            yield _tag(match)


def _tag(match: re.Match[str]) -> Mark:
    said = match[0].lower()
    inner = said.strip("<>[]{}!?@$_#&*+~:.-%|◁▷⟨⟩〈〉《》【】「」⟦⟧⟪⟫ \n")
    words = inner.lstrip("/| ").split()
    if "=" in said or words[:1] == ["details"]:  # attributes; else a name of several words
        words = words[:1]
    name = "_".join(words).strip("/|").rpartition(":")[2].replace("-", "_")
    bare = "begin_of_box" if name == "end_of_box" else name if name == "begin_of_box" else _SIDES.sub("", name)
    ends = inner.startswith("/") or bool(re.search(r"^end_|_end$", name))
    ends = ends or (said.endswith("|>") and not said.startswith("<|"))  # <|channel>...<channel|> (Gemma)
    return Mark(bare, 0 if said.endswith("/>") else -1 if ends else 1, *match.span())


def _without_ends(text: str) -> str:
    """The text without special tokens at its end, which are searched for in its last characters only."""
    return text[:-400] + _ENDS.sub("", text[-400:])


def _without_start(text: str) -> str:
    return _STARTS.sub("", text, count=1)


def _final_channel(text: str) -> str:
    """The final channel of gpt-oss; empty while it is still in another one."""
    found = list(_CHANNEL.finditer(text))
    if found:
        return text[found[-1].end() :] if found[-1][1] == "final" else ""
    if _BARE_CHANNEL.match(text):
        return text.rpartition("assistantfinal")[2] if "assistantfinal" in text else ""
    return text


def _behind_thoughts(text: str) -> str:
    """The text after the last thought. All must be closed; a lone closing mark ends a thought opened by a template."""
    begun = ended = behind = 0
    last: Mark | None = None
    for mark in _thoughts(text):
        if last is None and mark.side == 1 and _inside_unknown(text[: mark.start]):
            return text
        same = last and (mark.name, mark.side) == (last.name, last.side) and not text[last.end : mark.start].strip()
        begun += mark.side == 1 and not same  # the opening marks of template and model count once
        ended += mark.side == -1
        behind, last = mark.end, mark
    return "" if begun > ended else text[behind:]


def _thoughts(text: str) -> Iterator[Mark]:
    """The marks of thoughts, including fences of blocks with such a name."""
    inside = False
    for mark in _marks(text):
        if mark.name.startswith("```"):
            if inside or is_thought(mark.name[3:]):
                inside = not inside
                yield Mark(mark.name, 1 if inside else -1, mark.start, mark.end)
        elif mark.name in _THOUGHT_TAGS or is_thought(mark.name):
            yield mark


def _behind_headings(text: str) -> str:
    """From the first answer heading after all thought headings on; everything if there are none."""
    text = text.rpartition("...done thinking.")[2]  # ollama
    thought, begin = False, 0
    for match in _HEADING.finditer(text):
        name = " ".join(str(match[match.lastindex or 0]).strip("*_# ").replace("’", "'").split())
        if is_thought(name) and name.count(" ") < 4 and not name.startswith("I "):
            thought, begin = True, len(text)
        elif (_ANSWER_HEADING if thought else _FINAL_HEADING).fullmatch(name) and begin in (0, len(text)):
            begin = match.start()
    return "" if begin == len(text) else _from(text, begin)


def _from(text: str, begin: int) -> str:
    """The text from an index on; all of it if the index lies inside an unknown mark."""
    return text if _inside_unknown(text[:begin]) else text[begin:]


def _inside_unknown(text: str) -> bool:
    return sum(mark.side for mark in _marks(text) if not _known(mark)) > 0


def _known(mark: Mark) -> bool:
    return mark.name in _DRESS or (mark.name.startswith("```") and mark.name[3:] in _FENCES)


def groups(text: str) -> Iterator[Group]:
    """All innermost brackets that contain a digit or a word such as NaN, in order."""
    for match in _GROUP.finditer(text):
        opening, inner, closing = match.groups()
        if _DIGIT.search(inner) or _NO_NUMBER.search(inner):
            items = tuple(item.strip() for item in inner.split(","))
            values = numbers(items) if closing == _CLOSED[opening] else None
            yield Group(items, values, match.start(), match.end())


def numbers(items: tuple[str, ...]) -> tuple[float, ...] | None:
    """The items as plain decimal numbers; None if one is not."""
    if items and not items[-1]:  # a comma before the closing bracket
        items = items[:-1]
    found = [number(item) for item in items]
    values = tuple(value for value in found if value is not None)
    return values if values and len(values) == len(found) else None


def number(text: str) -> float | None:
    """A plain decimal number, ASCII digits only, with or without mm or px; None for anything else or if not finite."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text.removesuffix("mm").removesuffix("px"))
    return value if abs(value) < 1e12 else None
