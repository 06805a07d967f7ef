"""The main function of every node: start, spin, and end within two seconds on SIGINT, SIGTERM or SIGHUP, or with the
supervisor.

Exit codes: 0 after a signal or with the supervisor; 1 after a defect in any thread; 2 for wrong parameters or files
(one sentence on stderr).

The process exits with ``os._exit`` after everything was closed and flushed. The interpreter's own exit would tear
down native libraries while threads still use them: RoboPlan's nanobind then reports leaked objects, and OMPL crashes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import rclpy
from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from stvla_ros.config import ConfigError
from stvla_ros.ros import SUPERVISOR
from stvla_ros.ros.graph import WRONG_PARAMETERS
from stvla_ros.ros.middleware import end_discovery
from stvla_ros.ros.shared_memory import remove_orphans
from stvla_ros.ros.stage_node import StageNode

CLOSE_S = 1.5
END_S = 4.0
"""Time after the first signal at which the kernel kills a process that has not ended: twice the usual time."""

FORGOTTEN_S = 2.2
"""Others may forget a process that was suspended for this long: ``leaseDuration`` of ``config/fastdds.xml`` (3 s) less
the time since its last announcement (``leaseAnnouncement``, 0.75 s)."""

CPU_SHARE = 0.05
"""A process that used less CPU time than this share of a pause was suspended, or starved by the machine."""

LOOK_S = 0.25
"""How often a process looks whether it was suspended."""


class _Endings:
    """A queue of requested exit codes.

    The main thread waits at a pipe into which Python's C handler writes at every signal. The kernel may deliver a
    signal to any thread (it does when two come at once); a main thread that waits at a lock would then sleep on and
    not run its handlers.
    """

    def __init__(self) -> None:
        self._codes: queue.SimpleQueue[int] = queue.SimpleQueue()  # reentrant, as signal handlers require
        self.asked = False
        """Whether the end has begun."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def wake_at_signals(self) -> None:
        """To be called in the main thread, before the first signal."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def put(self, code: int) -> None:
        """Callable from any thread and from signal handlers."""
        self.asked = True
        self._codes.put(code)
        with contextlib.suppress(BlockingIOError):  # full: it wakes without this byte
            os.write(self._writer, b"\0")

    def get(self) -> int:
        """Wait for an exit code."""
        while self._codes.empty():
            select.select([self._reader], [], [])
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)
        return self._codes.get()


_endings = _Endings()


class _EndedWhileLoadingError(BaseException):
    """The process was asked to end before the nodes were created."""


def stop(code: int = 0) -> None:
    """End this process, from any thread or signal handler."""
    _endings.put(code)


def run(*nodes: Callable[[], StageNode[Any]], args: Sequence[str] | None = None) -> NoReturn:
    """Create nodes and spin them in one process until a signal comes or the supervisor ends, then exit.

    Args:
        nodes: Node classes; each is called without arguments.
        args: Command line with ``--ros-args``; default ``sys.argv``.
    """
    loading, ending = True, False

    def end(number: int, frame: object) -> None:
        nonlocal loading, ending
        stop()
        for output in (1, 2):
            _quiet_when_broken(output)
        if not ending:
            ending = True
            signal.setitimer(signal.ITIMER_REAL, END_S)  # SIGALRM kills even when a library never returns to Python
        if loading:
            loading = False  # raise only once: a second signal must not disturb the end
            raise _EndedWhileLoadingError

    _endings.wake_at_signals()
    _on_signals(end)
    threading.excepthook = _end_of_thread
    try:
        end_with_supervisor()
        remove_orphans()  # of a killed process that this one replaces: /dev/shm is small in a container
        rclpy.init(args=list(sys.argv if args is None else args), signal_handler_options=SignalHandlerOptions.NO)
        made = [make() for make in nodes]
        loading = False
        after_suspension(lambda: stop(1))
    except (ConfigError, RCLError, ParameterException) as error:
        loading = False
        print(one_line(error), file=sys.stderr, flush=True)
        os._exit(WRONG_PARAMETERS)
    except _EndedWhileLoadingError:
        os._exit(0)
    code = _spin(made)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _on_signals(end: Callable[[int, object], None]) -> None:
    """Handle SIGINT and SIGTERM, and SIGHUP of a closed terminal unless ``nohup`` makes the process ignore it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def _spin(nodes: list[StageNode[Any]]) -> int:
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
        node.ready()
    ending = threading.Event()
    thread = threading.Thread(target=_spin_thread, args=(executor, ending), name="executor", daemon=True)
    thread.start()
    code = _endings.get()  # in the main thread, so that signals are handled at once
    end = time.monotonic() + CLOSE_S  # last node first: the task ends while the nodes it calls still answer
    closed = [node.close(max(0.0, end - time.monotonic())) for node in reversed(nodes)]
    ending.set()
    executor.shutdown()
    thread.join(0.5)
    sys.stdout.flush()
    sys.stderr.flush()
    if not all(closed) or thread.is_alive():  # a library call that cannot be interrupted must not keep the process
        os._exit(code)
    end_discovery(nodes[0])  # of all: they have one context
    for node in nodes:
        node.destroy_node()
    nodes.clear()
    del node, executor
    gc.collect()  # while native libraries are complete: they complain about objects left to the interpreter's exit
    rclpy.shutdown()
    return code


