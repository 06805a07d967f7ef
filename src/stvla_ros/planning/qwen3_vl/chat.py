"""Qwen3-VL as a :class:`stvla_ros.planning.chat.ChatModel`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch

from stvla_ros.config import param
from stvla_ros.devices import choose_placement
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.qwen3_vl.adapter import merged
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint, load
from stvla_ros.planning.qwen3_vl.generation import Deadline, Generator, Timing
from stvla_ros.planning.qwen3_vl.tokenization import Composer

QUOTED = 500
"""Characters of an answer to quote in a message."""


@dataclass(frozen=True)
class LocalModelConfig:
    """Settings of a model on this machine."""

    model: str = param("", "folder of a Qwen3-VL checkpoint of any size, or an id on the hub")
    adapter: str = param("", "folder or hub id of a LoRA adapter for it; empty: none")
    device: str = param("auto", "auto (a GPU where there is one), cpu, cuda, cuda:N")
    precision: str = param("auto", "auto: bf16 on a GPU, float32 on a CPU", choices=("auto", "bf16", "float32"))
    min_pixels: int = param(0, "smaller images are enlarged to this many pixels; 0: as in the checkpoint", ge=0)
    max_pixels: int = param(0, "larger images are reduced to this many pixels; 0: as in the checkpoint", ge=0)
    reply_deadline_s: float = param(60.0, "time limit of an answer [s]", ge=0.1, le=3600.0)
    reuse: bool = param(True, "reuse the computation of the turns shared with the last conversation")


class Qwen3VlChat:
    """A checkpoint with greedy decoding: the same conversation gets the same answer.

    A conversation that begins with the tokens of the last one, images included, costs only its new part. It serves one
    conversation at a time; other threads wait within their own deadlines.

    Raises:
        ConfigError: No usable checkpoint or adapter, or too little memory; the message says what to do.
    """

    def __init__(self, config: LocalModelConfig, where: str) -> None:
        placement = choose_placement(config.device, config.precision, where)
        found = load(config.model, placement, where, config.min_pixels, config.max_pixels)
        if config.adapter:
            found = Checkpoint(merged(found.model, config.adapter, where), found.processor, found.stops, found.name)
        self.timing = Timing()
        """Timing of the last answer."""
        self._name, self._config = found.name, config
        self._tokenizer = found.processor.tokenizer
        self._composer = Composer(found.processor)
        self._generator = Generator(found, config.reuse)
        self._lock = Lock()

    @property
    def name(self) -> str:
        """Name of the checkpoint's folder or repository."""
        return self._name

    def reply(
        self,
        turns: Sequence[Turn],
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> str:
        """See :class:`stvla_ros.planning.chat.ChatModel`; the schema is not enforced here.

        Raises:
            StageError: SERVER_TIMEOUT after ``reply_deadline_s``; SERVER_ERROR when memory runs out; REPLY_UNPARSABLE
                when the answer has not ended after ``max_tokens``, or conversation and answer exceed the model's
                context; the reason of ``cancel``, before the network's next layer.
        """
        deadline = Deadline(self._config.reply_deadline_s, cancel)
        with self._alone(deadline), _enough_memory():
            self.timing = Timing()
            start = time.monotonic()
            asked = self._composer.compose(turns)
            self.timing.preprocess_s = time.monotonic() - start
            self._check_length(len(asked.ids) + max_tokens)
            tokens, ended = self._generator.answer(asked, max_tokens, deadline, self.timing)
        text = str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        if not ended:
            raise StageError(
                OutcomeCode.REPLY_UNPARSABLE,
                f"{self._name}: the answer did not end within {max_tokens} tokens: '{text[:QUOTED]}'",
            )
        return text

    @contextmanager
    def _alone(self, deadline: Deadline) -> Iterator[None]:
        if not self._lock.acquire(timeout=deadline.seconds):
            raise StageError(
                OutcomeCode.SERVER_TIMEOUT, f"{self._name} was busy with another answer for {deadline.seconds:g} s."
            )
        try:
            yield
        finally:
            self._lock.release()

    def _check_length(self, tokens: int) -> None:
        if tokens > self._generator.longest:
            raise StageError(
                OutcomeCode.REPLY_UNPARSABLE,
                f"{self._name} takes {self._generator.longest} tokens, conversation and answer may need {tokens}: lower "
                "max_pixels.",
            )


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise StageError(
            OutcomeCode.SERVER_ERROR, "The device ran out of memory while answering: lower max_pixels."
        ) from error
