"""Greedy decoding token by token, reusing the computed beginning of a conversation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint
from stvla_ros.planning.qwen3_vl.tokenization import TokenSequence


@dataclass
class Timing:
    """Timing of an answer.

    Attributes:
        preprocess_s: Images to patches, words to tokens.
        prefill_s: Time to the first token.
        decode_s: All further tokens.
        prompt_tokens: Tokens of the conversation.
        reused_tokens: Those of them reused from the last conversation.
        reply_tokens: Computed tokens, including the one that ends the answer.
    """

    preprocess_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    reply_tokens: int = 0


class Deadline:
    """The time limit of an answer, or its cancellation."""

    def __init__(self, seconds: float, cancel: CancelToken | None = None) -> None:
        self.seconds, self._end = seconds, time.monotonic() + seconds
        self._cancel = cancel

    @property
    def left_s(self) -> float:
        return self._end - time.monotonic()

    def check(self) -> None:
        """Raises StageError: SERVER_TIMEOUT past the limit, or the reason of the cancel."""
        if self._cancel is not None:
            self._cancel.raise_if_set()
        if self.left_s <= 0.0:
            raise StageError(
                OutcomeCode.SERVER_TIMEOUT,
                f"The model gave no answer within {self.seconds:g} s: use a smaller one or a GPU, lower max_pixels, or raise "
                "reply_deadline_s.",
            )


class Generator:
    """A network with the key-value cache of the last conversation.

    Args:
        checkpoint: The network and the tokens that end an answer.
        reuse: Keep the cache.
        clock: Clock of :class:`Timing`, s.
    """

    def __init__(self, checkpoint: Checkpoint, reuse: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._model, self._stops, self._reuse = checkpoint.model, checkpoint.stops, reuse
        self._device = checkpoint.model.device
        self._cache: DynamicCache | None = None
        self._known: TokenSequence | None = None
        self._deadline: Deadline | None = None
        core = checkpoint.model.model
        for layer in (*core.visual.blocks, *core.language_model.layers):
            layer.register_forward_pre_hook(self._check_deadline)

    @property
    def longest(self) -> int:
        """Largest number of tokens of conversation and answer together."""
        return int(self._model.config.text_config.max_position_embeddings)

    @torch.inference_mode()
    def answer(
        self, asked: TokenSequence, max_tokens: int, deadline: Deadline, timing: Timing
    ) -> tuple[list[int], bool]:
        """The most likely tokens, and whether the model ended the answer itself.

        Raises:
            StageError: SERVER_TIMEOUT or the reason of a cancel, checked before every layer so that even a large image
                causes no delay.
        """
        start = self._clock()
        with self._until(deadline):
            cache, known = self._reusable(asked)
            timing.prompt_tokens, timing.reused_tokens = len(asked.ids), known
            positions = self._positions(asked)
            token = int(self._prefill(asked, known, positions, cache).argmax())
            timing.prefill_s = self._clock() - start
            answer: list[int] = []
            place = int(positions.max()) + 1
            while token not in self._stops and len(answer) < max_tokens:
                answer.append(token)
                if len(answer) < max_tokens:
                    token = int(self._step(token, place, cache).argmax())
                    place += 1
            timing.decode_s = self._clock() - start - timing.prefill_s
            timing.reply_tokens = len(answer) + (token in self._stops)
        self._cache, self._known = cache, asked.followed_by(answer)
        return answer, token in self._stops

    @contextmanager
    def _until(self, deadline: Deadline) -> Iterator[None]:
        """Drops the cache unless the work completes."""
        self._deadline = deadline
        try:
            yield
        except BaseException:
            self._cache = self._known = None
            raise
        finally:
            self._deadline = None

    def _check_deadline(self, module: Any, inputs: Any) -> None:
        if self._deadline is not None:
            self._deadline.check()

    def _reusable(self, asked: TokenSequence) -> tuple[DynamicCache, int]:
        """Cache of the first tokens of a conversation, and their number."""
        cache, self._cache = self._cache, None
        if not self._reuse or cache is None:
            return DynamicCache(config=self._model.config.get_text_config()), 0
        length = int(cache.get_seq_length())
        known = asked.common(self._known, length)
        if known == 0:
            return DynamicCache(config=self._model.config.get_text_config()), 0
        cache.crop(known - length)
        return cache, known

    def _positions(self, asked: TokenSequence) -> torch.Tensor:
        """(3, 1, T) positions in time, height and width."""
        ids = torch.tensor([asked.ids])
        kinds = torch.zeros_like(ids, dtype=torch.int32)
        for place in asked.places:
            kinds[0, place.start : place.end] = 1
        grids = torch.cat([image.grid for image in asked.images]) if asked.images else None
        positions, _ = self._model.model.get_rope_index(ids, kinds, grids)
        return positions.to(self._device)

    def _prefill(self, asked: TokenSequence, known: int, positions: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """(V,) scores of the first token of the answer."""
        new = [i for i, place in zip(asked.images, asked.places, strict=True) if place.start >= known]
        images = {}
        if new:
            images["pixel_values"] = torch.cat([image.pixels for image in new]).to(self._device, self._model.dtype)
            images["image_grid_thw"] = torch.cat([image.grid for image in new]).to(self._device)
        ids = torch.tensor([asked.ids[known:]], device=self._device)
        return self._forward(ids, positions[..., known:], cache, images)

    def _step(self, token: int, place: int, cache: DynamicCache) -> torch.Tensor:
        ids = torch.tensor([[token]], device=self._device)
        return self._forward(ids, torch.full((3, 1, 1), place, device=self._device), cache, {})

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, cache: DynamicCache, images: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        out = self._model(
            input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1, **images
        )
        return torch.as_tensor(out.logits[0, -1])
