"""Normalise an operator's sentence to plain words: one spelling, no politeness, one mark for every pause."""

from __future__ import annotations

import re
import unicodedata

from stvla_ros.colours import COLOURS, SPELLINGS

PAUSE = ","
"""Stands for every mark that ends or divides a sentence."""

GERUNDS = {
    "placing": "place", "moving": "move", "taking": "take", "putting": "put", "setting": "set", "getting": "get",
    "hitting": "hit", "tapping": "tap", "dropping": "drop", "grabbing": "grab",
    **{f"{verb}ing": verb for verb in ("push", "press", "click", "poke", "lay", "bring", "carry", "stack", "pick", "lift")},
    **{f"{verb}ing": verb for verb in ("grasp", "deposit", "insert", "transfer", "collect", "fetch")},
}  # fmt: skip

_CONTRACTIONS = (
    ("won't", "will not"), ("can't", "can not"), ("cannot", "can not"), ("let's", "let us"), ("n't", " not"),
    ("'d", " would"), ("'s", " is"), ("'m", " am"), ("'ll", " will"), ("'re", " are"), ("'ve", " have"),
)  # fmt: skip

_SAME = (
    (r"(?:on|onto|to|at|over) (?:the )?top of", "on"),
    (r"(on|onto|in|into|to|over) the (?:middle|centre|center|inside) of", r"\1"),
    (r"at the (?:middle|centre|center) of", "in"),
    (r"(?:when|once) (?:(?:that|it|this|you) (?:is|are) )?(?:done|finished)", "afterwards"),
    (r"on to", "onto"),
    (r"in to", "into"),
    (r"inside of", "inside"),
    (r"over to", "to"),
    (r"at (?:the )?last|in the end|last of all|to finish", "finally"),
    (r"to begin with|to start with|first of all", "first"),
    (rf"after (?:that|this|which|it)(?! (?:{'|'.join(COLOURS)}|block|cube|button|one))", "afterwards"),
    (r"followed by", "then"),
    (r"as well as|plus|and also", "and"),
    (r"pick and place", "put"),
    (r"(?:should|must|needs to|has to) (?:be|go)(?: (?:put|placed))?", "belongs"),
    (r"go to|look for|reach for|locate", "find"),
)
"""Several words for one."""

_EMPTY = (
    r"if you please|please|kindly|carefully|gently|right now|right away|now|immediately|just|only|pls|plz|for (?:me|us)",
    r"in (?:order(?! to)|turn|(?:the|this|that)(?: following| given| same)? order)",
    r"one after (?:the other|another)|(?:once|one time)(?= (?:,|and|then)|$)",
    r"(?:(?:that|which) (?:is|lies|stands) |lying |standing )?(?:on|from|off) the table",
)
"""Phrases without meaning for the task: all objects that the planners know are on the table."""

_ASKS = (
    r"(?:can|could|would|will|may) (?:you|u|we)(?: be able to)?|are you able to|do you think you (?:can|could)",
    r"(?:may|can|could) i ask you to|would it be possible(?: for you)? to|is it possible to",
    r"(?:would you )?be so (?:kind|good|nice) (?:as to|and)",
    r"(?:i|we) (?:would (?:really )?(?:like|love)|want|need|wish|ask) you to|we (?:need|have|want) to",
    r"(?:i|we) would (?:appreciate it|be (?:glad|happy|grateful)) if you (?:could|would)",
    r"it would be (?:nice|great|good|kind) if you (?:could|would)",
    r"(?:you|the robot) (?:should|must|can|shall|need to|have to|are to)",
    r"(?:your|the) (?:next )?(?:task|job|goal) is to|let us|go ahead and|go and|try to|(?:make|be) sure to|remember to",
    r"do me a favou?r and|help me(?: to)?|proceed to",
    r"if (?:you (?:please|can|could|would|like|do not mind)|possible) ,|if you (?:could|would)",
    r"do(?= (?:put|place|pick|take|stack|push|press) )|hey|hi|hello|good (?:morning|day|afternoon|evening)",
    r"dear|robot|franka|panda|ok|okay|so|well|yes|alright",
)
_ASKS_DOING = r"(?:would|do) you mind|how about|start(?:ing)? by|begin by"
_THANKS = (
    r"thanks(?: a lot)?|(?:many thanks|thank you)(?: very much| so much)?|cheers|ok|okay|robot|as soon as possible",
    r"(?:will|would|could|can) you|that would be (?:great|nice|good|kind)",
    r"if (?:you (?:please|can|could|would|like|do not mind)|possible|that is (?:ok|okay|possible))",
)
_WISH = (
    (r"(?:i|we) (?:want|need|would like|would love)(?: to have)? (?=(?:the|a|an|that|this|my|our) )", "put "),
    (r"(put .+) to (?:be|go) (?=on|in)", r"\1 "),
    (r"build a (?:tower|stack) (?:with|of|from) ", "stack "),
)
_TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")


def _any(parts: tuple[str, ...]) -> str:
    return "|".join(parts)


_EMPTY_ANYWHERE = re.compile(rf"(?<!\S)(?:{_any(_EMPTY)})(?!\S)")
_SAME_ANYWHERE = tuple((re.compile(rf"(?<!\S)(?:{several})(?!\S)"), one) for several, one in _SAME)
_ASKED = re.compile(rf"(?:(?:{PAUSE}|(?:(?P<doing>{_ASKS_DOING})|{_any(_ASKS)})(?!\S)) ?)*")
_THANKED = re.compile(rf"(?: ?(?:{PAUSE}|(?<!\S)(?:{_any(_THANKS)})))*$")


def plain(text: str) -> list[str]:
    """The words of a sentence that say what to do, in lower case, with :data:`PAUSE` between its parts.

    Other signs remain as separate words, which no task contains.
    """
    words = " ".join(_tokens(text))
    for several, one in _SAME_ANYWHERE:
        words = several.sub(one, words)
    words = _single(_EMPTY_ANYWHERE.sub(" ", words))
    words = _single(_THANKED.sub("", words))
    asked = _ASKED.match(words)
    assert asked is not None  # it also matches the empty string
    rest = words[asked.end() :]
    for wish, verb in _WISH:
        rest = re.sub(f"^{wish}", verb, rest)
    found = _without_numbers(rest.split())
    return [GERUNDS.get(word, word) for word in found] if asked["doing"] else found


def _tokens(text: str) -> list[str]:
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'").replace("‘", "'")
    for short, long in _CONTRACTIONS:
        text = re.sub(rf"(?<=\w){short}\b" if short.startswith(("n", "'")) else rf"\b{short}\b", long, text)
    text = re.sub(r"(?<=\w)-(?=\w)", " ", text).replace("&", " and ")
    text = re.sub(r"[.,;:!?…()\-\u2013\u2014]+", f" {PAUSE} ", re.sub(r"[\"'“”„«»`]", " ", text))
    return [SPELLINGS.get(word, word) for word in _TOKEN.findall(text)]


def _single(words: str) -> str:
    return " ".join(re.sub(rf"{PAUSE}(?: +{PAUSE})+", PAUSE, words).split())


def _without_numbers(words: list[str]) -> list[str]:
    """Without the numbers of a list ("1. push ... 2. push ..."), if they count from 1."""
    kept: list[str] = []
    number = 1
    for word, after in zip(words, [*words[1:], ""], strict=False):
        if word == str(number) and after == PAUSE and (not kept or kept[-1] == PAUSE):
            number += 1
        else:
            kept.append(word)
    return kept
