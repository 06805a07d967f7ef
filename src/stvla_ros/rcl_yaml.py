"""Reads parameter files as rcl does, so that commands without ROS and nodes get the same values.

``rcl_yaml_param_parser`` (ROS 2 Jazzy, ``src/parse.c``) uses libyaml, like PyYAML, but has its own rules for scalars,
which
are repeated here: ``2e-2`` and ``1e3`` are numbers, ``0x10`` and ``010`` are 16 and 8, ``~`` is a text, and there are
    no
aliases or mixed lists. What rcl refuses is refused here. So is what rcl would read as something else: a setting that is
written twice, lists in lists, and whatever follows an empty section.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

Value = bool | int | float | str | list[Any]
"""A list holds values of one type; it is never empty."""

PARAMETERS_KEY = "ros__parameters"
DEEPEST = 32
"""Levels of sections in a file; no setting has so long a name."""

QUOTED = ("'", '"')
_NODE = re.compile(r"/?((\*\*?|[A-Za-z_]\w*)/)*(\*\*?|[A-Za-z_]\w*)", re.ASCII)
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml; else PyYAML's own parser of the same language
_TRUE = frozenset(["Y", "y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"])
_FALSE = frozenset(["N", "n", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"])
_INT = re.compile(r"[ \t-\r]*[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", re.ASCII)
_DECIMAL = re.compile(r"[ \t-\r]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_HEXADECIMAL = re.compile(r"[ \t-\r]*[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)([pP][+-]?\d+)?", re.ASCII)
_NO_NUMBER = re.compile(r"[ \t-\r]*([+-]?)(inf|infinity|nan|nan\(\w*\))", re.ASCII | re.IGNORECASE)
_DOTTED = re.compile(r"([+-]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class RclYamlError(ValueError):
    """What is wrong, as the end of a sentence, and the line (from 1; None for a text without lines)."""

    def __init__(self, sentence: str, line: int | None = None) -> None:
        super().__init__(sentence)
        self.line = line


def read(data: bytes) -> dict[str, dict[str, Value]]:
    """Name of a section as written (``planner``, ``/**``) -> dotted name of a parameter -> its value.

    Sections are in the order of their first appearance, which is rcl's order of precedence: the last one wins.

    Raises:
        RclYamlError: rcl would refuse it, or read something other than what is written.
    """
    try:
        return _Reader(data).read()
    except yaml.YAMLError as error:
        raise _not_yaml(data, error) from error


def read_value(text: str) -> Value:
    """One value, as in ``-p name:=value``.

    Raises:
        RclYamlError: rcl would refuse it, or there is more than one value.
    """
    data = text.encode("utf-8", "surrogateescape")
    try:
        reader = _Reader(data)
        values = [reader.value(event) for event in reader.contents()]
    except yaml.YAMLError as error:
        raise RclYamlError(str(_not_yaml(data, error))) from error
    if len(values) != 1:
        raise RclYamlError(f"wanted one value, got '{text}'; an empty text is \"\" (the quotes are part of it)")
    return values[0]


def write(sections: Mapping[str, Any]) -> str:
    """YAML from which rcl reads exactly these names and values: texts are quoted, so that none becomes a number."""
    return yaml.dump(dict(sections), Dumper=_Dumper, allow_unicode=False, width=2**31)


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._events: Iterator[Any] = iter(list(yaml.parse(data, Loader=_LOADER)))  # first whether it is YAML
        self._sections: dict[str, dict[str, Value]] = {}
        self._lines: dict[tuple[str, str], int] = {}
        self._level = 0

    def contents(self) -> Iterator[Any]:
        """The first event of each document."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if event.version not in (None, (1, 1)):
                    raise RclYamlError("ROS reads YAML 1.1: leave the line with %YAML out", _line(event))
            elif not isinstance(event, (yaml.StreamStartEvent, yaml.StreamEndEvent, yaml.DocumentEndEvent)):
                yield event

    def read(self) -> dict[str, dict[str, Value]]:
        for event in self.contents():
            if not isinstance(event, yaml.MappingStartEvent):
                raise RclYamlError("wanted names of nodes at the top level, each with its settings", _line(event))
            self._nodes("", event)
        return self._sections

    def _pairs(self, mapping: Any) -> Iterator[tuple[str, int, Any]]:
        """Key, its line, and the first event of its value, for each pair of a mapping that has just begun."""
        self._level += 1
        if self._level > DEEPEST:
            raise RclYamlError(f"more than {DEEPEST} levels of sections", _line(mapping))
        for key in self._events:
            if isinstance(key, yaml.MappingEndEvent):
                break
            if not isinstance(key, yaml.ScalarEvent) or not key.value or "\0" in key.value:
                raise RclYamlError("wanted a name before the colon", _line(key))
            value = next(self._events)
            if mapping.flow_style:
                _check_flow(key)
                _check_flow(value)
            yield key.value, _line(key), value
        self._level -= 1

    def _nodes(self, name: str, mapping: Any) -> None:
        """Sections below ``name``: a node with the one key ``ros__parameters``, or a namespace with nodes."""
        before = ""
        for key, line, value in self._pairs(mapping):
            settings = key.startswith(PARAMETERS_KEY)  # rcl does not look at the rest of the word
            section = isinstance(value, yaml.MappingStartEvent)
            if settings and not name:
                raise RclYamlError(f"wanted the name of a node above '{PARAMETERS_KEY}'", line)
            misplaced = bool(name) and not settings and (not section or _misspelt(key))
            if misplaced or before.startswith(PARAMETERS_KEY):
                raise RclYamlError(f"node '{name}': wanted exactly one key '{PARAMETERS_KEY}', found '{key}'", line)
            if not section:
                what = f"'{PARAMETERS_KEY}' of node '{name}'" if settings else f"node '{key}'"
                raise RclYamlError(f"{what}: wanted settings below it, found {_found(value)}", line)
            if settings:
                self._settings(_checked(name, line), "", value)
            else:
                self._nodes(_below(name, key, line), value)
            before = key
        if name and not before:
            self._sections.setdefault(_checked(name, _line(mapping)), {})

    def _settings(self, node: str, prefix: str, mapping: Any) -> str:
        """Read the settings below ``prefix``; returns the prefix that rcl puts before what follows them.

        rcl leaves a section by cutting off the last dotted part, which is too little if the section's name contains a
        dot.
        """
        section, rcl_prefix, name = self._sections.setdefault(node, {}), prefix, ""
        for key, line, value in self._pairs(mapping):
            name = f"{prefix}.{key}" if prefix else key
            if rcl_prefix != prefix:
                raise RclYamlError(f"'{name}' follows a section with a dotted name, where ROS misreads it", line)
            first = self._lines.setdefault((node, name), line)
            if isinstance(value, yaml.MappingStartEvent) and name not in section:
                inner = self._settings(node, name, value)
                rcl_prefix = inner.rpartition(".")[0] if prefix else ""
            elif first == line and name not in section:
                section[name] = self.value(value, name)
            else:
                raise RclYamlError(f"'{name}' of node '{node}' is written again (line {first}): keep one of them", line)
        if prefix and not name:
            raise RclYamlError(f"'{prefix}' of node '{node}' is an empty section: leave it out", _line(mapping))
        return rcl_prefix

    def value(self, event: Any, name: str = "") -> Value:
        """The value that begins with an event."""
        of = f"'{name}': " if name else ""
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, of)
        if isinstance(event, yaml.AliasEvent):
            raise RclYamlError(f"{of}ROS takes no aliases (*{event.anchor}): write the value out", _line(event))
        if not isinstance(event, yaml.SequenceStartEvent):
            raise RclYamlError(f"{of}wanted a value, found names with values", _line(event))
        values = []
        for item in self._events:
            if isinstance(item, yaml.SequenceEndEvent):
                break
            if not isinstance(item, yaml.ScalarEvent):
                raise RclYamlError(f"{of}a list holds plain values only, no lists, sections or aliases", _line(item))
            if event.flow_style:
                _check_flow(item)
            values.append(self._scalar(item, of))
        if not values:
            raise RclYamlError(f"{of}ROS takes no empty list: leave it out", _line(event))
        kinds = {type(v).__name__ for v in values}
        if len(kinds) > 1:
            raise RclYamlError(f"{of}wanted a list of one type, found {' and '.join(sorted(kinds))}", _line(event))
        return values

    def _scalar(self, event: Any, of: str) -> bool | int | float | str:
        text, quoted = event.value, event.style in QUOTED
        if "\0" in text:
            raise RclYamlError(f"{of}a text cannot hold the character \\0", _line(event))
        if not quoted and not text:
            raise RclYamlError(f'{of}no value; an empty text is ""', _line(event))
        return text if quoted or event.tag == "tag:yaml.org,2002:str" else plain(text)


def plain(text: str) -> bool | int | float | str:
    """What a scalar without quotes means: ``get_value`` of rcl, with C's ``strtoll(text, 0)`` and ``strtod``."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if match := _INT.fullmatch(text):
        digits = match[1]
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
        # int() limits the number of digits; far fewer already exceed 64 bits
        number = int(digits, base) if len(digits) < 64 or base != 10 else 2**64
        number = -number if "-" in text else number
        if -(2**63) <= number < 2**63:
            return number
    number_or_none = _double(text)
    return text if number_or_none is None else number_or_none


def _double(text: str) -> float | None:
    """``strtod`` of the whole text, or None, as for values beyond a double's range, where it sets ERANGE."""
    if match := _DOTTED.fullmatch(text):
        return math.nan if match[3] else math.inf * (-1 if match[1] == "-" else 1)
    if match := _NO_NUMBER.fullmatch(text):
        sign = -1.0 if match[1] == "-" else 1.0
        return math.copysign(math.nan if match[2][0] in "nN" else math.inf, sign)
    if _HEXADECIMAL.fullmatch(text):
        try:
            value, digits = float.fromhex(text.strip(" \t\n\v\f\r")), re.split("[pP]", text)[0]
        except OverflowError:
            return None
    elif _DECIMAL.fullmatch(text):
        value, digits = float(text), re.split("[eE]", text)[0]
    else:
        return None
    is_zero = not re.search("[1-9a-fA-F]", digits)
    return value if is_zero or 2.0**-1022 <= abs(value) < math.inf else None


def _found(event: Any) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        return "an alias" if isinstance(event, yaml.AliasEvent) else "a list"
    return f"'{event.value}'" if event.value else "nothing: write {} behind it, or leave it out"


def _misspelt(key: str) -> bool:
    return bool(difflib.get_close_matches(key, [PARAMETERS_KEY], cutoff=0.8))


def _below(namespace: str, name: str, line: int) -> str:
    if not namespace:
        return name
    if "/" in name.rstrip("/"):
        raise RclYamlError(f"'{name}' below '{namespace}': ROS misreads a name with '/' there", line)
    return f"{namespace.rstrip('/')}/{name}"


def _checked(name: str, line: int) -> str:
    """The name of a node or a pattern of names. Raises RclYamlError."""
    if not _NODE.fullmatch(name):
        raise RclYamlError(f"'{name}' is no name of a node: wanted letters, digits, '_' and '/', or '/**'", line)
    return name


def _check_flow(event: Any) -> None:
    """libyaml before 0.2, which is in some builds of ROS, refuses ``{url: http://host?x}``. Raises RclYamlError."""
    if isinstance(event, yaml.ScalarEvent) and event.style not in QUOTED and re.search("[:?]", event.value):
        raise RclYamlError(f"{event.value} within braces or brackets needs quotes, for its ':' or '?'", _line(event))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _not_yaml(data: bytes, error: yaml.YAMLError) -> RclYamlError:
    if isinstance(error, yaml.reader.ReaderError):
        line = data.count(b"\n", 0, error.position) + 1
        if "control" not in error.reason:
            return RclYamlError("not UTF-8: save the file as UTF-8", line)
        if b"\0" in data:
            return RclYamlError("not UTF-8, with zero bytes as UTF-16 has them: save the file as UTF-8", line)
        return RclYamlError(f"the control character #x{error.character:02x}: remove it", line)
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    if mark is None:
        return RclYamlError(f"not valid YAML: {problem}")
    tab = any(line.lstrip(b" ").startswith(b"\t") for line in data.split(b"\n")[mark.line : mark.line + 1])
    hint = "; the line is indented with a tab: use spaces" if tab else ""
    return RclYamlError(f"not valid YAML: {problem} (column {mark.column + 1}){hint}", mark.line + 1)
