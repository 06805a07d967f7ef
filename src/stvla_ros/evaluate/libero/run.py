"""Episodes of LIBERO with a policy server of openpi's protocol, as its own client carries them out."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.evaluate.libero.environment import STEPS, LiberoTask, LiberoView
from stvla_ros.policy.remote import wire
from stvla_ros.policy.remote.client import authorization
from stvla_ros.types import F64, U8

TASKS = {suite: 90 if suite == "libero_90" else 10 for suite in STEPS}
"""Suite -> tasks."""

STATES = 50
"""Fixed initial states of a task."""

POLICY_PX = 224
DEADLINE_S = 600.0
"""Of one answer: servers that compile their model do so at the first question, which takes minutes."""


class ChunkPolicy(Protocol):
    """Answers a request with a chunk of actions."""

    def infer(self, request: dict[str, Any]) -> Any: ...


class PolicyClient:
    """A connection to a server of openpi's protocol.

    Raises:
        ConfigError: Nobody serves there, the server refuses or fails, or the token would travel unencrypted.
    """

    def __init__(self, url: str, token: bytes = b"") -> None:
        self._url = url
        headers = authorization(url, token, "--url")
        try:
            self._connection: ClientConnection = connect(url, additional_headers=headers, compression=None, proxy=None)
            self._receive()
        except (OSError, ValueError, WebSocketException) as error:
            raise ConfigError(f"--url: {url}: {error}") from error

    def infer(self, request: dict[str, Any]) -> Any:
        """The answer to a request."""
        try:
            self._connection.send(wire.pack(request))
            return self._receive()
        except (TimeoutError, WebSocketException) as error:
            raise ConfigError(f"--url: {self._url}: no answer ({error}).") from error

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _receive(self) -> Any:
        raw = self._connection.recv(DEADLINE_S)
        if isinstance(raw, str):
            raise ConfigError(f"--url: {self._url}: {' '.join(raw.split())[-300:]}")
        return wire.unpack(raw)


def request(view: LiberoView, instruction: str) -> dict[str, Any]:
    """What openpi's LIBERO client sends."""
    return {
        "observation/image": _small(view.rgb),
        "observation/wrist_image": _small(view.wrist_rgb),
        "observation/state": view.state,
        "prompt": instruction,
    }


def parse_tasks(names: str) -> tuple[str, ...]:
    """Names of tasks, ``SUITE-NUMBER``; a suite alone stands for all of its tasks.

    Raises:
        ConfigError: There is no such task.
    """
    found: list[str] = []
    for name in (part.strip() for part in names.split(",")):
        match = re.fullmatch(r"(\w+?)(?:-(\d+))?", name)
        suite, number = (match[1], match[2]) if match else ("", None)
        if suite not in STEPS or int(number or 0) >= TASKS[suite]:
            wanted = ", ".join(f"{suite} (0 to {count - 1})" for suite, count in TASKS.items())
            raise ConfigError(f"--tasks: wanted SUITE or SUITE-NUMBER of {wanted}, got '{name}'.")
        found += [name] if number else [f"{suite}-{i}" for i in range(TASKS[suite])]
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class LiberoSetup:
    """Makes a :class:`LiberoEnvironment` in a worker process.

    Attributes:
        python: LIBERO's Python.
        url: Of the policy server.
        token: For it.
        replan: Actions of a chunk that are executed before the policy is asked again.
        seed: Of the simulation.
        log: Gets what LIBERO's packages print.
    """

    python: Path
    url: str
    token: bytes
    replan: int
    seed: int
    log: Path

    @contextmanager
    def open(self) -> Iterator[LiberoEnvironment]:
        """Raises ConfigError when there is no policy server."""
        policy = PolicyClient(self.url, self.token)
        made = LiberoEnvironment(self, policy)
        try:
            yield made
        finally:
            made.close()
            policy.close()


class LiberoEnvironment:
    """Runs episodes; the seed of an episode is the index of its initial state."""

    def __init__(self, setup: LiberoSetup, policy: ChunkPolicy) -> None:
        self._setup, self._policy = setup, policy
        self._name, self._task = "", None

    _task: LiberoTask | None

    def close(self) -> None:
        """End the simulation."""
        if self._task is not None:
            self._task.close()
        self._task = None

    def run(self, episode: EpisodeSpec) -> EpisodeRecord:
        """One episode.

        Raises:
            ConfigError: LIBERO, the policy server or its answers are at fault.
        """
        suite, _, number = episode.task.rpartition("-")
        if self._task is None or self._name != episode.task:
            self.close()
            setup = self._setup
            self._task, self._name = LiberoTask(setup.python, suite, int(number), setup.seed, setup.log), episode.task
        task, start, asked_s, asked = self._task, time.monotonic(), 0.0, 0
        if episode.seed >= task.states:
            raise ConfigError(f"{episode.task}: wanted an initial state below {task.states}, got {episode.seed}.")
        view, steps = task.reset(episode.seed), 0
        while steps < STEPS[suite] and not view.done:
            before = time.monotonic()
            chunk = actions(self._policy.infer(request(view, task.instruction)), self._setup.replan)
            asked_s, asked = asked_s + time.monotonic() - before, asked + 1
            view = task.step(chunk[: min(self._setup.replan, STEPS[suite] - steps)])
            steps += view.steps
        code = OutcomeCode.OK if view.done else OutcomeCode.STEP_LIMIT
        sentence = f"The goal is{'' if view.done else ' not'} reached after {steps} steps."
        facts = {"steps": float(steps), "asked": float(asked), "infer_s": asked_s / max(asked, 1)}
        return EpisodeRecord(
            episode.task, episode.seed, task.instruction, code.name, sentence, view.done, sentence,
            robot_s=time.monotonic() - start, facts=facts,
        )  # fmt: skip


def actions(answer: Any, replan: int) -> F64:
    """(T, 7) actions of an answer: 6 deltas of the hand and the gripper, -1 open, +1 closed.

    Raises:
        ConfigError: There are none.
    """
    found = answer.get("actions") if isinstance(answer, dict) else None
    if (
        not isinstance(found, np.ndarray)
        or found.ndim != 2
        or found.shape[1] != 7
        or len(found) < replan
        or not np.isfinite(found).all()
    ):
        got = found.shape if isinstance(found, np.ndarray) else type(found).__name__
        raise ConfigError(f"--url: wanted 'actions' of at least {replan} finite rows of 7, got {got}.")
    return found.astype(np.float64)


def _small(rgb: U8) -> U8:
    return np.asarray(Image.fromarray(rgb).resize((POLICY_PX, POLICY_PX), Image.Resampling.BILINEAR))
