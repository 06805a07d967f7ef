"""Starts the stack without ``ros2 launch``: one process per node, prefixed logs, respawn, and no orphans.

    with Stack(GraphOptions(mode="composed")) as stack:
        stack.wait_ready(30.0)
        ...

Every node ends when the supervisor ends, for whatever reason (:func:`stvla_ros.ros.run.end_with_supervisor`).
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO

from stvla_ros.config import ConfigError
from stvla_ros.ros import SUPERVISOR
from stvla_ros.ros.graph import (
    DISCOVERY_RANGE,
    RESPAWN_DELAY_S,
    WRONG_PARAMETERS,
    GraphOptions,
    NodeSpec,
    middleware_profile,
    node_names,
    processes,
    ros_arguments,
    who_may_move,
)
from stvla_ros.ros.shared_memory import remove_orphans

MAX_DELAY_S = 16.0
STEADY_S = 30.0
"""A node that ran for this long is restarted with the shortest delay."""
STOP_S = 2.5
COLOURS = (36, 32, 33, 35, 34, 96, 92, 93)

Say = Callable[[str, str], None]
"""Takes a process's name and one line of its output."""


@dataclass
class _Child:
    """One process and its restarts."""

    spec: NodeSpec
    command: list[str]
    log: IO[bytes] | None
    popen: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    delay_s: float = RESPAWN_DELAY_S
    due: float = 0.0
    last_line: str = ""
    rest: bytes = field(default=b"")


class Stack:
    """The stack's processes, supervised by a thread.

    Args:
        options: What to start.
        logs: Folder for one log file per process; None: no files.
        say: Receives the output lines; default: stdout, prefixed with the process's name.
        env: Additional environment variables of the nodes.
        programs: Name of a process -> module to run instead of the node's own.

    Raises:
        ConfigError: An option or the parameter file is wrong.
    """

    def __init__(
        self,
        options: GraphOptions | None = None,
        logs: Path | None = None,
        say: Say | None = None,
        env: Mapping[str, str] | None = None,
        programs: Mapping[str, str] | None = None,
    ) -> None:
        self.options = options or GraphOptions()
        self.failure: str | None = None
        """Why the stack ended: a node refused its parameters."""
        self._say = say or _printer(processes(self.options))
        self.environment: Mapping[str, str] = {**os.environ, **_environment(), **(env or {})}
        """The environment of the nodes."""
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)
        self._children = [
            _Child(spec, _command(self.options, spec), (logs / f"{spec.name}.log").open("ab") if logs else None)
            for spec in (_replaced(spec, programs or {}) for spec in processes(self.options))
        ]
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="supervisor")

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all processes, after removing what killed processes left in shared memory."""
        remove_orphans()
        self._thread.start()

    def stop(self) -> None:
        """End all processes: SIGTERM, then SIGKILL for those still running after 2.5 s. May be called twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the stack has ended or was stopped; False on timeout."""
        return self._ended.wait(timeout_s)

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until every node sends heartbeats.

        Raises:
            ConfigError: A node refused its parameters; the message is the node's.
            ConnectionError: A node did not start in time.
        """
        from stvla_ros.ros.client import wait_for_nodes

        names = node_names(self.options)
        missing = wait_for_nodes(names, timeout_s, lambda: self._ended.is_set())
        if self.failure is not None:
            raise ConfigError(self.failure)
        if missing:
            raise ConnectionError(f"Not up within {timeout_s:g} s: {', '.join(missing)}. Look at the log.")

    def pids(self) -> dict[str, int]:
        """Process ids of the running processes."""
        return {c.spec.name: c.popen.pid for c in self._children if c.popen and c.popen.poll() is None}

    # --- the supervisor's thread: only it starts processes ----------------------------------------------------------

    def _supervise(self) -> None:
        try:
            for child in self._children:
                self._start(child)
            while not self._stop.is_set():
                self._pump(0.1)
                for child in self._children:
                    self._look_after(child)
        finally:
            self._end()
            self._ended.set()

    def _start(self, child: _Child) -> None:
        child.popen = subprocess.Popen(
            child.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            # Ctrl-C in the terminal reaches only the supervisor, which ends the nodes in order; and no other program of
            # the terminal holds up a node (stvla_ros.priority)
            start_new_session=True,
        )
        child.started, child.rest = time.monotonic(), b""
        assert child.popen.stdout is not None
        os.set_blocking(child.popen.stdout.fileno(), False)
        self._selector.register(child.popen.stdout, selectors.EVENT_READ, child)

    def _look_after(self, child: _Child) -> None:
        """Restart a dead process with a growing delay; end everything when it refused its parameters."""
        if child.popen is None:
            if time.monotonic() >= child.due:
                self._start(child)
            return
        code = child.popen.poll()
        if code is None:
            return
        self._drain(child)
        if code == WRONG_PARAMETERS:
            self.failure = child.last_line or f"{child.spec.name} refused its parameters."
            self._stop.set()
        elif child.spec.respawn:
            steady = time.monotonic() - child.started > STEADY_S
            child.delay_s = RESPAWN_DELAY_S if steady else child.delay_s
            self._output(child, f"ended with {_how(code)}; it starts again in {child.delay_s:g} s")
            child.due, child.popen = time.monotonic() + child.delay_s, None
            child.delay_s = min(2 * child.delay_s, MAX_DELAY_S)

    def _pump(self, timeout_s: float) -> None:
        if not self._selector.get_map():
            time.sleep(timeout_s)
            return
        for key, _ in self._selector.select(timeout_s):
            self._read(key.data)

    def _read(self, child: _Child) -> bool:
        """Read the process's output; False at its end."""
        assert child.popen is not None
        assert child.popen.stdout is not None
        try:
            chunk = os.read(child.popen.stdout.fileno(), 65536)
        except BlockingIOError:
            return False
        if not chunk:
            return False
        if child.log is not None:
            child.log.write(chunk)
            child.log.flush()
        *lines, child.rest = (child.rest + chunk).split(b"\n")
        for line in lines:
            self._output(child, line.decode(errors="replace"), logged=True)
        return True

    def _drain(self, child: _Child) -> None:
        """Read the rest of the output of a process that has ended."""
        assert child.popen is not None
        assert child.popen.stdout is not None
        while self._read(child):
            pass
        if child.rest:
            self._output(child, child.rest.decode(errors="replace"), logged=True)
        self._selector.unregister(child.popen.stdout)
        child.popen.stdout.close()

    def _output(self, child: _Child, line: str, logged: bool = False) -> None:
        child.last_line = line.strip() or child.last_line
        if child.log is not None and not logged:
            child.log.write(f"{line}\n".encode())
            child.log.flush()
        try:
            self._say(child.spec.name, line)
        except OSError:  # the terminal was closed, or the pipe's reader has ended: nobody supervises the arm
            self._say = lambda *_: None
            self._stop.set()

    def _end(self) -> None:
        """End all processes. Executor and task get the signal first, while the robot's node is still alive."""
        running = [c for c in self._children if c.popen is not None and c.popen.poll() is None]
        for child in reversed(running):
            assert child.popen is not None
            child.popen.send_signal(signal.SIGTERM)  # SIGINT would end one that is still importing with a traceback
        end = time.monotonic() + STOP_S
        while time.monotonic() < end and any(c.popen and c.popen.poll() is None for c in running):
            self._pump(0.02)
        for child in running:
            assert child.popen is not None
            if child.popen.poll() is None:
                self._output(child, "did not end in time: killed")
                child.popen.kill()
            child.popen.wait()
        for child in self._children:
            if child.popen is not None and child.popen.stdout is not None and not child.popen.stdout.closed:
                self._drain(child)
            if child.log is not None:
                child.log.close()


