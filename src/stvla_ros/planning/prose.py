"""The words around an answer: does the model doubt it or retract it?

A list is an answer if nothing around it raises a doubt and the text after it only describes it. Unknown words do not
count as a description: a refusal can come in any words and any language.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from stvla_ros.planning.prompt import UNKNOWN

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

_REFUSES = (
    rf"{UNKNOWN}|cannot|can['’]?t|unable|sorry|apolog\w*|unfortunately|impossible|unsure|uncertain|unclear|invisible"
    r"|undefined|unavailable|unrecogni[sz]\w*|indetermina\w*|undetermin\w*|refus(?:e|es|ed|al)|n ?/ ?a|tbd"
    r"|(?:not|n['’]t) (?:be |been )?(?:see|seen|visible|find|found|sure|possible|able|available|applicable|present"
    r"|know|known|identif\w+|locate\w*|determin\w+|certain|in view|here|there|provide\w*|help|assist|exist\w*|detect\w*)"
    r"|no (?:such|idea|answer|action|object|path|visible)|(?:how|what) about|what if|plan [a-z]"
    r"|scratch that|that (?:is|was) the|(?:ask|try) again"
    r"|(?:avoid|forget|skip|omit|leave out) (?:this|these|that|those|it|the following)"
)
_REFUSAL = re.compile(rf"(?<!\w)(?:{_REFUSES})(?!\w)", re.I)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_DOUBTS = _set("""
    not no none never nothing nowhere neither nor isnt dont doesnt false nan null wrong incorrect incorrectly
    mistake mistaken mistakenly error errors invalid void failed fails failure oops reject rejected rejects
    refused discard discarded scrap scratch ignore disregard dismiss dismissed undo abort aborted cancel
    canceled cancelled retract retracted correction corrected revised revision reconsider reconsidering wait hmm
    hm actually instead rather however but although though or otherwise alternatively alternative unless until
    unlike if maybe perhaps possibly probably likely might may could would were seems appears doubt doubtful
    think thinking thought thoughts guess guessed guessing assume assumed assuming assumption suppose supposedly
    hypothetical hypothetically imaginary imagined example placeholder dummy draft drafted tentative tentatively
    rough attempt try missing absent hidden occluded obscured concealed covered blocked gone lost outside lacks
    lacking joke kidding fake bogus decoy bad worse worst nonsense garbage meaningless useless unusable
    unreliable undetected arbitrary random sketch sketched illustration illustrative mock demo idea ideas
    consider considering considered except excluding excluded forbidden prohibited banned ignored disregarded
    dropped redo redraw redrawn previously candidate option version variant pending incomplete unfinished
    unreachable unsafe infeasible old previous earlier percent percentage
    nicht nichts kein keine keinen keiner unbekannt leider unmöglich falsch vielleicht oder pas aucun aucune
    inconnu inconnue désolé peut ou faux desconocido desconocida ningún ninguna ninguno imposible siento quizás
    quizá non nessun nessuna sconosciuto sconosciuta impossibile forse purtroppo não nenhum nenhuma desconhecido
    desconhecida talvez niet geen onbekend misschien helaas nie nieznany brak inte okänd ikke ukjent tuntematon
    не нет неизвестно невозможно değil yok bilinmiyor không لا
""")
IN_ACTIONS = _set("""
    not no or but if until unless outside previous old hidden covered missing lost blocked rough scrap wait ignore pending
    candidate option random fake mock bad worst void
""")
"""Words allowed in an action: "wait until the cup is not covered"."""

_DOUBT_SIGNS = re.compile("[❌✗✘✖🚫⛔👎🤷¬]")
_DOUBT_PARTS = re.compile(r"n['’]t$|^un(?:seen|known)|[不没無无未错誤抱]|可能|或|ない|ません|なし|없|않|못|모르|아니")

_SUBJECTS = _set("""
    the this these it they each both all first last path trajectory line trace points waypoints coordinates
    values numbers offsets depths range start starting end ending moving from explanation note description
    i gripper robot arm
""")
_DESCRIBES = _set("""
    goes go moves move moving starts begins ends leads runs follows passes arcs traces trace lifts lowers picks
    places puts carries pushes presses reaches approaches grasps grips releases moved picked placed lifted
    lowered carried closes opens avoids avoiding describes describe represents represent shows show ranges range
    given normalized curved listed ordered chosen selected planned designed chose drew traced planned kept
""")
_NAMES = _set("range start end starting ending point waypoint first last located")
_MODALS = _set("should must need needs ought shall let")
_CODE = _set("print return")
MENTION = "§"
"""Placeholder in a sentence for points and bracketed numbers."""

_NUMBERS = frozenset(f"0123456789{MENTION}")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_PLAIN_SIGNS = frozenset(" .,:;!-*_|`'\"$~>/=&+)]}\n\\✅✔")
_SENTENCE = re.compile(r"[.!;\n]")
_CLOSING = re.compile(
    r"(?:(?:^|(?<=[\s.!*`]))(?:done|(?:i )?hope (?:this|that|it) helps|let me know if you (?:need|have|want|would like)\b[a-z ]{0,60})"
    r"[.!]{0,3}\s{0,9}){1,3}$",
    re.I,
)


def without_closing(text: str) -> str:
    """A text without a closing phrase: "Hope this helps!"."""
    text = text.rstrip()
    return text[: -len(found[0])] if (found := _CLOSING.search(text[-200:])) else text


def refuses(text: str) -> bool:
    """A text says that there is no answer."""
    return bool(_REFUSAL.search(text))


def doubt(texts: Iterable[str], allowed: Container[str] = ()) -> str | None:
    """The first word that doubts or retracts an answer; None if there is none.

    Args:
        texts: The words around an answer.
        allowed: Words that raise no doubt.
    """
    for text in map(_unescaped, texts):
        refusal = _REFUSAL.search(text) or _DOUBT_SIGNS.search(text)
        if refusal:
            return refusal[0]
        for word in _WORD.findall(text):
            said = word.lower()
            if (said in _DOUBTS and said not in allowed) or _DOUBT_PARTS.search(said):
                return str(word)
    return None


def _unescaped(text: str) -> str:
    """Decode the escapes of JSON, which may stand for any letter."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


def no_description(text: str) -> str | None:
    """The first sentence that does not plainly describe the path or list before it; None if all do.

    A descriptive sentence starts with the path, its points or a pronoun for them, and says what the path does or names
    points of it. Punctuation and decoration are ignored.
    """
    for sentence in _SENTENCE.split(text):
        words = [word.lower() for word in _WORD.findall(sentence)]
        says = _DESCRIBES & set(words[1:]) or (MENTION in sentence and _NAMES & set(words))
        describes = words and words[0] in _SUBJECTS and says and not _MODALS & set(words)
        numbers = _NUMBERS if words else frozenset()
        plain = set(_WORD.sub("", sentence)) <= _PLAIN_SIGNS | numbers
        if not plain or sentence.rstrip().endswith(":") or not (describes or all(word in _CODE for word in words)):
            return " ".join(sentence.split())
    return None
