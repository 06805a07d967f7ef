"""The ``stvla`` command. Each subcommand is a module of :mod:`stvla_ros.commands`; only those that need ROS import it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from stvla_ros.commands import COMMANDS, PROTOCOLS, load
from stvla_ros.commands.arguments import Parser
from stvla_ros.commands.exit_codes import INTERRUPTED, UNREACHABLE, USAGE
from stvla_ros.config import ConfigError
from stvla_ros.files import outside_cause

DESCRIPTION = "Tell a robot arm what to do in words: ST-VLA on ROS 2."

EXIT_CODES = """\
exit codes:
  0       success
  1       a defect in stvla, or (doctor) something is wrong
  2       wrong usage or settings; one sentence on stderr says what
  3       no running stack was found, or it ended
  4       not confirmed: the stack says done and the simulator does not (demo),
          the planner points at the wrong places (doctor planner), fewer
          successes than asked for (evaluate, collect), or other decisions
          than in the golden file (replay)
  20 + n  the task, or a stage, ended with outcome code n of
          stvla_msgs/msg/Outcome
  130     Ctrl-C before a goal was sent, or during long work, which the same
          command then resumes"""


def make_parser(command: str | None = None) -> Parser:
    """The parser. Only ``command`` gets its arguments, so that the others need not be imported."""
    parser = Parser("stvla", DESCRIPTION, epilog=EXIT_CODES)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, entry in COMMANDS.items():
        examples = "\n".join(["examples:", *(f"  {line}" for line in entry.examples)])
        sub = subparsers.add_parser(name, help=entry.summary, description=entry.summary, epilog=examples)
        if name == command:
            load(name).add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code of the process."""
    if argv is None:  # this is the whole process: let SIGTERM clean up as Ctrl-C does
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
        print(f"stvla: ROS 2 is incomplete here ({error}): `stvla doctor` says what is missing.", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # e.g. `stvla backends | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        sentence = outside_cause(error)
        if sentence is None:
            raise
        print(f"stvla: {sentence}", file=sys.stderr)
        return USAGE


def joined(words: Sequence[str]) -> list[str]:
    """``evaluate planner ...`` becomes ``evaluate-planner ...``: two words may name a command, or a command's protocol."""
    if words[:1] == ["evaluate"] and words[1:2] and words[1] in PROTOCOLS:
        return ["evaluate-protocol", *words[1:]]
    both = "-".join(words[:2])
    return [both, *words[2:]] if len(words) > 1 and both in COMMANDS else list(words)


def _is_ros(module: str) -> bool:
    top = module.partition(".")[0]
    return top == "rclpy" or top.endswith(("_msgs", "_interfaces"))


if __name__ == "__main__":
    sys.exit(main())