def up(options: GraphOptions, logs: Path | None = None) -> int:
    """Run a stack until SIGINT, SIGTERM or SIGHUP, or until nobody reads its output any more.

    First prints who may move the arm. The task node reports when the stack is ready, and which nodes are lost or back.

    Returns:
        0 after a signal. Raises ConfigError when a node refused its parameters.
    """
    stack = Stack(options, logs)
    received: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    numbers += [signal.SIGHUP] * (signal.getsignal(signal.SIGHUP) != signal.SIG_IGN)  # nohup
    previous = {n: signal.signal(n, lambda number, _: received.append(number)) for n in numbers}
    print(who_may_move(stack.environment), flush=True)
    try:
        with stack:
            while not received and not stack.wait(0.1):
                pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if stack.failure is not None:
        raise ConfigError(stack.failure)
    return 0


def _replaced(spec: NodeSpec, programs: Mapping[str, str]) -> NodeSpec:
    return replace(spec, module=programs.get(spec.name, spec.module))


def _command(options: GraphOptions, spec: NodeSpec) -> list[str]:
    return [sys.executable, "-m", spec.module, "--ros-args", *ros_arguments(options, spec)]


def _environment() -> dict[str, str]:
    """The nodes' variables in addition to the caller's environment.

    By default the nodes talk on this computer only, because whoever receives the stack's topics can also move the arm.
    """
    wanted = {
        DISCOVERY_RANGE: os.environ.get(DISCOVERY_RANGE) or "LOCALHOST",
        SUPERVISOR: str(os.getpid()),
        "PYTHONUNBUFFERED": "1",
        "RCUTILS_LOGGING_BUFFERED_STREAM": "0",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
    }
    profile = middleware_profile()
    if profile is not None and "FASTRTPS_DEFAULT_PROFILES_FILE" not in os.environ:
        wanted["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(profile)
    return wanted


def _printer(specs: tuple[NodeSpec, ...]) -> Say:
    width = max(len(spec.name) for spec in specs)
    number = {spec.name: i for i, spec in enumerate(specs)}
    colour = sys.stdout.isatty()

    def say(name: str, line: str) -> None:
        head = f"{name:<{width}} |"
        if colour:
            head = f"\x1b[{COLOURS[number[name] % len(COLOURS)]}m{head}\x1b[0m"
        print(head, line, flush=True)

    return say


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
