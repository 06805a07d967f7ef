"""Episodes on a Ray cluster. Ray is an optional package (the extra ``ray``), imported when an engine is made.

What reaches a worker by value: the settings, the scenes (task and seed), the records. What must be there under the same
path: the installed project with its weights, the files that settings name, and the folder that workers write to. Each
worker compares these with what the command has before its first episode.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from stvla_ros.config import ConfigError
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.evaluate.workers import THREADS, TRIES, Environment, EnvironmentSetup, Todo, run_one
from stvla_ros.files import digest
from stvla_ros.versions import versions

PACKAGE = Path(__file__).parents[1]
SUFFIXES = (".py", ".safetensors")
"""Of what our package runs on."""

PATIENCE_S = 5.0
"""At the end, for workers to finish what they do and to close their environments, before they are killed."""


def ray() -> Any:
    """The package, connected to the cluster that RAY_ADDRESS names, or that runs on this machine.

    Raises:
        ConfigError: The package or the cluster is missing.
    """
    try:
        import ray as package
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ConfigError(
            "--engine ray needs the Python package 'ray' (the extra 'ray'), which is missing: "
            "pip install --no-deps -r requirements/ray.txt."
        ) from error
    if not package.is_initialized():
        ours = signal.getsignal(signal.SIGTERM)
        address = os.environ.get("RAY_ADDRESS") or "auto"
        try:
            package.init(address=address, logging_level="warning")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"--engine ray: no cluster at '{address}' ({_last_line(error)}): start one with `ray start --head`, or "
                "set RAY_ADDRESS to its HOST:PORT."
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)  # Ray's would end the command without its last sentence
    return package


@dataclass(frozen=True)
class Premises:
    """What must be the same where the command runs and where its workers run.

    Attributes:
        versions: Of what results depend on.
        code: Digest of the package's sources and weights.
        folder: The current folder, which relative paths begin at.
        files: File or folder that settings name -> its digest.
        mark: A file that the command has just made in the folder that workers write to; None: they write nothing.
    """

    versions: Mapping[str, str]
    code: str
    folder: Path
    files: Mapping[Path, str]
    mark: Path | None = None

    @classmethod
    def here(cls, settings: Mapping[str, Any]) -> Premises:
        """Those of this process, for episodes with these plain settings."""
        files = {path: digest(path) for path in dict.fromkeys(_files(settings))}
        return cls(versions(), digest(PACKAGE, SUFFIXES), Path.cwd(), files)

    def check(self) -> None:
        """Compare with what this process has; relative paths mean the command's from now on.

        Raises:
            ConfigError: Something is missing here or is another one.
        """
        host = socket.gethostname()
        found = versions()
        differing = [
            f"{name} {found.get(name, 'missing')} instead of {self.versions.get(name, 'none')}"
            for name in sorted({*found, *self.versions})
            if found.get(name) != self.versions.get(name)
        ]
        if not differing and digest(PACKAGE, SUFFIXES) != self.code:
            differing = ["other sources or weights"]
        if differing:
            raise ConfigError(
                f"{host}: {PACKAGE} is not what the command runs ({', '.join(differing)}): install the same commit, with "
                "the same requirements, on every node."
            )
        with suppress(OSError):  # then relative paths are missing, which is said below
            os.chdir(self.folder)
        for path, wanted in self.files.items():
            if not path.exists():
                raise ConfigError(
                    f"{host}: {self.folder / path}, which the settings name, is missing there: put it under this path on "
                    "every node."
                )
            if digest(path) != wanted:
                raise ConfigError(
                    f"{host}: {self.folder / path} has another content there: copy it to every node again."
                )
        if self.mark is not None and not self.mark.exists():
            raise ConfigError(
                f"{host}: {self.folder / self.mark.parent} is not the folder that the command writes to: choose an --output "
                "on a filesystem that all nodes share."
            )


def _files(value: Any) -> Iterator[Path]:
    """Files and folders that plain settings name: every text that is the path of one here."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _files(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _files(part)
    elif isinstance(value, str) and value:
        with suppress(OSError, ValueError):  # a text that cannot be a path
            if Path(value).exists():
                yield Path(value)


class RemoteWorker:
    """Runs episodes in an actor: a process of its own, on any node."""

    def __init__(self) -> None:
        self._opened = ExitStack()
        self._environment: Environment | None = None

    def open(self, premises: Premises, setup: bytes) -> ConfigError | None:
        """Check the premises, unpickle the setup and open its environment. An error is returned, as Ray would wrap it."""
        try:
            premises.check()
            self._environment = self._opened.enter_context(pickle.loads(setup).open())
        except ConfigError as error:
            return error
        return None

    def run(self, episode: EpisodeSpec) -> EpisodeRecord | ConfigError:
        """The record of an episode."""
        assert self._environment is not None
        try:
            return run_one(self._environment, episode)
        except ConfigError as error:
            return error

    def close(self) -> None:
        """Close the environment."""
        self._opened.close()


