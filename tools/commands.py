"""All commands with their options, for docs/commands.md.

    .venv/bin/python tools/commands.py          # writes the page anew

The texts are those of ``stvla COMMAND --help``, read from the same parsers: edit the help, not the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from stvla_ros.cli import EXIT_CODES, make_parser
from stvla_ros.commands import COMMANDS, ROLES

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/commands.md"
HEAD = """\
# Commands

<!-- Written by tools/commands.py from the help texts in src/stvla_ros/commands: edit those, not this page. -->

`stvla COMMAND --help` prints the same texts. After `make setup` the command is `.venv/bin/stvla`; in a colcon workspace
it is `ros2 run stvla_ros stvla`. What `--set` takes is listed in [`config/stvla.yaml`](../config/stvla.yaml).
"""
ARGUMENTS, OPTIONS = "positional arguments", "options"
"""Titles that argparse gives to the groups without one."""

EXAMPLES = "examples:"


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers below a parser, by name."""
    found = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next(found, {})


def page() -> str:
    """The page."""
    sections = [line for name in COMMANDS for line in _command(name)]
    codes = ["## Exit codes", "", "```text", *EXIT_CODES.splitlines()[1:], "```", ""]
    return "\n".join([HEAD, *_overview(), *sections, *codes])


def _overview() -> Iterator[str]:
    for role in ROLES:
        yield from (f"| {role} | |", "|---|---|")
        for name, entry in COMMANDS.items():
            if entry.role == role:
                yield f"| [`stvla {name}`](#stvla-{name}) | {_cell(entry.summary)} |"
        yield ""


def _command(name: str) -> Iterator[str]:
    parser = subcommands(make_parser(name))[name]
    yield from _section(parser, "##")
    for verb in subcommands(parser).values():
        yield from _section(verb, "###")


def _section(parser: argparse.ArgumentParser, marks: str) -> Iterator[str]:
    yield from (f"{marks} {parser.prog}", "")
    if parser.description:
        yield from (_sentence(parser.description), "")
    notes, _, examples = (parser.epilog or "").partition(EXAMPLES)
    if notes.strip():
        yield from (notes.strip(), "")
    if examples.strip():
        yield from ("```bash", *(line.strip() for line in examples.strip().splitlines()), "```", "")
    for group in parser._action_groups:
        rows = [row for action in group._group_actions for row in _rows(parser, action)]
        if rows:
            if group.title not in (ARGUMENTS, OPTIONS):
                yield from (_sentence(str(group.title)), "")
            yield from (f"| {'argument' if group.title == ARGUMENTS else 'option'} | |", "|---|---|", *rows, "")


def _rows(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    if isinstance(action, argparse._HelpAction):
        return
    if isinstance(action, argparse._SubParsersAction):
        yield from (f"| `{choice.dest}` | {_cell(choice.help or '')} |" for choice in action._choices_actions)
        return
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    names = [*action.option_strings, *([] if action.nargs == 0 else [str(value)])]
    words = " ".join(names).replace("|", "` or `")
    yield f"| `{words}` | {_cell(parser._get_formatter()._expand_help(action) if action.help else '')} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text[-1] in '.?!' else '.'}"


def main() -> None:
    """Entry point."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)}: {len(COMMANDS)} commands.")


if __name__ == "__main__":
    main()
