"""Guidance run again on an episode: exactly what the policy was given, bit for bit where the settings are the same."""

from __future__ import annotations

from collections.abc import Iterator

from stvla_ros.data.episode import Episode
from stvla_ros.errors import StageError
from stvla_ros.interfaces import Guide
from stvla_ros.types import Observation, Trace3d


def observations(episode: Episode, guide: Guide) -> Iterator[Observation]:
    """What the policy saw before each step: as many values as the episode has steps.

    The guide remembers frames, so all that were guided go through it in order, also those that no keypose came of.

    Args:
        episode: Where from.
        guide: A new one for each episode, e.g. ``SpatialGuide(registry.create("segmenter", "geometric"), GuideConfig())``.

    Raises:
        StageError: With these settings a plan cannot be lifted, or the frame of a step cannot be guided.
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
            yield Observation(guidance, guided.robot, history, episode.instruction)
