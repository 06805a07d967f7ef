"""Which videos train and which test: no video, and no thing that a hand moves, is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from stvla_ros.data.st_human.info import VideoInfo
from stvla_ros.data.st_human.plain import FormatError
from stvla_ros.data.st_human.templates import TEMPLATES, Thing, Things

VALIDATION = 0.01
"""Share of the videos, as in the paper."""


def moved_things(info: VideoInfo) -> set[str]:
    """Ids of the objects that the actions of a video are about: what fills the first slot of each."""
    found: set[str] = set()
    for action in info.actions:
        for form in TEMPLATES[action.template].forms:
            things = [name for name, slot in form.slots.items() if isinstance(slot, Thing | Things)]
            value = action.slots.get(things[0])
            found |= set(value) if isinstance(value, tuple) else {str(value)} if value is not None else set()
    return found


def validation_videos(infos: Sequence[VideoInfo], share: float = VALIDATION, seed: int = 0) -> set[str]:
    """Ids of the videos for validation: whole groups of videos that share moved things, drawn by a hash.

    The draw depends on ids and seed alone: a video that is added later moves no other one, unless it joins two groups.

    Args:
        infos: All videos.
        share: Wanted share of videos, from 0 to 1; groups are taken until it is reached.
        seed: Another seed gives another draw.

    Raises:
        FormatError: All videos share their things, so none can be kept apart.
    """
    groups = _groups(infos)
    wanted = share * len(infos)
    if wanted > 0.0 and len(groups) < 2:
        raise FormatError(
            f"Validation: all {len(infos)} videos show the same things being moved, so none can be kept apart: record some "
            "with things of their own."
        )
    chosen: set[str] = set()
    for group in sorted(groups, key=lambda group: _draw(min(group), seed))[:-1]:
        if len(chosen) >= wanted:
            break
        chosen |= group
    return chosen


def _groups(infos: Sequence[VideoInfo]) -> list[set[str]]:
    """Videos that share moved things, directly or through others."""
    group_of: dict[str, set[str]] = {}
    first: dict[str, str] = {}
    for info in infos:
        group = group_of[info.video.id] = {info.video.id}
        for thing in moved_things(info):
            other = group_of[first.setdefault(thing, info.video.id)]
            if other is not group:
                group |= other
                group_of.update(dict.fromkeys(other, group))
    return list({id(group): group for group in group_of.values()}.values())


def _draw(video: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {video}".encode()).digest()