class RayEngine:
    """The engine of a Ray cluster; see :class:`stvla_ros.evaluate.workers.Engine`.

    Every worker asks for one core. Those beyond the cluster's cores wait until there are more.

    Args:
        settings: Plain settings of the episodes; the files that they name must be on every node.
        output: Folder that workers write to, on a filesystem that all nodes share; None: they write nothing.

    Raises:
        ConfigError: Ray or a cluster is missing.
    """

    def __init__(self, settings: Mapping[str, Any], output: Path | None = None) -> None:
        self._ray = ray()
        self._premises, self._output = Premises.here(settings), output

    @property
    def cores(self) -> int:
        """Of the whole cluster, those in use included."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def __call__(self, setup: EnvironmentSetup, episodes: Iterable[EpisodeSpec], jobs: int) -> Iterator[EpisodeRecord]:
        """Run episodes on the cluster, and yield each record when it is ready, in any order.

        Raises:
            ConfigError: A node lacks something, an environment could not be opened, or workers die before they begin.
        """
        todo = Todo(episodes)
        with _mark(self._output) as mark:
            team = _Team(self._ray, replace(self._premises, mark=mark), setup, todo)
            try:
                for _ in range(min(jobs, len(todo))):
                    team.add()
                while todo or team.at_work:
                    record = team.next()
                    if record is not None:
                        yield record
            finally:
                team.close()


@dataclass
class _Member:
    actor: Any
    episode: EpisodeSpec | None = None  # in work; None: it opens its environment, which may have to wait for a core


class _Team:
    """The actors of one run."""

    def __init__(self, package: Any, premises: Premises, setup: EnvironmentSetup, todo: Todo) -> None:
        self._ray, self._todo = package, todo
        variables = {"env_vars": dict.fromkeys(THREADS, "1")}
        self._worker = package.remote(num_cpus=1, max_restarts=0, runtime_env=variables)(RemoteWorker)
        self._premises, self._setup = premises, pickle.dumps(setup)
        self._busy: dict[Any, _Member] = {}  # by the call that it is busy with
        self._idle: list[_Member] = []
        self._early_deaths = 0  # in a row, each before the first episode

    @property
    def at_work(self) -> bool:
        """Whether an episode is in work."""
        return any(member.episode is not None for member in self._busy.values())

    def add(self) -> None:
        """Start one more worker."""
        member = _Member(self._worker.remote())
        self._busy[member.actor.open.remote(self._premises, self._setup)] = member

    def next(self) -> EpisodeRecord | None:
        """Wait for one worker, and give it or its successor an episode. A record, if it has made one."""
        (call,), _ = self._ray.wait(list(self._busy), num_returns=1)
        member = self._busy.pop(call)
        try:
            answer = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            answer = self._bury(member, error)
        else:
            self._idle.append(member)
            self._early_deaths = 0
        if isinstance(answer, ConfigError):
            raise answer
        while self._idle and self._todo:
            member = self._idle.pop()
            member.episode = self._todo.take()
            self._busy[member.actor.run.remote(member.episode)] = member
        return answer

    def _bury(self, member: _Member, error: Exception) -> EpisodeRecord | ConfigError | None:
        """See to what a dead worker leaves: its episode, and its place."""
        self._ray.kill(member.actor)  # if it was only out of reach, its episode must not run twice at once
        record = None
        if member.episode is not None:
            record = self._todo.died(member.episode, f"The worker ended ({_last_line(error)})")
        else:
            self._early_deaths += 1
            if self._early_deaths == TRIES:
                return ConfigError(
                    f"--engine ray: {TRIES} workers ended before their first episode, the last one so: {_last_line(error)}."
                )
        if len(self._todo) > len(self._idle):
            self.add()
        return record

    def close(self) -> None:
        """End all workers; environments are closed before, as far as their workers answer in time."""
        opened = [*self._idle, *(member for member in self._busy.values() if member.episode is not None)]
        with suppress(self._ray.exceptions.RayError):
            calls = [member.actor.close.remote() for member in opened]
            if calls:
                self._ray.wait(calls, num_returns=len(calls), timeout=PATIENCE_S)
        for member in (*self._idle, *self._busy.values()):
            self._ray.kill(member.actor)


@contextmanager
def _mark(folder: Path | None) -> Iterator[Path | None]:
    """A new file in a folder, by which workers know that it is the same one there."""
    if folder is None:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f".shared-{uuid4().hex}"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def _last_line(error: Exception) -> str:
    """What Ray says of a cause: the last of its lines, without the general advice after it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].partition(" Some common causes")[0].strip().rstrip(".")[:240]
