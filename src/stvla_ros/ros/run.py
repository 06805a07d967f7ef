"""The main function of every node: start, spin, end on SIGINT or SIGTERM within two seconds.

Exit codes: 0 ended by a signal, 1 a defect, 2 wrong parameters (one sentence on stderr).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from stvla_ros.config import ConfigError
from stvla_ros.ros.stage_node import StageNode

SUPERVISOR = "STVLA_SUPERVISOR_PID"
"""Environment variable with the process that a node must not outlive."""
CLOSE_S = 1.5
WRONG_PARAMETERS = 2


def run(*nodes: Callable[[], StageNode[object]], args: Sequence[str] | None = None) -> int:
    """Make nodes and spin them in one process until a signal comes.

    Args:
        nodes: Node classes; each is called without arguments.
        args: Command line with ``--ros-args``; default ``sys.argv``.

    Returns:
        The exit code of the process.
    """
    end_with_supervisor()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    made: list[StageNode[object]] = []
    try:
        rclpy.init(args=list(sys.argv if args is None else args), signal_handler_options=SignalHandlerOptions.NO)
        made += [make() for make in nodes]
    except (ConfigError, RCLError, ParameterException) as error:
        print(one_line(error), file=sys.stderr, flush=True)
        return WRONG_PARAMETERS
    return _spin(made, stop)


def _spin(nodes: list[StageNode[object]], stop: threading.Event) -> int:
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
        node.ready()
    code = [0]
    thread = threading.Thread(target=_spin_thread, args=(executor, stop, code), name="executor", daemon=True)
    thread.start()
    stop.wait()  # in the main thread, so that signals are handled at once
    done = all([node.close(CLOSE_S) for node in nodes])
    executor.shutdown()
    thread.join(0.5)
    sys.stdout.flush()
    sys.stderr.flush()
    if not done or thread.is_alive():  # a library call that cannot be interrupted must not keep the process
        os._exit(code[0])
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown()
    return code[0]


def _spin_thread(executor: Executor, stop: threading.Event, code: list[int]) -> None:
    try:
        while not stop.is_set() or executor.get_nodes():
            executor.spin_once()
    except ExternalShutdownException:
        pass
    except Exception:  # a defect in a callback: end the process rather than live on deaf
        code[0] = 1
        traceback.print_exc()
    stop.set()


def one_line(error: Exception) -> str:
    """The first line of an error's text."""
    return " ".join(str(error).split("\n")[0].split())


def end_with_supervisor() -> None:
    """Get SIGTERM when the supervisor that started this process ends, however it ends (Linux)."""
    supervisor = os.environ.get(SUPERVISOR)
    if supervisor is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != int(supervisor):
        sys.exit(0)
