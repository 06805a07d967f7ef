"""Damaged answers of servers: an outcome with a sentence, and never half of what a model said."""

from __future__ import annotations

import json
import random

from planning.openai.asking import QUESTION, chat
from planning.openai.http_server import Exchange, Server, completion
from planning.openai.test_server_faults import FINAL, IN_A_200, LATER, STREAMS

from stvla_ros.errors import StageError
from stvla_ros.planning.openai.chat import ServerChat

COUNT = 150
SEED = 12
PATH = "[(100, 200), (300, 400)]"
WHOLE = [completion(PATH).encode(), *(stream.encode() for stream in STREAMS.values())]
SAID = (PATH, "ok")
ERRORS = [*((s, b.encode()) for s, b, _ in [*FINAL, *LATER]), *((200, json.dumps(b).encode()) for b, _, _ in IN_A_200)]


def damaged(body: bytes, rng: random.Random) -> bytes:
    """Bytes changed, taken out, doubled, or of another answer."""
    for _ in range(rng.randint(1, 3)):
        at, to = sorted(rng.randrange(len(body) + 1) for _ in range(2))
        other = (
            rng.choice(ERRORS)[1] if rng.random() < 0.3 else bytes(rng.randrange(256) for _ in range(rng.randint(0, 3)))
        )
        body = rng.choice(
            [body[:at] + other + body[at:], body[:at] + body[to:], body[:to] + body[at:], body[:at] + other]
        )
    return body


def cut(body: bytes, rng: random.Random) -> bytes:
    return body[: rng.randint(0, max(0, len(body) - 1))]


def outcome(model: ServerChat) -> str | None:
    """The answer; None for a sentence instead."""
    try:
        return model.reply(QUESTION, 16)
    except StageError as error:
        sentence = error.sentence
    assert sentence.isprintable(), sentence
    assert len(sentence) < 1200
    return None


def test_damaged_answers() -> None:
    rng = random.Random(SEED)
    sent: list[tuple[int, bytes]] = []

    def answers(exchange: Exchange) -> None:
        status, body = sent[-1]
        exchange.send(body, f"{status} Whatever", "Retry-After: 3600\r\n")

    with Server([answers]) as server:
        model = chat(server)
        for i in range(COUNT):
            status, whole = rng.choice([(200, rng.choice(WHOLE)), rng.choice(ERRORS)])
            sent.append((status, (cut if i % 2 else damaged)(whole, rng)))
            text = outcome(model)
            if text is not None:
                assert status == 200
                assert text in SAID or i % 2 == 0  # of a stream only the end mark was cut away
