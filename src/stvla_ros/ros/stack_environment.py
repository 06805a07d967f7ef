"""Evaluation over ROS: one stack per worker process, in a private domain and in real time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from stvla_ros.config import ConfigError
from stvla_ros.errors import CancelToken
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec
from stvla_ros.ros.client import reset_scene
from stvla_ros.ros.graph import GraphOptions
from stvla_ros.ros.middleware import private_domain
from stvla_ros.ros.recorded_run import lost, record_goal
from stvla_ros.ros.up import Stack

READY_S = 90.0
"""Time limit for the nodes to start; several stacks may start at once on few cores."""

LAST_LINES = 12


@contextmanager
def running_stack(
    options: GraphOptions,
    logs: Path | None,
    env: Mapping[str, str] | None = None,
    programs: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """A running stack in a private domain, stopped at the end. For ``env`` and ``programs`` see :class:`Stack`.

    Raises:
        ConfigError: A node refused its parameters.
        ConnectionError: A node did not start; the message includes the last lines of the log.
    """
    lines: deque[str] = deque(maxlen=LAST_LINES)
    say = lambda name, line: lines.append(f"{name}: {line}")  # noqa: E731
    with private_domain(), Stack(options, logs, say, env, programs) as stack:
        try:
            stack.wait_ready(READY_S)
        except ConnectionError as error:
            raise ConnectionError("\n    ".join([str(error), *lines])) from error
        yield stack


@dataclass(frozen=True)
class StackEnvironmentSetup:
    """Creates a :class:`StackEnvironment` in a worker process.

    Attributes:
        options: What to start.
        folder: For logs and films.
        film: Film every episode.
    """

    options: GraphOptions
    folder: Path
    film: bool = False

    @contextmanager
    def open(self) -> Iterator[StackEnvironment]:
        """Start the stack. Raises ConfigError when it does not start."""
        try:
            with running_stack(self.options, self.folder / "logs") as stack:
                yield StackEnvironment(self, stack)
        except ConnectionError as error:
            raise ConfigError(str(error)) from error


class StackEnvironment:
    """Runs episodes one after another on one stack."""

    def __init__(self, setup: StackEnvironmentSetup, stack: Stack) -> None:
        self._setup, self._stack = setup, stack

    def run(self, episode: EpisodeSpec) -> EpisodeRecord:
        """Lay out the scene, send the goal, judge the result."""
        instruction = reset_scene(episode.task, episode.seed, episode.distractors)
        film = None
        if self._setup.film:
            film = self._setup.folder / "films" / Path(episode.file_name).stem
            film.mkdir(parents=True, exist_ok=True)
        title = f"{instruction}   {episode.task} seed {episode.seed}"
        try:
            run = record_goal(instruction, CancelToken(), lambda _: None, film, title, 30.0)
        except ConnectionError as error:
            run = lost(error)
        outcome = run.result.outcome
        return EpisodeRecord(
            task=episode.task,
            seed=episode.seed,
            instruction=instruction,
            outcome=outcome.code.name,
            sentence=outcome.sentence,
            judged=bool(run.success),
            detail=run.detail,
            keyposes=run.result.state.keyposes,
            replans=run.result.state.replans,
            robot_s=outcome.times_s.get("total", 0.0),
            times_s={phase: round(seconds, 4) for phase, seconds in outcome.times_s.items()},
            idle_share=run.idle_share,
            plan_times_s=[round(s, 4) for s in run.result.state.plan_times_s],
            distractors=episode.distractors,
        )


def with_noise(options: GraphOptions) -> GraphOptions:
    """The same stack with an imperfect camera."""
    overrides: Mapping[str, str] = {**options.overrides, "sim.cell.sensor.enabled": "true"}
    return replace(options, overrides=overrides)
