"""A test of a planner asks every question once, keeps the replies, and can be resumed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.errors import StageError
from stvla_ros.evaluate.planner.question import Question
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.files import keep_settings, said
from stvla_ros.planning.chat import UNANSWERED, ChatModel, Turn

PATIENCE = 5
"""After this many unanswered questions in a row the model counts as gone."""


@dataclass(frozen=True)
class Reply:
    """The reply to one question.

    Attributes:
        id: Of the question.
        text: The model's words, or what went wrong.
        code: ``OK``, or why there is no answer.
        seconds: From question to answer.
        size_px: Width and height of the first image.
    """

    id: str
    text: str
    code: str
    seconds: float
    size_px: tuple[int, int]

    @property
    def unanswered(self) -> bool:
        """The model said nothing, for a reason that may pass."""
        return self.code in (code.name for code in UNANSWERED)


class Replies:
    """``replies.jsonl`` in a folder that belongs to one model, test set and prompt style.

    Raises:
        ConfigError: The folder holds replies to something else, or a line in it is damaged.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        keep_settings(folder / "settings.json", settings, "replies got")
        self._path = folder / "replies.jsonl"
        self.known = {reply.id: reply for reply in self._read()}

    def keep(self, reply: Reply) -> None:
        """Append; an unanswered question is not kept, so that it is asked again."""
        self.known[reply.id] = reply
        if not reply.unanswered:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(reply), ensure_ascii=False) + "\n")

    def _read(self) -> list[Reply]:
        if not self._path.exists():
            return []
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{self._path}: damaged ({said(error)}): delete it, or choose another --output."
            ) from error
        whole, newline, torn = text.rpartition("\n")
        if torn:  # the run ended in the middle of a line
            self._path.write_text(whole + newline, encoding="utf-8")
        try:
            entries = [json.loads(line) for line in whole.split("\n") if line]
            return [Reply(**{**entry, "size_px": tuple(entry["size_px"])}) for entry in entries]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{self._path}: damaged ({error}): delete it, or choose another --output.") from error


def ask_all(
    model: ChatModel,
    questions: Sequence[Question],
    replies: Replies,
    max_tokens: int,
    tell: Callable[[Reply], None] = lambda _: None,
) -> None:
    """Ask all questions without a reply; every reply is on disk before ``tell`` sees it.

    Raises:
        ConnectionError: The model no longer answers.
        ConfigError: An image is missing or damaged.
    """
    unanswered = 0
    for question in questions:
        if question.id in replies.known:
            continue
        reply = ask(model, question, max_tokens)
        unanswered = unanswered + 1 if reply.unanswered else 0
        if unanswered == PATIENCE:
            raise ConnectionError(f"{model.name}: {PATIENCE} questions in a row were not answered: {reply.text}")
        replies.keep(reply)
        tell(reply)


def ask(model: ChatModel, question: Question, max_tokens: int) -> Reply:
    """One question; failures of the model are replies too."""
    turns = question.ask()
    begun = time.monotonic()
    try:
        text, code = model.reply(turns, max_tokens), "OK"
    except StageError as error:
        text, code = error.sentence, error.code.name
    return Reply(question.id, text, code, round(time.monotonic() - begun, 4), _size(turns))


def _size(turns: Sequence[Turn]) -> tuple[int, int]:
    image = next((image for turn in turns for image in turn.images), None)
    return (1000, 1000) if image is None else (image.shape[1], image.shape[0])


def chat_model(settings: StackSettings) -> ChatModel:
    """The ChatModel of the planner in some settings (its attribute ``model``).

    Raises:
        ConfigError: The planner cannot be made, or has no model that can be asked questions.
    """
    name = settings.backends["planner"]
    planner = registry.create("planner", name, settings.sections.get("planner", {}))
    model = getattr(planner, "model", None)
    if not callable(getattr(model, "reply", None)):
        raise ConfigError(
            f"planner '{name}' draws paths and answers no questions: choose one with a language model behind it "
            "(`stvla backends` lists them)."
        )
    return cast(ChatModel, model)
