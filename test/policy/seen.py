"""Observations for tests of the learned policies."""

from dataclasses import replace

import numpy as np
from drawn_plans import PICK_TO_PLATE, plan_through
from ray_caster import Scene, block, front_camera, home_robot, plate

from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.types import Keypose, Observation, RgbdFrame

WORDS = "Put the red block in the plate."


def observation(history: tuple[Keypose, ...] = (), words: str = WORDS, mode: str = "full") -> Observation:
    """A red block at (0.5, 0.1) on the way to a plate at (0.45, -0.22), a green one away from it."""
    frame, _ = Scene([block("red", 0.5, 0.1), *plate(0.45, -0.22), block("green", 0.35, 0.25)]).render(
        front_camera(320, 240)
    )
    guide = SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig(mode=mode))
    trace = guide.lift(plan_through(PICK_TO_PLATE, frame), frame)
    robot = home_robot()
    return Observation(guide.guide(trace, frame, robot), robot, history, words)


def with_depth(seen: Observation, depth_m: np.ndarray) -> Observation:
    """The same with other depth."""
    old = seen.guidance.frame
    frame = RgbdFrame(old.rgb, depth_m.astype(np.float32), old.camera, old.stamp_ns)
    return replace(seen, guidance=replace(seen.guidance, frame=frame))
