"""The interface to a vision-language model: turns in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.types import U8

UNANSWERED = (OutcomeCode.SERVER_TIMEOUT, OutcomeCode.SERVER_ERROR)
"""Outcomes that say nothing about the model: the question may be repeated later."""


class NotReadyError(StageError):
    """One of :data:`UNANSWERED` that waiting resolves: the same question is worth repeating.

    Attributes:
        pause_s: Pause before the repetition [s].
    """

    def __init__(self, code: OutcomeCode, sentence: str, pause_s: float) -> None:
        super().__init__(code, sentence)
        self.pause_s = pause_s


@dataclass(frozen=True, eq=False)
class Turn:
    """One message of a conversation.

    Attributes:
        role: ``user`` or ``assistant``.
        text: Its words; images come before them.
        images: (H, W, 3) uint8 each.
    """

    role: str
    text: str
    images: tuple[U8, ...] = ()


class ChatModel(Protocol):
    """A vision-language model: on this machine, behind a server, or a small one of this project."""

    @property
    def name(self) -> str:
        """For logs and plans, e.g. the model's id."""
        ...

    def reply(
        self,
        turns: Sequence[Turn],
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> str:
        """The model's answer to a conversation that ends with a user's turn.

        A conversation that begins with the turns of the last one may reuse their computation.

        Args:
            turns: In order; the last is the user's.
            max_tokens: Limit of the answer.
            schema: JSON schema for the answer; ignored by a model that does not support it.
            cancel: Once set, the answer is soon abandoned and its reason raised.

        Raises:
            NotReadyError: The model was starting, loading or overloaded for as long as an answer may take.
            StageError: one of :data:`UNANSWERED`, REPLY_UNPARSABLE (an answer that is no text, is too long
                or was cut off), GOAL_NOT_GROUNDED (the model says that it does not know what is named), or the
                reason of ``cancel``.
        """
        ...
