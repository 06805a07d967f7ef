"""``stvla annotate``: the annotation tool for ST-Human, a web page."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError, Namespace
from pathlib import Path

from rich.console import Console

from stvla_ros.commands.arguments import Parser, folder, whole
from stvla_ros.commands.progress import count_bar
from stvla_ros.config import ConfigError, closest

ROLES = ("annotator", "auditor", "acceptor", "admin")


def add_arguments(parser: Parser) -> None:
    option = parser.add_argument
    option(
        "--data", type=Path, required=True, metavar="DIR",
        help="results of `stvla human process`, or folders with rgb, depth and camera.json; the annotations are in"
        " annotations.sqlite in it",
    )  # fmt: skip
    option("--host", default="127.0.0.1", metavar="ADDRESS", help="to serve at; default 127.0.0.1, this computer only")
    option("--port", type=whole(0, 65535), default=8090, metavar="N", help="default 8090; 0: a free one")
    option(
        "--add", type=person, action="append", default=[], metavar="NAME:ROLE",
        help=f"give a person a role ({', '.join(ROLES)}) and print a new token; repeatable; serves nothing",
    )  # fmt: skip
    option(
        "--remove", action="append", default=[], metavar="NAME",
        help="take a person's token away; repeatable; serves nothing",
    )  # fmt: skip
    option(
        "--export", type=folder, metavar="OUT", help="write accepted videos as info.json and Parquet; serves nothing"
    )
    option("--everything", action="store_true", help="with --export: also what is finished but not accepted yet")


def person(text: str) -> tuple[str, str]:
    """An argument type: ``name:role``."""
    name, colon, role = text.rpartition(":")
    if not colon or not name.strip():
        raise ArgumentTypeError(f"wanted NAME:ROLE, got '{text}'")
    if role not in ROLES:
        raise ArgumentTypeError(f"no role '{role}'.{closest(role, ROLES)}")
    return name, role


def run(arguments: Namespace) -> int:
    from stvla_ros.annotate.review import Role
    from stvla_ros.annotate.store import Store, UnknownError

    if arguments.everything and arguments.export is None:
        raise ConfigError("--everything: is for --export: name its folder.")
    if not arguments.data.is_dir():
        raise ConfigError(f"--data: {arguments.data}: wanted a folder with videos, found none.")
    console = Console(soft_wrap=True, markup=False, highlight=False)
    if not (arguments.add or arguments.remove or arguments.export is not None):
        return _serve(arguments, console)
    store = Store(arguments.data)
    try:
        for name, role in arguments.add:
            console.print(f"{name}, {role}: {store.add_person(name, Role(role))}")
        for name in arguments.remove:
            try:
                store.remove_person(name)
            except UnknownError as error:
                raise ConfigError(f"--remove: {error}") from error
        if arguments.export is not None:
            from stvla_ros.annotate import export

            number = export.write(store, arguments.export, arguments.everything)
            console.print(f"{arguments.export}: {number} videos")
    finally:
        store.close()
    return 0


def _serve(arguments: Namespace, console: Console) -> int:
    from stvla_ros.annotate.server import PAGE, make_app, serve  # before videos are read: packages may be missing
    from stvla_ros.annotate.store import Store

    if not (PAGE / "index.html").exists():
        raise ConfigError(f"{PAGE}: the page is not built: make web.")
    store = Store(arguments.data)
    try:
        app = make_app(store, arguments.host)
        with count_bar(Console(file=sys.stderr), "videos") as bar:
            line = bar.add_task("", total=None)
            faults = store.add_videos(lambda done, of: bar.update(line, completed=done, total=of))
        for fault in faults:
            console.print(f"left out: {fault}")
        counts = store.listed()["counts"]
        if not counts:
            raise ConfigError(f"--data: {arguments.data}: none of its videos can be used.")
        console.print(f"{sum(counts.values())} videos: {', '.join(f'{n} {state}' for state, n in counts.items())}")
        if not store.people():
            console.print(
                "Nobody has a token: whoever uses this computer may do everything. `--add NAME:ROLE` adds people."
            )
        serve(app, arguments.host, arguments.port, lambda address: console.print(f"{address}   Ctrl-C ends it"))
    finally:
        store.close()
    return 0
