"""``stvla backends``: lists the backends, and whether they can be loaded here."""

from __future__ import annotations

from argparse import Namespace

from rich.console import Console
from rich.table import Table

from stvla_ros import registry
from stvla_ros.commands.arguments import Parser
from stvla_ros.config import ConfigError


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--kind", choices=tuple(registry.BACKENDS), metavar="KIND", help=", ".join(registry.BACKENDS))


def run(arguments: Namespace) -> int:
    table = Table("kind", "name", "what it is", "here")
    for kind in [arguments.kind] if arguments.kind else registry.BACKENDS:
        for name in registry.names(kind):
            table.add_row(kind, name, *_describe(kind, name))
    Console().print(table)
    return 0


def _describe(kind: str, name: str) -> tuple[str, str]:
    try:
        text = registry.load(kind, name).__doc__ or ""
    except ConfigError as error:
        return "", f"[red]missing[/]: {error}"
    return text.strip().split("\n")[0], "[green]ok[/]"
