"""The main function of every node: start, spin, end on SIGINT or SIGTERM within two seconds.

Exit codes: 0 ended by a signal, 1 a defect, 2 wrong parameters (one sentence on stderr).
"""

from __future__ import annotations

import ctypes
import gc
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from stvla_ros.config import ConfigError
from stvla_ros.ros.graph import SUPERVISOR, WRONG_PARAMETERS
from stvla_ros.ros.shared_memory import remove_orphans
from stvla_ros.ros.stage_node import StageNode

CLOSE_S = 1.5

_endings: queue.SimpleQueue[int] = queue.SimpleQueue()
"""Exit codes asked for. Its ``put`` may be interrupted by itself, as happens in signal handlers; an Event's may not."""


def stop(code: int = 0) -> None:
    """End this process, from any thread or signal handler."""
    _endings.put(code)


def run(*nodes: Callable[[], StageNode[Any]], args: Sequence[str] | None = None) -> int:
    """Make nodes and spin them in one process until a signal comes.

    Args:
        nodes: Node classes; each is called without arguments.
        args: Command line with ``--ros-args``; default ``sys.argv``.

    Returns:
        The exit code of the process.
    """
    end_with_supervisor()
    remove_orphans()  # of the process that this one replaces, after a kill: /dev/shm is small in a container
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop())
    try:
        rclpy.init(args=list(sys.argv if args is None else args), signal_handler_options=SignalHandlerOptions.NO)
        made = [make() for make in nodes]
    except (ConfigError, RCLError, ParameterException) as error:
        print(one_line(error), file=sys.stderr, flush=True)
        return WRONG_PARAMETERS
    return _spin(made)


def _spin(nodes: list[StageNode[Any]]) -> int:
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
        node.ready()
    ending = threading.Event()
    thread = threading.Thread(target=_spin_thread, args=(executor, ending), name="executor", daemon=True)
    thread.start()
    code = _endings.get()  # in the main thread, so that signals are handled at once
    closed = [node.close(CLOSE_S) for node in nodes]
    ending.set()
    executor.shutdown()
    thread.join(0.5)
    sys.stdout.flush()
    sys.stderr.flush()
    if not all(closed) or thread.is_alive():  # a library call that cannot be interrupted must not keep the process
        os._exit(code)
    for node in nodes:
        node.destroy_node()
    nodes.clear()
    del node, executor
    gc.collect()  # while native libraries are still complete; they complain about what is left to the interpreter's end
    rclpy.shutdown()
    return code


def _spin_thread(executor: Executor, ending: threading.Event) -> None:
    try:
        while executor.get_nodes():
            executor.spin_once()
    except ExternalShutdownException:
        stop()
    except Exception:  # noqa: BLE001 - a defect in a callback: end the process rather than live on deaf
        if ending.is_set():
            return  # handles may vanish under a wait that a shutdown interrupts
        traceback.print_exc()
        stop(1)


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
