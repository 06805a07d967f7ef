"""What a machine must have left: room on the disk, shared memory, processors."""

from __future__ import annotations

from pathlib import Path

from stvla_ros.doctor.finding import Finding, ok, warning, wrong

RAW_BYTES_PER_S = 640 * 480 * 5 * 30.0
"""A camera of 640x480 at 30 Hz, 3 bytes of colour and 2 of depth per pixel, uncompressed."""

ENOUGH_S, LEAST_S = 1800.0, 120.0
"""Recording time below which the disk is nearly full, and below which not even one task fits."""

SEGMENT_BYTES = 32 * 1024**2
"""Of shared memory, for each process that sends images (``segment_size`` of config/fastdds.xml)."""

PROCESSES = 8
"""Processes of a whole stack."""

BUSY = 1.5
"""More runnable processes per processor make everything late."""


def check_disk(folder: Path, free_bytes: float, bytes_per_s: float | None = None) -> Finding:
    """Whether recordings fit.

    Args:
        folder: Where they go.
        free_bytes: Room there.
        bytes_per_s: Of the messages that were heard; None: of a usual camera.
    """
    rate = bytes_per_s or RAW_BYTES_PER_S
    seconds = free_bytes / rate
    what = "as heard" if bytes_per_s else "a usual camera"
    figure = (
        f"{free_bytes / 1e9:.1f} GB free in {folder}, {_span(seconds)} of recording at {rate / 1e6:.1f} MB/s ({what})"
    )
    judge = wrong if seconds < LEAST_S else warning
    if seconds < ENOUGH_S:
        return judge("Disk", figure, "delete old runs, or record to another disk", seconds, "s")
    return ok("Disk", figure, value=seconds, unit="s")


def _span(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def check_shared_memory(free_bytes: float) -> Finding:
    """Whether Fast DDS gets its segments in /dev/shm: a container has 64 MB of it by default."""
    name, figure = "Shared memory", f"{free_bytes / 1e6:.0f} MB free in /dev/shm"
    remedy = "start the container with --shm-size=1g; else remove what ended programs left in /dev/shm"
    if free_bytes < 2 * SEGMENT_BYTES:
        return wrong(
            name, f"{figure}: images need {SEGMENT_BYTES / 1e6:.0f} MB for each process", remedy, free_bytes, "B"
        )
    if free_bytes < PROCESSES * SEGMENT_BYTES:
        return warning(
            name, f"{figure}: a whole stack takes {PROCESSES * SEGMENT_BYTES / 1e6:.0f} MB", remedy, free_bytes, "B"
        )
    return ok(name, figure, value=free_bytes, unit="B")


def check_load(load: float, processors: int, autogroup: bool = False) -> Finding:
    """Whether the processors keep up.

    Args:
        load: Mean number of runnable processes over the last minute.
        processors: Number of them.
        autogroup: Whether Linux shares the processors between terminals instead of processes, as Ubuntu does. On a full
            machine even a node that does almost nothing is then held up for half a second at times.
    """
    figure = f"{load:.1f} runnable processes on {processors} processors"
    if load > BUSY * processors:
        remedy = "end what is not needed, or move the planner to another machine"
        if autogroup:
            remedy += (
                "; `sudo sysctl kernel.sched_autogroup_enabled=0` keeps nodes from being held up by other terminals"
            )
        return warning("Load", f"{figure}: ages and rates suffer", remedy, load)
    return ok("Load", figure, value=load)
