"""Things followed from frame to frame by the memory of SAM 2's video model, so that their ids stay."""

from __future__ import annotations

import numpy as np
import torch
from transformers import Sam2VideoInferenceSession

from stvla_ros.perception.sam2.masks import Limits, Surroundings, overlaps, stands, suppress
from stvla_ros.perception.sam2.network import Network, Picture, shrink, to_frame
from stvla_ros.perception.sam2.proposals import Proposal, reduced
from stvla_ros.types import F32, Bool

KNOWN_IOU = 0.5
"""A proposal that overlaps one thing that is followed by this much is that thing."""

KNOWN_SHARE = 0.7
"""A proposal that is not the model's is nothing new when followed things cover this share of it."""

FORGOTTEN = ("pred_masks", "high_res_masks")
"""What the model keeps of every frame, but does not read again."""


class Track:
    """One thing. It has a session of its own, so that it can be given up without the others; the image is encoded once.

    Attributes:
        lost: Consecutive frames in which it was not seen.
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
        """Remember (H, W) ``mask`` of frame ``index``; False when it is too small for the model to see."""
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
        """(h, w) mask logits in frame ``index``, later than any before, and whether the model sees the thing at all."""
        features = {"vision_feats": picture.features, "vision_pos_embeds": picture.positions}
        self._session.cache.cache_vision_features(index, features)
        with self._network.autocast():
            out = self._network.model(inference_session=self._session, frame=picture.pixels, frame_idx=index)
        self._forget(index)
        logits: F32 = out.pred_masks.reshape(out.pred_masks.shape[-2:]).float().cpu().numpy()
        return logits, bool(out.object_score_logits.max() > 0) and bool(np.isfinite(logits).all())

    def _forget(self, index: int) -> None:
        """Let go of all that the model will not read again: a session grows by megabytes a frame otherwise."""
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
    """All things that are followed, by id.

    Args:
        network: A video model.
        limits: What a mask must satisfy in every frame.
        double_iou: Two things whose masks overlap more are one; the older id stays.
        patience: Frames after which a thing that is not seen is given up.
    """

    def __init__(self, network: Network, limits: Limits, double_iou: float, patience: int) -> None:
        self._network, self._limits, self._double_iou, self._patience = network, limits, double_iou, patience
        self._tracks: dict[int, Track] = {}
        self._index = -1
        self._newest = 0

    @property
    def index(self) -> int:
        """Number of the last frame, from 0."""
        return self._index

    def follow(self, picture: Picture, around: Surroundings) -> dict[int, Bool]:
        """(H, W) masks of what is seen again in the next frame, by id.

        A mask that has run off onto the table or over the frame is not seen; neither is the younger of two on one thing.
        What is in the hand is not seen, but not lost either.
        """
        self._index += 1
        small = reduced(around, self._network.mask_shape)
        seen: dict[int, Bool] = {}
        for key, track in self._tracks.items():
            logits, there = track.follow(picture, self._index)
            mask = logits > 0
            if there and stands(mask[None], small, self._limits)[0]:
                seen[key] = to_frame(logits, picture.shape)
            hidden = there and bool(mask.any()) and not (mask & small.known).any()
            track.lost = 0 if hidden else track.lost + 1
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
        """``seen`` and what is new among the proposals, which is followed from this frame on."""
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
    """Whether a proposal is one of the things that are followed, or nothing.

    The model may see one thing within the mask of another (that spilled onto it, or was of both when they touched);
    where it does not, what is covered is not taken apart.
    """
    if not mask.any():
        return True
    if not seen:
        return False
    _, iou = overlaps(mask[None], np.stack(seen))
    covered = (mask & np.logical_or.reduce(seen)).sum() / mask.sum()
    return bool(iou.max() >= KNOWN_IOU or (score == 0 and covered >= KNOWN_SHARE))
