"""The vocabulary of the tasks, and words that make a sentence something else."""

from __future__ import annotations

import re
from collections.abc import Iterable

from stvla_ros.colours import COLOURS
from stvla_ros.planning.sentence import GERUNDS, PAUSE

NOUNS = {
    "block": ("block", "cube", "brick", "box"),
    "plate": ("plate", "dish"),
    "button": ("button", "switch"),
}
"""Kinds of objects and their nouns."""

KINDS = {name: kind for kind, names in NOUNS.items() for name in names}
PLURALS = {f"{name}{'es' if name[-1] in 'xh' else 's'}": kind for name, kind in KINDS.items()}
ONE = ("one", "ones")
TAKE = ("pick", "take", "grab", "grasp", "lift", "get", "fetch", "collect")
CARRY = (
    *TAKE, "put", "place", "set", "lay", "drop", "move", "bring", "carry", "transfer", "stack", "deposit", "insert", "release",
)  # fmt: skip
PUSH = ("push", "press", "hit", "tap", "click", "poke")
ON, IN, TO = ("on", "onto", "upon", "atop", "over"), ("in", "into", "inside", "within"), ("to",)
WHERE = (*ON, *IN, *TO)
THE = ("the", "a", "an", "this", "that", "these", "those", "my", "our", "your")
IT = ("it", "itself", "them", "they")
BELONGS = ("belongs", "goes")
ORDINALS = {"first": 0, "firstly": 0, "second": 1, "secondly": 1, "third": 2, "thirdly": 2, "fourth": 3}
LAST, LATER = ("finally", "lastly"), ("afterwards", "afterward", "thereafter", "subsequently")
THEN = (PAUSE, "and", "then", "next", *LATER)
ORDER = (*ORDINALS, *LAST, *THEN)
AROUND = ("after", "before")
PARTICLES = ("up", "down")
COLOUR = ("coloured", "colored", "colour", "color")
OTHERS = ("i", "we", "you", "he", "she", "is", "are", "robot", "of", "with", "which", "both", "times", "find", *GERUNDS)
KNOWN = frozenset({
    *COLOURS, *KINDS, *PLURALS, *ONE, *CARRY, *PUSH, *WHERE, *THE, *IT, *BELONGS, *ORDER, *AROUND, *PARTICLES,
    *COLOUR, *OTHERS,
})  # fmt: skip

MEANT = (*KINDS, *CARRY, *PUSH, *LAST, "onto", "into", "inside", "the", "then", "first", "after", "before", "find")
"""Words that may be meant by a mistyped word that is not a name."""

A_QUESTION = "a question is not a task: say what is to be done"
_NUMBERS = "two|three|four|five|six|seven|eight|nine|ten|[0-9]+"
_FORBIDDEN = (
    (
        r"do not|not|dont|doesnt|didnt|cant|wont|shouldnt|mustnt|no|never|nothing|none|nowhere|neither|nor|without|except|"
        r"excluding|but|instead|rather|avoid|sorry|actually|oops|wait|i mean|correction|cancel",
        "{} forbids something, takes it back or puts it off: say only what is to be done",
    ),
    (
        r"^(?:what|where|which|who|whose|why|how|is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|should|"
        r"shall|may|might)",
        A_QUESTION,
    ),
    (
        r"if|when|whenever|whether|unless|until|till|while|once(?= [^,])|as soon as|in case|provided|depending|otherwise|else",
        "{} makes the task depend on something, which this planner does not watch: ask again when the time has come",
    ),
    (
        r"or|either|any|some|whichever|whatever|anything|something|random|randomly",
        "{} leaves a choice: say which one",
    ),
    (
        r"(?:at )?(?:the )?same time|at once|simultaneously|together|quickly|fast|faster|slowly|slow|hard|softly|strongly|firmly",
        "{} says how to do it, which words cannot set: steps are done one after another",
    ),
    (
        r"in reverse|reverse|backwards|last|later",
        "{} leaves the order unclear: name the objects in the order of the steps",
    ),
)  # fmt: skip
"""Words that make a sentence something other than one task, whatever the rest says."""

_NOT_NAMED = (
    (
        rf"(?:all|every|each|everything|once|twice|thrice|again|another|others?|more|several|many|both (?:the )?(?:\w+s)(?= |$)|"
        rf"(?:{_NUMBERS})(?: times)?|rest|remaining)",
        "{} does not say which objects are meant: name each by its colour, in the order of the steps",
    ),
    (
        r"next to|left|right|leftmost|rightmost|near|nearest|nearby|far|farthest|furthest|closest|close to|behind|beside|besides|"
        r"between|under|underneath|below|beneath|above|front|at the back|back of|rear|corner|edge|here|there|away|around|along|"
        r"across|top|bottom|middle|centre|center|side|from|off|out|towards?|against|through",
        "{} is a place that this planner does not know: objects are named by colour and kind, and a block goes in the plate "
        "or on another block",
    ),
    (
        r"big|bigger|biggest|large|larger|largest|small|smaller|smallest|little|tiny|tall|short|huge|same|different|dark|"
        r"light|bright|pale|deep|wooden|plastic|round|square",
        "this planner does not perceive {}: objects are named by colour and kind only",
    ),
)  # fmt: skip
"""Ways to distinguish objects that the planners do not support."""


def _patterns(reasons: Iterable[tuple[str, str]]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(rf"(?<!\S)(?:{words})(?!\S)"), reason) for words, reason in reasons)


_FORBIDDING, _TELLING_APART = _patterns(_FORBIDDEN), _patterns(_NOT_NAMED)


def forbids(words: list[str]) -> str:
    """Why a sentence with such a word is not a single task; empty if it has none."""
    return _reason(words, _FORBIDDING)


def tells_apart(words: list[str]) -> str:
    """Why objects cannot be distinguished by such a word; empty if there is none."""
    return _reason(words, _TELLING_APART)


def _reason(words: list[str], reasons: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    joined = " ".join(words)
    found = ((pattern.search(joined), reason) for pattern, reason in reasons)
    return next((reason.format(f"'{match[0]}'") for match, reason in found if match), "")


def meant(word: str, among: Iterable[str] = MEANT) -> set[str]:
    """Words one edit away from a word."""
    return {other for other in among if _one_edit(word, other)}


def _one_edit(a: str, b: str) -> bool:
    """One letter inserted, deleted or replaced, or two neighbours swapped."""
    if abs(len(a) - len(b)) > 1 or a == b:
        return False
    i = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    rest_a, rest_b = a[i:], b[i:]
    swapped = rest_a[:2] == rest_b[1::-1] and rest_a[2:] == rest_b[2:]
    return rest_a[1:] == rest_b[1:] or rest_a[1:] == rest_b or rest_a == rest_b[1:] or swapped
