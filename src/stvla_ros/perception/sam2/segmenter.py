"""The ``sam2`` segmenter: SAM 2.1 prompted at objects on the table, its masks checked against the depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from stvla_ros.config import param
from stvla_ros.devices import choose_placement
from stvla_ros.geometry.cameras import SATURATED_M, cloud, depth_cloud
from stvla_ros.geometry.depths import denoise, valid_depth, without_specks
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.sam2.checkpoint import load
from stvla_ros.perception.sam2.evidence import Evidence, surroundings
from stvla_ros.perception.sam2.fusion import fuse
from stvla_ros.perception.sam2.masks import MaskLimits
from stvla_ros.perception.sam2.memory import Memory
from stvla_ros.perception.sam2.network import Network, Picture
from stvla_ros.perception.sam2.proposals import Proposer
from stvla_ros.tabletop.self_filter import robot_mask
from stvla_ros.types import Bool, RgbdFrame, RobotState, Segments

WHERE = "segmenter.sam2"

Found = tuple[dict[int, Bool], tuple[str, ...]]
"""Masks by id, without overlap, and notes."""

VGA_PX = 640 * 480


@dataclass(frozen=True)
class Sam2Config:
    """Settings of the SAM 2 segmenter; thresholds are those of the authors' mask generator."""

    model: str = param("", "folder of a SAM 2.1 checkpoint (config.json, model.safetensors), or an id on the hub")
    device: str = param("auto", "auto (a GPU where there is one), cpu, cuda, cuda:N")
    precision: str = param("auto", "auto: bf16 on a GPU, float32 on a CPU", choices=("auto", "bf16", "float32"))
    prompts: str = param(
        "geometric",
        "geometric: a point in each object of the geometric segmenter; grid: points all over the frame",
        choices=("geometric", "grid"),
    )
    grid_side: int = param(32, "points of the grid along each side", ge=1, le=128)
    min_score: float = param(0.8, "smallest IoU that the model predicts for its mask", ge=0.0, le=1.0)
    min_stability: float = param(0.95, "smallest overlap of a mask at two thresholds", ge=0.0, le=1.0)
    double_iou: float = param(0.7, "masks that overlap more are duplicates", ge=0.0, le=1.0)
    max_share: float = param(0.25, "larger masks are dropped (share of the frame)", ge=0.001, le=1.0)
    max_background: float = param(0.5, "masks that show more table or wall are dropped (share)", ge=0.0, le=1.0)
    min_area_px: int = param(60, "smaller instances (of a 640x480 image) are dropped", ge=1, le=10000)
    robot_margin_m: float = param(0.012, "points this close to the arm's hulls belong to the arm [m]", ge=0.0, le=0.1)
    memory: bool = param(False, "track objects with the video model's memory, so that their ids persist")
    look_again: int = param(5, "interval of searches for new objects [frames] (memory)", ge=1, le=1000)
    patience: int = param(60, "frames after which an object out of sight is forgotten (memory)", ge=0, le=100000)


class Sam2Segmenter:
    """SAM 2.1 masks, prompted at objects and checked against the depth; needs weights (docs/segmenters.md).

    Raises:
        ConfigError: No weights, unusable weights, or a missing device; the message says what to do.
    """

    Config = Sam2Config

    def __init__(self, config: Sam2Config) -> None:
        placement = choose_placement(config.device, config.precision, WHERE)
        self._config = config
        self._network = Network(
            load(config.model, config.memory, f"{WHERE}.model"), placement.device, placement.dtype == torch.bfloat16
        )
        self._limits = MaskLimits(
            config.min_score, config.min_stability, config.max_share, config.max_background, config.min_area_px / VGA_PX
        )
        self._regions = GeometricSegmenter(GeometricConfig(robot_margin_m=config.robot_margin_m))
        side = config.grid_side if config.prompts == "grid" else None
        self._proposer = Proposer(self._network, self._limits, config.double_iou, side)
        self._memory = self._blank()
        self._last: tuple[int, tuple[int, ...]] | None = None

    def segment(self, frame: RgbdFrame, robot: RobotState) -> Segments:
        """Instances of one frame. With memory, a frame that is older than the last or of another size starts over."""
        evidence = self._look(frame, robot)
        picture = self._network.encode(frame.rgb)
        instances = self._track if self._config.memory else self._propose
        found, notes = instances(frame, picture, evidence)
        labels = np.where(evidence.labels == -1, np.int32(-1), np.int32(0))
        for key, mask in found.items():
            labels[mask] = key
        return Segments(labels, tuple(sorted(found)), notes)

    def refresh(self) -> None:
        """Find everything anew in the depth of the next frame; the video model's memory goes on."""
        self._regions.refresh()

    def _look(self, frame: RgbdFrame, robot: RobotState) -> Evidence:
        """What depth says; the robot's pixels are those of the depth as measured."""
        arm = robot_mask(cloud(frame), robot, self._config.robot_margin_m)
        valid = np.where(valid_depth(frame.depth_m, SATURATED_M), frame.depth_m, np.float32(np.nan))
        depth = denoise(without_specks(valid))
        points = depth_cloud(frame.camera, depth)
        regions = np.maximum(self._regions.segment(frame, robot).labels, 0)
        labels = np.where(arm, np.int32(-1), regions)
        return Evidence(surroundings(points, arm, frame.camera), frame.rgb, points, depth, labels)

    def _propose(self, frame: RgbdFrame, picture: Picture, evidence: Evidence) -> Found:
        proposals = self._proposer.propose(picture, evidence)
        things, notes = fuse([mask for mask, _ in proposals], evidence, self._limits)
        return {i: thing.mask for i, thing in enumerate(things, start=1)}, notes

    def _track(self, frame: RgbdFrame, picture: Picture, evidence: Evidence) -> Found:
        if self._last is not None and (frame.stamp_ns < self._last[0] or picture.shape != self._last[1]):
            self._memory = self._blank()
        self._last = frame.stamp_ns, picture.shape
        seen = self._memory.follow(picture, evidence.around)
        looks = self._memory.index % self._config.look_again == 0 or not seen
        if looks:
            seen = self._memory.add(picture, seen, self._proposer.propose(picture, evidence, seen.values()))
        ids = sorted(seen)
        things, notes = fuse([seen[i] for i in ids], evidence, self._limits)
        found: dict[int, Bool] = {}
        others = []
        for thing in things:
            if thing.source is None or ids[thing.source] in found:
                others.append((thing.mask, 0.0))
            else:
                found[ids[thing.source]] = thing.mask
        return self._memory.add(picture, found, others) if looks else found, notes

    def _blank(self) -> Memory:
        return Memory(self._network, self._limits, self._config.double_iou, self._config.patience)
