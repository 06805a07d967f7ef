"""One growing conversation with a model: ask, read, and ask again with the reason if the answer was unusable.

Turns are only appended, so that each call starts with everything the last one computed (key-value caches stay valid).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.planning.chat import ChatModel, NotReadyError, Turn
from stvla_ros.planning.parse import MAX_BYTES, ReplyError, is_unknown
from stvla_ros.planning.prompt import one_line, refusal
from stvla_ros.types import U8

T = TypeVar("T")

NO_ANSWER = "(no answer)"
"""Placeholder for a reply that did not arrive as text: roles must alternate."""

LOGGED_CHARS = 4000
"""Limit per logged reply."""


def corrections(error: StageError) -> Turn:
    """The turn that tells a model why its answer was unusable."""
    if isinstance(error, ReplyError):
        return Turn("user", f"Not usable: {one_line(error.problem, 300)} Answer once more, in the form asked for.")
    if error.code is OutcomeCode.REPLY_UNPARSABLE:
        return Turn("user", f"Not usable: {one_line(error.sentence, 300)} Answer once more, in the form asked for.")
    return Turn("user", refusal(error.sentence))


def _may_mend(error: StageError, text: str | None) -> bool:
    """Asking again may help: the answer was unusable. It does not if the model failed or answered "unknown"."""
    unusable = error.code is OutcomeCode.REPLY_UNPARSABLE
    return unusable if text is None else unusable or not is_unknown(text)


class Conversation:
    """The turns of one plan.

    Args:
        model: The model.
        image: (H, W, 3) RGB that all questions are about; sent with the first one.
        retries: How often a question is repeated after an unusable answer.
        deadline: ``time.monotonic()`` after which no question is asked and no answer accepted.
        cancel: Ends the conversation, during an answer if the model supports it.
    """

    def __init__(self, model: ChatModel, image: U8, retries: int, deadline: float, cancel: CancelToken) -> None:
        self._model, self._retries, self._deadline, self._cancel = model, retries, deadline, cancel
        self._images: tuple[U8, ...] = (image,)
        self._turns: list[Turn] = []
        self._log: list[str] = []

    @property
    def log(self) -> str:
        """All replies, each after the name of its question."""
        return "\n".join(self._log)

    def ask(
        self,
        name: str,
        question: str,
        read: Callable[[str], T],
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        image: U8 | None = None,
    ) -> T:
        """The answer to one question, as ``read`` understands it.

        Args:
            name: Name of the question, for the log.
            question: Its text.
            read: Converts a reply to a value, or raises StageError, of which the model is told.
            max_tokens: Limit of each reply.
            schema: JSON schema, for a model that supports it.
            image: A further image for this question.

        Raises:
            StageError: What ``read`` raised last; GOAL_NOT_GROUNDED, at once, for the answer "unknown"; SERVER_TIMEOUT
                past the deadline; the reason of a cancel; what the model raises, at once, but REPLY_UNPARSABLE, after
                which it is asked again too.
        """
        turn = Turn("user", question, self._images if image is None else (*self._images, image))
        self._images, wrong = (), None
        for left in reversed(range(self._retries + 1)):
            self._turns.append(turn)
            text = None
            try:
                text = self._reply(name, max_tokens, schema)
                if is_unknown(text):
                    raise wrong or self._unknown(question)
                return read(text)
            except StageError as error:
                if not left or error is wrong or not _may_mend(error, text):
                    raise
                wrong, turn = error, corrections(error)
            if text is None:
                self._turns.append(Turn("assistant", NO_ANSWER))
        raise AssertionError("the last attempt returns or raises")

    def _reply(self, name: str, max_tokens: int, schema: Mapping[str, Any] | None) -> str:
        self._check_deadline()
        text = self._answer(max_tokens, schema)
        self._log.append(f"{name}: {text[:LOGGED_CHARS]}")
        self._turns.append(Turn("assistant", text.strip()[:MAX_BYTES] or NO_ANSWER))
        self._check_deadline()
        return text

    def _answer(self, max_tokens: int, schema: Mapping[str, Any] | None) -> str:
        """The model's answer; repeats the question while the model is not ready and time is left."""
        while True:
            try:
                return self._model.reply(tuple(self._turns), max_tokens, schema, self._cancel)
            except NotReadyError as error:
                if time.monotonic() + error.pause_s >= self._deadline:
                    raise
                self._cancel.wait(error.pause_s)
                self._cancel.raise_if_set()

    def _unknown(self, question: str) -> StageError:
        asked = one_line(question, 160)
        return StageError(
            OutcomeCode.GOAL_NOT_GROUNDED,
            f'{self._model.name} does not know or see the named object. It was asked: "{asked}" Use other words, or check the view.',
        )

    def _check_deadline(self) -> None:
        self._cancel.raise_if_set()
        if time.monotonic() > self._deadline:
            raise StageError(
                OutcomeCode.SERVER_TIMEOUT,
                f"{self._model.name} did not give all answers of a plan in time ({len(self._log)} so far): "
                "raise deadline_s, or ask a faster model.",
            )
