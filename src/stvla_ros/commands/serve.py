"""``stvla serve``: serves a policy to a robot, from a computer with a GPU."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from stvla_ros import registry
from stvla_ros.commands.arguments import Parser, add_override_argument, whole
from stvla_ros.config import ConfigError
from stvla_ros.tokens import read_token


def add_arguments(parser: Parser) -> None:
    option = parser.add_argument
    names = [name for name in registry.names("policy") if name != "remote"]
    option("--policy", choices=names, metavar="NAME", help=f"{', '.join(names)}; default: the parameter file's")
    option("--host", default="127.0.0.1", metavar="ADDRESS", help="to serve at; default 127.0.0.1, this computer only")
    option("--port", type=whole(0, 65535), default=8000, metavar="N", help="default 8000; 0: a free one")
    option("--token-file", default="", metavar="FILE", help="wanted of clients; mode 600")
    option("--token-variable", default="", metavar="NAME", help="environment variable with the token")
    option("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default: the defaults")
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    from stvla_ros.evaluate.stack import make_policy, read_settings
    from stvla_ros.policy.remote.server import PolicyServer

    settings = read_settings(arguments.params, {"policy": arguments.policy}, dict(arguments.overrides), ("policy",))
    name = settings.backends["policy"]
    if name == "remote":
        raise ConfigError(
            "stvla serve: the parameter file's policy is 'remote' itself: choose another one with --policy."
        )
    token = read_token(
        ("--token-file", arguments.token_file), ("--token-variable", arguments.token_variable), os.environ
    )
    console = Console(soft_wrap=True, markup=False, highlight=False)
    server = PolicyServer(make_policy(settings), name, arguments.host, arguments.port, token, console.print)
    console.print(f"Policy '{name}' at ws://{arguments.host}:{server.port}. Ctrl-C ends it.")
    try:
        server.run()
    except KeyboardInterrupt:
        server.close()
    return 0
