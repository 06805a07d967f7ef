"""Writes docs/reference/: the interfaces of stvla_msgs, the settings of all nodes and backends, and ST-Human's actions.

    .venv/bin/python tools/reference.py

The texts are the comments in the ``.msg``, ``.srv`` and ``.action`` files, and the documentation of the settings' dataclasses.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from stvla_ros import registry
from stvla_ros.config import SHARED
from stvla_ros.data.st_human.templates import TEMPLATES

ROOT = Path(__file__).parent.parent
MESSAGES, PAGES = ROOT / "src/stvla_msgs", ROOT / "docs/reference"
GENERATED = "<!-- Written by tools/reference.py: edit {}, not this page. -->"

PARTS = {"action": ("Goal", "Result", "Feedback"), "srv": ("Request", "Response"), "msg": ("Fields",)}
"""Kind of interface -> its parts, in the order of the file."""

KINDS = {"action": "Actions", "srv": "Services", "msg": "Messages"}


@dataclass
class Interface:
    """One ``.msg``, ``.srv`` or ``.action`` file.

    Attributes:
        comment: What stands at its head.
        parts: Per part, rows of type, name (``NAME = value`` for a constant) and comment.
    """

    kind: str
    name: str
    comment: str = ""
    parts: list[list[tuple[str, str, str]]] = field(default_factory=lambda: [[]])


def interface(path: Path) -> Interface:
    """Read a definition. A comment on lines of its own belongs to the file at its head, else to the field before it."""
    found, head = Interface(path.suffix[1:], path.stem), []
    for line in path.read_text().splitlines():
        code, _, comment = (text.strip() for text in line.partition("#"))
        rows = found.parts[-1]
        if code == "---":
            found.parts.append([])
        elif code:
            kind, name = code.split(maxsplit=1)
            rows.append((kind, re.sub(r"\s*=\s*", " = ", name), comment))
        elif comment and rows:
            rows[-1] = (*rows[-1][:2], f"{rows[-1][2]} {comment}".strip())
        elif comment:
            head.append(comment)
    found.comment = " ".join(head)
    return found


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def interfaces() -> str:
    """The page of interfaces."""
    found = [interface(path) for kind in KINDS for path in sorted(MESSAGES.glob(f"{kind}/*.{kind}"))]
    ours = {f"stvla_msgs/{one.name}": one.name.lower() for one in found}

    def link(kind: str) -> str:
        plain = kind.partition("[")[0]
        return f"[`{kind.removeprefix('stvla_msgs/')}`](#{ours[plain]})" if plain in ours else f"`{kind}`"

    lines = [
        "# Interfaces",
        "",
        GENERATED.format("the comments in src/stvla_msgs"),
        "",
        "Package `stvla_msgs`. Names end in their unit: `_m`, `_s`, `_ms`, `_ns`; quaternions are x, y, z, w.",
    ]
    for kind, title in KINDS.items():
        lines += ["", f"## {title}"]
        for one in (one for one in found if one.kind == kind):
            lines += ["", f"### {one.name}", "", one.comment]
            for part, rows in zip(PARTS[kind], one.parts):
                constants = [(f"`{name}`", comment) for _, name, comment in rows if " = " in name]
                fields = [(link(type_), f"`{name}`", comment) for type_, name, comment in rows if " = " not in name]
                lines += ["", f"{part}:" if rows else f"{part}: nothing."] if kind != "msg" else []
                lines += ["", *table(("constant", "meaning"), constants)] if constants else []
                lines += ["", *table(("type", "field", "meaning"), fields)] if fields else []
    return "\n".join(lines) + "\n"


@dataclass
class Setting:
    """One setting: its full name as in ``--set``, default, what is allowed, and its documentation."""

    name: str
    default: Any
    metadata: Mapping[str, Any]

    @property
    def allowed(self) -> str:
        """Choices or range, in words."""
        low, high, choices = (self.metadata.get(key) for key in ("ge", "le", "choices"))
        if choices:
            return ", ".join(f"`{choice}`" for choice in choices)
        if low is None and high is None:
            return "`true`, `false`" if isinstance(self.default, bool) else ""
        return f"{low} to {high}" if None not in (low, high) else f"up to {high}" if low is None else f"{low} and more"


@cache
def settings() -> dict[str, list[Setting]]:
    """Section -> its settings: ``robot``, every node without its ``robot``, and under ``node.backend`` every backend."""
    found: dict[str, list[Setting]] = {SHARED: []}
    for node, (path, backends) in registry.NODES.items():
        module, name = path.split(":")
        config = getattr(import_module(module), name)()
        found[SHARED] = list(_settings(config.robot, SHARED))
        found[node] = [s for s in _settings(config, node) if not s.name.startswith(f"{node}.{SHARED}.")]
        for setting, kind in backends.items():
            (chosen,) = (s for s in found[node] if s.name == f"{node}.{setting}")
            chosen.metadata = {**chosen.metadata, "choices": registry.names(kind)}
            for name in registry.names(kind):
                section = f"{node}.{name}"
                found[section] = list(_settings(registry.load(kind, name).Config(), section))
    return found


def _settings(config: Any, section: str) -> Iterator[Setting]:
    for entry in dataclasses.fields(config):
        name, value = f"{section}.{entry.name}", getattr(config, entry.name)
        if dataclasses.is_dataclass(value):
            yield from _settings(value, name)
        else:
            yield Setting(name, value, entry.metadata)


def settings_page() -> str:
    """The page of settings."""
    lines = [
        "# Settings",
        "",
        GENERATED.format("the documentation in the settings classes"),
        "",
        "Every setting by its full name, as `--set NAME=VALUE` takes it. In a [parameter file](../../config/stvla.yaml) the first",
        "word is the node and the rest stands under `ros__parameters`; `robot` stands under `/**`, for all nodes. A backend's",
        "settings are read only when the backend is chosen. Those marked *live* may change while the node runs:",
        "`ros2 param set /executor roboplan.velocity_scale 0.2`. All others are read once, when the node starts.",
    ]
    for section, found in settings().items():
        lines += ["", f"{'###' if '.' in section else '##'} {section}", ""]
        lines += table(("setting", "default", "allowed", "meaning"), map(_row, found)) if found else ["No settings."]
    return "\n".join(lines) + "\n"


def _row(setting: Setting) -> tuple[str, ...]:
    default, live = setting.default, setting.metadata.get("live")
    shown = json.dumps(list(default) if isinstance(default, tuple) else default, ensure_ascii=False)
    return f"`{setting.name}`", f"`{shown}`", setting.allowed, setting.metadata["doc"] + ("; *live*" if live else "")


def actions_page() -> str:
    """The page of ST-Human's action templates."""
    lines = [
        "# ST-Human's actions",
        "",
        GENERATED.format("src/stvla_ros/data/st_human/templates.py"),
        "",
        "The 18 kinds of actions in the `info.json` of a video ([data](../data.md#videos-of-hands-st-human)), their sentences, and",
        "what the hand does. The first sentence is the canonical one. A slot that the words imply has its value here.",
        "",
    ]
    rows = []
    for template in TEMPLATES.values():
        for form in template.forms:
            slots = [f"`{name}`" for name in form.slots] + [
                f"`{name}`: {value}" for name, value in form.implied.items()
            ]
            said = "<br>".join(f"{wording[0].upper()}{wording[1:]}." for wording in form.wordings)
            rows.append(
                (f"`{template.id}`", said, ", ".join(slots), str(template.gripper), template.initial, template.final)
            )
    lines += table(("template", "sentences", "slots", "gripper", "first contact", "last contact"), rows)
    return "\n".join(lines) + "\n"


PAGE = {"interfaces.md": interfaces, "settings.md": settings_page, "st_human_actions.md": actions_page}
"""File below docs/reference -> what writes it."""


def main() -> None:
    """Entry point."""
    PAGES.mkdir(exist_ok=True)
    for name, write in PAGE.items():
        (PAGES / name).write_text(write())
        print((PAGES / name).relative_to(ROOT))


if __name__ == "__main__":
    main()
