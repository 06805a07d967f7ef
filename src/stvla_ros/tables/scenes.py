"""The scenes of a column: drawn from its split so that every name is asked for equally often."""

from __future__ import annotations

import hashlib
from collections import Counter
from math import ceil

from stvla_ros.config import ConfigError, lookup
from stvla_ros.data.splits import SPLITS, held_out, named, seeds_of
from stvla_ros.evaluate.episode import EpisodeSpec
from stvla_ros.sim.tasks import TASKS, make_task
from stvla_ros.tables.protocol import Column


def scenes_of(column: Column, count: int, where: str) -> tuple[EpisodeSpec, ...]:
    """The scenes of a column. The first n of them are balanced as well as n scenes can be.

    Seeds of the split are taken as they come, none whose name has its share already: ceil(count / names). A scene of an
    unseen split is counted under the first held-out name of its instruction, any other under its first name. Scenes
    are then ordered by how many of their name come before.

    Args:
        column: One that is not missing.
        count: How many.
        where: Beginning of messages.

    Raises:
        ConfigError: Unknown task or split, too few scenes, or others than those that the protocol was written for.
    """
    kind = lookup(TASKS, column.task, f"{where}: column {column.key}")
    lookup(SPLITS, column.split, f"{where}: column {column.key}")
    out = held_out(column.task, column.split)
    asked = out if SPLITS[column.split].unseen else tuple(n for n in kind.names if n not in out)
    share, taken = ceil(count / len(asked)), Counter[str]()
    found: list[tuple[int, int, str]] = []
    for seed in seeds_of(column.task, column.split, count_named=column.named):
        task = make_task(column.task, seed, column.distractors)
        names = named(task.instruction, kind.names)
        name = next((n for n in names if n in asked), "")
        if name and taken[name] < share:
            places = " ".join(f"{o.name} {o.xy_m[0]:.3f} {o.xy_m[1]:.3f}" for o in task.objects)
            found.append((taken[name], seed, f"{task.instruction} {places}"))
            taken[name] += 1
        if len(found) == count:
            break
    else:
        raise ConfigError(f"{where}: column {column.key}: wanted {count} scenes, found {len(found)}.")
    found.sort()
    if (is_now := digest(found)) != column.scenes:
        raise ConfigError(
            f"{where}: column {column.key}: its scenes have the digest {is_now}, wanted {column.scenes}: the tasks have "
            "changed since the protocol was fixed. Results of before and after do not compare: write down the new one."
        )
    return tuple(EpisodeSpec(column.task, seed, column.distractors) for _, seed, _ in found)


def digest(scenes: list[tuple[int, int, str]]) -> str:
    """Of seeds, instructions and places to the millimetre: 12 hexadecimal digits."""
    text = "\n".join(f"{seed} {said}" for _, seed, said in scenes)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
