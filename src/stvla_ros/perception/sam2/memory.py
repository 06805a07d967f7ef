"""Objects tracked from frame to frame by the memory of SAM 2's video model, so that their ids persist."""

from __future__ import annotations

import numpy as np
import torch
from transformers import Sam2VideoInferenceSession

from stvla_ros.perception.sam2.evidence import Surface, Surroundings, reduced
from stvla_ros.perception.sam2.masks import MaskLimits, overlaps, plausible, suppress
from stvla_ros.perception.sam2.network import Network, Picture, shrink, to_frame
from stvla_ros.perception.sam2.proposals import Proposal
from stvla_ros.types import F32, Bool

KNOWN_IOU = 0.5
"""A proposal that overlaps a tracked object by this much is that object."""

KNOWN_SHARE = 0.7
"""A proposal that is not the model's is not new if tracked objects cover this share of it."""

FORGOTTEN = ("pred_masks", "high_res_masks")
"""Outputs that the model keeps for every frame but never reads again."""


class Track:
    """One tracked object. It has its own session, so that it can be dropped alone; the image is encoded only once.

    Attributes:
        lost: Consecutive frames without it.
    """

    def __init__(self, network: Network) -> None:
        config = network.model.config
        self._network = network
        self._horizon = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        self._session = Sam2VideoInferenceSession(
            inference_device=network.device,
            inference_state_device=network.device,
            video_storage_device=network.device,
            dtype=torch.float32,
        )
        self._object = self._session.obj_id_to_idx(0)
        self.lost = 0

    def start(self, picture: Picture, index: int, mask: Bool) -> bool:
        """Remember (H, W) ``mask`` of frame ``index``; False if it is too small for the model."""
        size = self._network.size_px
        small = shrink(mask, (size, size))
        if not small.any():
            return False
        given = torch.from_numpy(small.astype(np.float32))[None, None]
        self._session.add_mask_inputs(self._object, index, given)
        self._session.obj_with_new_inputs = [0]
        self.follow(picture, index)
        return True

    def follow(self, picture: Picture, index: int) -> tuple[F32, bool]:
        """(h, w) mask logits in frame ``index``, later than all before, and whether the model sees the object at all."""
        features = {"vision_feats": picture.features, "vision_pos_embeds": picture.positions}
        self._session.cache.cache_vision_features(index, features)
        with self._network.autocast():
            out = self._network.model(inference_session=self._session, frame=picture.pixels, frame_idx=index)
        self._forget(index)
        logits: F32 = out.pred_masks.reshape(out.pred_masks.shape[-2:]).float().cpu().numpy()
        return logits, bool(out.object_score_logits.max() > 0) and bool(np.isfinite(logits).all())

    def _forget(self, index: int) -> None:
        """Free everything that the model will not read again; otherwise a session grows by megabytes per frame."""
        self._session.processed_frames = {}
        self._session.cache.clear_all()
        outputs = self._session.output_dict_per_obj[self._object]
        for kept in outputs.values():
            for name in FORGOTTEN:
                kept.get(index, {}).pop(name, None)
        followed, tracked = outputs["non_cond_frame_outputs"], self._session.frames_tracked_per_obj[self._object]
        for old in [i for i in followed if i <= index - self._horizon]:
            del followed[old]
            tracked.pop(old, None)


class Memory:
    """All tracked objects, by id.

    Args:
        network: A video model.
        limits: Conditions for a mask in every frame.
        double_iou: Two objects whose masks overlap more are one; the older id stays.
        patience: Frames after which an object out of sight is dropped.
    """

    def __init__(self, network: Network, limits: MaskLimits, double_iou: float, patience: int) -> None:
        self._network, self._limits, self._double_iou, self._patience = network, limits, double_iou, patience
        self._tracks: dict[int, Track] = {}
        self._index = -1
        self._newest = 0

    @property
    def index(self) -> int:
        """Index of the last frame, from 0."""
        return self._index

    def follow(self, picture: Picture, around: Surroundings) -> dict[int, Bool]:
        """(H, W) masks of the objects visible in the next frame, by id.

        Excluded are masks that have spread over the table or the frame, and the younger of two on one object. An object
        in the gripper has no mask but is not lost either.
        """
        self._index += 1
        small = reduced(around, self._network.mask_shape)
        seen: dict[int, Bool] = {}
        for key, track in self._tracks.items():
            logits, there = track.follow(picture, self._index)
            mask = logits > 0
            if there and plausible(mask[None], small, self._limits)[0]:
                seen[key] = to_frame(logits, picture.shape)
            held = there and bool(mask.any()) and bool((small.surface[mask] == Surface.ROBOT).all())
            track.lost = 0 if held else track.lost + 1
        seen = self._single(seen)
        for key in seen:
            self._tracks[key].lost = 0
        self._tracks = {key: track for key, track in self._tracks.items() if track.lost <= self._patience}
        return seen

    def _single(self, seen: dict[int, Bool]) -> dict[int, Bool]:
        keys = sorted(seen)
        if len(keys) < 2:
            return seen
        kept = suppress(np.stack([seen[key] for key in keys]), [-key for key in keys], self._double_iou)
        return {keys[i]: seen[keys[i]] for i in sorted(kept)}

    def add(self, picture: Picture, seen: dict[int, Bool], proposals: list[Proposal]) -> dict[int, Bool]:
        """``seen`` plus the new proposals, which are tracked from this frame on."""
        new = dict(seen)
        for mask, score in proposals:
            if _known(mask, score, list(seen.values())):
                continue
            track = Track(self._network)
            if track.start(picture, self._index, mask):
                self._newest += 1
                self._tracks[self._newest] = track
                new[self._newest] = mask
        return new


def _known(mask: Bool, score: float, seen: list[Bool]) -> bool:
    """Whether a proposal is empty or an object already tracked.

    The model may find an object within the mask of another one (which spread over it, or covered both while they
    touched). A proposal that is not the model's never divides a tracked mask.
    """
    if not mask.any():
        return True
    if not seen:
        return False
    _, iou = overlaps(mask[None], np.stack(seen))
    covered = (mask & np.logical_or.reduce(seen)).sum() / mask.sum()
    return bool(iou.max() >= KNOWN_IOU or (score == 0 and covered >= KNOWN_SHARE))
