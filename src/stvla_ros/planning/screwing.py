"""Screwing a lid on a jar or a bulb into a lamp: the task, and how it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stvla_ros.colours import COLOURS
from stvla_ros.planning.wordings import Wordings


@dataclass(frozen=True)
class Screw:
    """Put a part in its place and turn it clockwise.

    Attributes:
        part: ``lid`` or ``bulb``.
        colour: Of the jar that the lid closes, or of the holder that the bulb stands in.
    """

    part: str
    colour: str

    @property
    def sentence(self) -> str:
        if self.part == "lid":
            return f"pick up the lid and screw it on the {self.colour} jar"
        return f"pick up the bulb of the {self.colour} holder and screw it into the lamp"


_COLOUR = rf"(?P<colour>{'|'.join(COLOURS)})(?: colou?red)?"
_THE, _AND = r"(?:the |a )?", r"(?: ,)?(?: and)?(?: then)? "
_TAKE = r"(?:pick up|pick|take|grab|grasp|lift|get|fetch)"
_SET = r"(?:screw|put|place|set|twist|turn)"
_JAR = rf"{_THE}{_COLOUR} jar"
_LID = rf"{_THE}(?:lid|cap|top)"
_BULB = r"(?:light )?bulb"
_HOLDER = rf"(?:of|from|in|out of) {_THE}{_COLOUR} (?:holder|stand|casing|base)"
_LAMP = rf"{_THE}(?:lamp|socket)"


def _lid(groups: Mapping[str, str]) -> Screw:
    return Screw("lid", groups["colour"])


def _bulb(groups: Mapping[str, str]) -> Screw:
    return Screw("bulb", groups["colour"])


LIDS = Wordings(
    frozenset({"jar", "jars", "lid", "lids"}),
    (
        rf"(?:close|shut|seal|cover) {_JAR}(?: with {_LID})?",
        rf"{_SET} {_LID} (?:on|onto) {_JAR}",
        rf"{_SET} {_LID} of {_JAR} on",
        rf"{_SET} on {_LID} of {_JAR}",
        rf"{_SET} on {_JAR} lid",
        rf"{_SET} {_JAR} lid on",
        rf"{_TAKE} {_LID}(?: up)?{_AND}{_SET} it (?:on|onto) {_JAR}",
        rf"{_TAKE} {_LID}(?: up)?(?:{_AND}lift it(?: up)?)?{_AND}use it to (?:close|shut|seal|cover) {_JAR}",
    ),
    _lid,
    "say it as in 'close the red jar' or 'screw the lid on the red jar'",
)

BULBS = Wordings(
    frozenset({"bulb", "bulbs"}),
    (
        rf"{_SET} in {_THE}{_COLOUR} {_BULB}",
        rf"{_SET} {_THE}{_COLOUR} {_BULB} (?:in|in {_LAMP}|into {_LAMP})",
        rf"(?:{_SET}|insert) {_THE}{_BULB} {_HOLDER} (?:in|into) {_LAMP}",
        rf"{_TAKE} {_THE}{_BULB}(?: up)? {_HOLDER}(?:{_AND}lift it(?: up)? over {_LAMP})?{_AND}{_SET} it "
        rf"(?:(?:down )?(?:in|into) {_LAMP}|in|down)(?: clockwise)?",
    ),
    _bulb,
    "say it as in 'screw in the red light bulb' or 'screw the bulb of the red holder into the lamp'",
)
