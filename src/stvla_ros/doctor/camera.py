"""Whether a depth image and a calibration will do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stvla_ros.camera.place import calibrated_ns
from stvla_ros.config import ConfigError
from stvla_ros.doctor.finding import Finding, ok, unseen, warning, wrong
from stvla_ros.types import F32

ENOUGH, LEAST = 0.75, 0.5
"""Shares of pixels with depth, below which it says so: a judgement, not measured."""

NEAR_M, FAR_M = 0.25, 4.0
"""Median depths outside are no tabletop: a camera closer than its minimum, or millimetres that are called metres."""

OLD_DAYS = 90.0
DAY_NS = 86_400 * 1_000_000_000


def check_depth(depth_m: F32, name: str = "Depth") -> Finding:
    """Whether most pixels have a depth, and whether it is that of a table.

    Args:
        depth_m: (H, W) or more metres, NaN where there is none.
        name: Of the finding.
    """
    valid = depth_m[np.isfinite(depth_m) & (depth_m > 0)]
    share = valid.size / max(depth_m.size, 1)
    if not valid.size:
        return wrong(name, "no pixel has a depth", "look at the depth stream and its emitter in the driver", 0.0)
    median_m = float(np.median(valid))
    figure = f"{100 * share:.0f} % of the pixels, half of them nearer than {median_m:.2f} m"
    if not NEAR_M <= median_m <= FAR_M:
        remedy = (
            "encode metres as 32FC1, millimetres as 16UC1"
            if median_m > FAR_M
            else "move the camera away from what it sees: it is nearer than most cameras can measure"
        )
        return wrong(name, f"{figure}: no table", remedy, median_m, "m")
    if share >= ENOUGH:
        return ok(name, figure, value=share)
    remedy = (
        "turn the emitter on, use the high-accuracy or high-density preset, and keep sunlight, shiny and black surfaces out "
        "of view; 0.4 to 1.5 m is a good distance"
    )
    return (warning if share >= LEAST else wrong)(name, f"{figure}: {100 * (1 - share):.0f} % are holes", remedy, share)


def check_calibration_age(file: str, now_ns: int, name: str = "Calibration's age") -> Finding:
    """How old the calibration is. ``file``: calibration.yaml; empty: none is named, e.g. TF has the pose."""
    if not file:
        return unseen(name, "no calibration.yaml is named (camera.place.file): the pose comes from elsewhere")
    try:
        days = (now_ns - calibrated_ns(Path(file).expanduser())) / DAY_NS
    except ConfigError as error:
        return wrong(name, str(error).rstrip("."), "`stvla calibrate` writes one")
    if days < -0.01:
        return warning(name, f"{-days:.1f} days in the future ({file})", "set this machine's clock (chrony)", days, "d")
    figure = f"{days:.0f} days ({file})" if days >= 2 else f"{days * 24:.0f} h ({file})"
    if days > OLD_DAYS:
        return warning(name, figure, "`stvla calibrate --check` says whether the camera was moved since", days, "d")
    return ok(name, figure, value=days, unit="d")