def _end_of_thread(
    how: threading.ExceptHookArgs, usual: Callable[[threading.ExceptHookArgs], object] = threading.excepthook
) -> None:
    """End the process when a thread ends with an exception: the node would go on half dead, with a heartbeat.

    A ConfigError (a wrong input file) ends it with one sentence, like wrong parameters. Once the end has begun, a
    thread that nobody waits for, e.g. one that looks for a robot, may find its handles destroyed; that is not an error.
    """
    if _endings.asked and issubclass(how.exc_type, InvalidHandle):
        return
    if isinstance(how.exc_value, ConfigError):
        print(one_line(how.exc_value), file=sys.stderr, flush=True)
        stop(WRONG_PARAMETERS)
        return
    usual(how)
    stop(1)


def _spin_thread(executor: Executor, ending: threading.Event) -> None:
    try:
        while executor.get_nodes():
            executor.spin_once()
    except ExternalShutdownException:
        stop()
    except Exception:  # noqa: BLE001 - a defect in a callback: end the process, it would receive nothing any more
        if ending.is_set():
            return  # a shutdown may destroy handles that are waited for
        traceback.print_exc()
        stop(1)


def one_line(error: Exception) -> str:
    """The first line of an error's text."""
    return " ".join(str(error).split("\n")[0].split())


def end_with_supervisor() -> None:
    """Send this process SIGTERM when its supervisor ends, for whatever reason; exit now if it has already ended
    (Linux).

    The environment variable :data:`SUPERVISOR` has the supervisor's process id. The supervisor need not be the
    parent: there may be a wrapper (debugger, shell) in between. The kernel's parent-death signal is not enough: it
    comes at the end of the parent's *thread*, and only from the parent.
    """
    supervisor = os.environ.get(SUPERVISOR)
    if supervisor is None or not sys.platform.startswith("linux"):
        return
    try:
        process = os.pidfd_open(int(supervisor))
    except ProcessLookupError:
        print(f"The process {supervisor} that started this node has ended, so the node ends too.", file=sys.stderr)
        os._exit(0)
    threading.Thread(target=_await_end, args=(process,), name="supervisor", daemon=True).start()


def _await_end(process: int) -> None:
    select.select([process], [], [])
    os.kill(os.getpid(), signal.SIGTERM)


def after_suspension(end: Callable[[], object]) -> None:
    """Call ``end`` once this process was suspended (SIGSTOP, a debugger, a starved machine) so long that others forgot it.

    Fast DDS 2.14 does not always bring two processes together again when one of them dropped the other: the node would
    go on without ever hearing some of them, and only a new process heals that (docs/decisions/0008-transports.md).
    """
    threading.Thread(target=_watch_pauses, args=(end,), name="suspension", daemon=True).start()


def _watch_pauses(end: Callable[[], object]) -> None:
    at_s, cpu_s, pause_s, used_s = time.monotonic(), time.process_time(), 0.0, 0.0
    while not was_suspended(pause_s, used_s):
        time.sleep(LOOK_S)
        before_s, at_s = at_s, time.monotonic()
        used_before_s, cpu_s = cpu_s, time.process_time()
        pause_s, used_s = at_s - before_s, cpu_s - used_before_s
    print(
        f"This process was suspended for {pause_s:.1f} s. The other nodes forget a process after 3 s of silence and may "
        "not find it again: it ends, so that it is restarted.",
        file=sys.stderr,
        flush=True,
    )
    end()


def was_suspended(pause_s: float, cpu_s: float) -> bool:
    """Whether a process in which a short sleep took ``pause_s`` was suspended so long that others forgot it.

    Args:
        pause_s: Wall time [s].
        cpu_s: CPU time that all threads of the process used meanwhile [s]. A library that computes without releasing
            the interpreter's lock pauses Python too, but not the middleware's threads, which still announce the process.
    """
    return pause_s >= FORGOTTEN_S and cpu_s < CPU_SHARE * pause_s


def _quiet_when_broken(output: int) -> None:
    """Redirect an output whose reader has ended (a supervisor, a terminal): every further line would be an error."""
    poll = select.poll()
    poll.register(output, 0)
    if poll.poll(0):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, output)
        os.close(null)
