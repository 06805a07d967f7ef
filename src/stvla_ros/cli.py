"""The ``stvla`` command. Each subcommand is a module of :mod:`stvla_ros.commands`; ROS is imported only where it is needed.

Exit codes: 0 it worked; 1 a defect; 2 wrong usage or settings (one sentence on stderr); 3 no stack to talk to, or it
ended; 4 the stack says done and the simulator does not (demo), or fewer successes than asked (evaluate); 130 Ctrl-C
before a goal was sent; 20 + n when a task ended with outcome code n of ``stvla_msgs/msg/Outcome``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from stvla_ros.commands import COMMANDS, load
from stvla_ros.commands.arguments import Parser
from stvla_ros.commands.exit_codes import INTERRUPTED, UNREACHABLE, USAGE
from stvla_ros.config import ConfigError
from stvla_ros.files import outside_cause

DESCRIPTION = "Tell a robot arm what to do in words: ST-VLA on ROS 2."


def make_parser(command: str | None = None) -> Parser:
    """The parser; only ``command`` gets its arguments, so that the others need not be imported."""
    parser = Parser("stvla", DESCRIPTION, epilog=(__doc__ or "").split("\n\n", 1)[1])
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(name, help=summary, description=summary)
        if name == command:
            load(name).add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code of the process."""
    if argv is None:  # a process of our own: SIGTERM closes what is open, as Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = joined(sys.argv[1:] if argv is None else argv)
    command = next((a for a in arguments if not a.startswith("-")), None)
    try:
        parsed = make_parser(command).parse_checked(arguments)
        return load(parsed.command).run(parsed)
    except ConfigError as error:
        print(f"stvla: {error}", file=sys.stderr)
        return USAGE
    except ConnectionError as error:
        print(f"stvla: {error}", file=sys.stderr)
        return UNREACHABLE
    except ImportError as error:
        if not _is_ros(error.name or ""):
            raise
        print(f"stvla: ROS 2 is not all here ({error}): `stvla doctor` says what is missing.", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone (`stvla backends | head -1`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        sentence = outside_cause(error)
        if sentence is None:
            raise
        print(f"stvla: {sentence}", file=sys.stderr)
        return USAGE


def joined(words: Sequence[str]) -> list[str]:
    """``evaluate planner ...`` as ``evaluate-planner ...``: two words may name a command."""
    both = "-".join(words[:2])
    return [both, *words[2:]] if len(words) > 1 and both in COMMANDS else list(words)


def _is_ros(module: str) -> bool:
    top = module.partition(".")[0]
    return top == "rclpy" or top.endswith(("_msgs", "_interfaces"))


if __name__ == "__main__":
    sys.exit(main())
