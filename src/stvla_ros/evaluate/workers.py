"""Episodes in parallel workers: what every engine keeps to, and the engine of this machine, processes.

An engine maps episodes to records. :func:`run_episodes` has its workers on this machine,
:class:`stvla_ros.evaluate.cluster.RayEngine` on a cluster.
"""

from __future__ import annotations

import logging
import os
import signal
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec, defect

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "LP_NUM_THREADS")
"""Set to 1 in a worker process: numerics, OpenCV and the software renderer (llvmpipe)."""

TRIES = 3
"""Workers that an episode may cost. Whoever kills workers (the kernel for want of memory, a lost machine) seldom meets the
same episode three times: then the episode is the cause, and its record is that of a defect."""


class Environment(Protocol):
    """Runs episodes: in a cell in this process, or on a whole stack over ROS."""

    def run(self, episode: EpisodeSpec) -> EpisodeRecord: ...


class EnvironmentSetup(Protocol):
    """Makes an environment in a worker process; it is pickled on its way there, so it holds plain values only."""

    def open(self) -> AbstractContextManager[Environment]: ...


class Engine(Protocol):
    """Runs episodes in parallel workers. What holds for each engine:

    * A worker has one episode at a time, so at most ``jobs`` are in work.
    * An episode whose worker dies runs again in another one, :data:`TRIES` times in all.
    * Every episode yields exactly one record, whatever dies, and however often it is given.
    """

    def __call__(
        self, setup: EnvironmentSetup, episodes: Iterable[EpisodeSpec], jobs: int
    ) -> Iterator[EpisodeRecord]: ...


class Todo:
    """Episodes that wait for a worker. Each is in one place: here, in a worker, or done."""

    def __init__(self, episodes: Iterable[EpisodeSpec]) -> None:
        self._waiting = deque(dict.fromkeys(episodes))
        self._deaths: Counter[EpisodeSpec] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> EpisodeSpec:
        """The next one, which the caller then has."""
        return self._waiting.popleft()

    def died(self, episode: EpisodeSpec, how: str) -> EpisodeRecord | None:
        """The worker of an episode has died: the episode waits again. After :data:`TRIES` deaths its record, a defect."""
        self._deaths[episode] += 1
        if self._deaths[episode] == TRIES:
            return defect(episode, f"{how} in this episode, as {TRIES - 1} workers before it.")
        self._waiting.append(episode)
        logging.getLogger(__name__).warning("%s in %s %d, which runs again.", how, episode.task, episode.seed)
        return None


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    episode: EpisodeSpec | None = None  # in work


def run_episodes(setup: EnvironmentSetup, episodes: Iterable[EpisodeSpec], jobs: int) -> Iterator[EpisodeRecord]:
    """The engine of this machine: run episodes in processes, and yield each record when it is ready, in any order.

    Raises:
        ConfigError: An environment could not be opened.
    """
    todo = Todo(episodes)
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(
        dict.fromkeys(THREADS, "1")
    )  # read by libraries when they are imported, so before the workers start
    workers = [_start(setup) for _ in range(min(jobs, len(todo)))]
    try:
        while workers:
            for pipe in wait([w.pipe for w in workers]):
                worker = next(w for w in workers if w.pipe is pipe)
                record, alive = _receive(worker, todo)
                if record is not None:
                    yield record
                if not alive and todo:
                    worker.process.join()
                    workers[workers.index(worker)] = _start(setup)
                elif not alive or not todo:
                    workers.remove(worker)
                    _end(worker)
                else:
                    worker.episode = todo.take()
                    worker.pipe.send(worker.episode)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            _end(worker)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _start(setup: EnvironmentSetup) -> _Worker:
    context = get_context("spawn")  # a forked child would share OpenGL and ROS state
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(setup, theirs), name="episodes")
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _receive(worker: _Worker, todo: Todo) -> tuple[EpisodeRecord | None, bool]:
    """The record received (None: there is none yet), and whether the worker is alive."""
    try:
        message = worker.pipe.recv()
    except EOFError:
        worker.process.join()
        how = f"The worker process ended with exit code {worker.process.exitcode}"
        if worker.episode is None:
            raise ConfigError(f"{how} before its first episode: its last output is above.") from None
        return todo.died(worker.episode, how), False
    if isinstance(message, ConfigError):
        raise message
    return message, True


def _end(worker: _Worker, patience_s: float = 20.0) -> None:
    worker.pipe.close()
    worker.process.join(patience_s)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _work(setup: EnvironmentSetup, pipe: Any) -> None:
    """The worker process: open the environment, ask for episodes until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us with SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    try:
        with setup.open() as environment:
            pipe.send(None)
            while True:
                pipe.send(run_one(environment, pipe.recv()))
    except ConfigError as error:
        pipe.send(error)
    except EOFError:
        pass  # no more episodes


def _leave() -> None:
    raise SystemExit(0)


def run_one(environment: Environment, episode: EpisodeSpec) -> EpisodeRecord:
    """The record of an episode, also if a defect ends it. Raises ConfigError when settings are wrong."""
    try:
        return environment.run(episode)
    except ConfigError:
        raise
    except Exception:  # noqa: BLE001 - a defect in one episode is a result, the others go on
        return defect(episode, traceback.format_exc(limit=-4))
