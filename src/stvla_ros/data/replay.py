"""Replays guidance on an episode: with the same settings, exactly the policy's input, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

from stvla_ros.data.episode import Episode
from stvla_ros.errors import StageError
from stvla_ros.interfaces import Guide
from stvla_ros.types import Observation, Trace3d


def observations(episode: Episode, guide: Guide) -> Iterator[Observation]:
    """What the policy saw before each step: one observation per step.

    The guide keeps state between frames, so every guided frame passes through it in order, with or without a keypose.

    Args:
        episode: The episode to replay.
        guide: A new one per episode, e.g. ``SpatialGuide(registry.create("segmenter", "geometric"), GuideConfig())``.

    Raises:
        StageError: With these settings, a plan cannot be lifted or the frame of a step cannot be guided.
    """
    traces: dict[int, Trace3d] = {}
    for guided in episode.guided_frames():
        for number in range(max(traces, default=guided.plan - 1) + 1, guided.plan + 1):
            traces[number] = guide.lift(episode.plans[number], episode.plan_frame(number))
        try:
            guidance = guide.guide(traces[guided.plan], guided.frame, guided.robot)
        except StageError:
            if guided.step is not None:
                raise
            continue
        if guided.step is not None:
            history = episode.history(guided.step)
            yield Observation(guidance, guided.robot, history, episode.plans[guided.plan].words)
