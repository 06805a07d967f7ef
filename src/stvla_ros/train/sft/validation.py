"""Answers of the model in training, scored by planner evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from stvla_ros.data.st_human.questions import question
from stvla_ros.data.st_human.samples import Sample
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.evaluate.planner.report import report, scored
from stvla_ros.evaluate.planner.run import ask
from stvla_ros.evaluate.planner.scoring import Judge
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint
from stvla_ros.planning.qwen3_vl.generation import Deadline, Generator, Timing
from stvla_ros.planning.qwen3_vl.tokenization import Composer

MAX_ANSWER_TOKENS = 256
ANSWER_TIMEOUT_S = 600.0


class LiveChat:
    """A model in memory as a :class:`stvla_ros.planning.chat.ChatModel`, without memory between questions."""

    name = "model in training"

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._tokenizer = checkpoint.processor.tokenizer
        self._composer = Composer(checkpoint.processor)
        self._generator = Generator(checkpoint, reuse=False)

    def reply(
        self,
        turns: Sequence[Turn],
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> str:
        """See :class:`stvla_ros.planning.chat.ChatModel`. Raises REPLY_UNPARSABLE if the answer does not end."""
        tokens, ended = self._generator.answer(
            self._composer.compose(turns), max_tokens, Deadline(ANSWER_TIMEOUT_S, cancel), Timing()
        )
        if not ended:
            raise StageError(OutcomeCode.REPLY_UNPARSABLE, f"The answer did not end within {max_tokens} tokens.")
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def answer_figures(chat: LiveChat, samples: Sequence[Sample]) -> dict[str, float]:
    """Figures over the samples as ``stvla evaluate planner`` reports them, named ``task.figure``."""
    questions = [question(sample) for sample in samples]
    with torch.random.fork_rng():
        replies = {q.id: ask(chat, q, MAX_ANSWER_TOKENS) for q in questions}
    rows = report(scored(questions, replies, Judge(strict_paths=True)))
    found = {f"{row.group}.{name}": value for row in rows for name, value in row.figures.items()}
    return found | {f"{row.group}.readable": 1 - row.unreadable / row.asked for row in rows}
