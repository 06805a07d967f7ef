"""``stvla stop``: the operator's word. The arm stops now, and nothing moves it until ``stvla stop --release``."""

from __future__ import annotations

from argparse import Namespace

from stvla_ros.commands.arguments import Parser

CONNECT_S = 5.0


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--release", action="store_true", help="allow motion again")


def run(arguments: Namespace) -> int:
    from stvla_ros.ros.services import release_arm, stop_arm

    print(release_arm(CONNECT_S) if arguments.release else stop_arm(CONNECT_S))
    return 0
