"""The server alone, for developers: ``python -m stvla_ros.sim.fci``. Any libfranka program can use it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from threading import Event

from stvla_ros.config import ConfigError, build
from stvla_ros.errors import StageError
from stvla_ros.sim.fci import wire
from stvla_ros.sim.fci.cell import FciCell
from stvla_ros.sim.fci.limits import LIMITS
from stvla_ros.sim.fci.server import FciConfig, FciServer
from stvla_ros.sim.tasks import TASKS

HELP = """
Lines on the standard input:
  user_stop on|off   press or release the user stop
  safety on|off      activate a safety function of the robot
  network on|off     off: nothing is sent or received, connections stay
  reset TASK SEED    lay out another scene
  score              is the task done?
  status             the arm's mode, time, and how far it is behind the clock
"""


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C; 2 for a wrong option or an address in use."""
    options = _options(arguments)
    values = {"hostname": options.hostname, "real_time": not options.lock_step, "homed": options.homed}
    cell = FciCell()
    try:
        config = build(FciConfig, {**values, "answer_limit_s": options.answer_limit}, "python -m stvla_ros.sim.fci")
        instruction = cell.reset(options.task, options.seed)
        server = FciServer(cell, config, options.model)
    except (ConfigError, StageError) as error:
        print(error, file=sys.stderr)
        return 2
    server.start()
    print(
        f"Arm: {config.hostname}:{wire.ARM_PORT}, hand: {config.hostname}:{wire.HAND_PORT}. {instruction}", flush=True
    )
    try:
        _obey(server, cell)
        Event().wait()
    except KeyboardInterrupt:
        pass
    server.close()
    cell.close()
    return 0


def _options(arguments: list[str] | None) -> Namespace:
    default = FciConfig()
    parser = ArgumentParser(
        "python -m stvla_ros.sim.fci", description=__doc__, epilog=HELP, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--hostname", default=default.hostname, help="address to listen at (%(default)s)")
    parser.add_argument("--task", default="pick_place", choices=TASKS, help="what lies on the table (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the scene (%(default)s)")
    parser.add_argument("--model", default="panda", choices=LIMITS, help="whose limits hold (%(default)s)")
    parser.add_argument("--lock-step", action="store_true", help="while it moves, go as fast as the client answers")
    parser.add_argument(
        "--answer-limit", type=float, default=default.answer_limit_s, metavar="S",
        help="wait so long for an answer before it counts as missing [s] (%(default)s; a robot: 0.001)",
    )  # fmt: skip
    parser.add_argument("--homed", action="store_true", help="the hand knows its width without homing")
    return parser.parse_args(arguments)


def _obey(server: FciServer, cell: FciCell) -> None:
    """Until the end of the input."""
    for line in sys.stdin:
        try:
            print(_do(server, cell, line.split()), flush=True)
        except (IndexError, KeyError, ValueError, StageError) as error:
            print(f"{line.strip()}: {error}.{HELP}", flush=True)


def _do(server: FciServer, cell: FciCell, words: list[str]) -> str:
    verb, *values = words
    if verb == "reset":
        return cell.reset(values[0], int(values[1]))
    if verb == "score":
        score = cell.score()
        return f"{score.success} {score.detail}"
    if verb == "status":
        return f"{server.mode.name}, {cell.time_ns * 1e-9:.3f} s, {server.behind_s:.3f} s behind the clock"
    on = {"on": True, "off": False}[values[0]]
    if verb == "network":
        server.network = on
    else:
        {"user_stop": server.user_stop, "safety": server.safety_function}[verb](on)
    return f"{verb} {values[0]}"


if __name__ == "__main__":
    sys.exit(main())
