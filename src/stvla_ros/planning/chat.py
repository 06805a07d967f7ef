"""What planners with a vision-language model behind them talk through: turns in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.types import U8

UNANSWERED = (OutcomeCode.SERVER_TIMEOUT, OutcomeCode.SERVER_ERROR)
"""Outcomes of a question that says nothing of the model: it may be asked again another time."""


class NotReadyError(StageError):
    """One of :data:`UNANSWERED` that waiting mends: the same question is worth asking again.

    Attributes:
        pause_s: After so long [s].
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
    """A vision-language model: here, behind a server, or a small one of our own."""

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

        A conversation that begins with the turns of the last one may reuse what was computed for them.

        Args:
            turns: In order; the last is the user's.
            max_tokens: Of the answer.
            schema: JSON schema that the answer should obey; a model that cannot be held to one ignores it.
            cancel: Once set, the answer is given up soon and its reason raised.

        Raises:
            NotReadyError: It starts, loads or is overloaded, and was so for as long as an answer may take.
            StageError: one of :data:`UNANSWERED`, REPLY_UNPARSABLE (an answer that is no text, is too long
                or was cut off), GOAL_NOT_GROUNDED (the model says that it does not know what is named), or the
                reason of ``cancel``.
        """
        ...
