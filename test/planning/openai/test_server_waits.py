"""A server that starts, loads or is overloaded is asked again: in its own time, within the deadline, until somebody cancels."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import pytest
import stalls
from planning.openai.asking import QUESTION, chat, refused
from planning.openai.http_server import Behaviour, Exchange, Server, completion, says

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.planning.chat import ChatModel, NotReadyError, Turn
from stvla_ros.planning.conversation import Conversation
from stvla_ros.planning.openai.chat import ServerChat

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
IMAGE = np.zeros((4, 4, 3), np.uint8)


def busy(status: str = "503 Busy", **headers: str) -> Behaviour:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return lambda exchange: exchange.send('{"error": {"message": "Loading model"}}', status, lines)


def date(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({"Retry_After": "3600"}, 3600),
        ({"Retry_After": " 7200.5 "}, 7200.5),
        ({"retry_after_ms": "3600000"}, 3600),
        ({"Retry_After": date(3600), "Date": date(0)}, 3600),  # by the server's clock, years off or not
        ({"Retry_After": "by our own clock"}, 7200),
    ],
)
def test_a_pause_beyond_the_deadline_ends_at_once(headers: dict[str, str], pause_s: float) -> None:
    if headers == {"Retry_After": "by our own clock"}:  # not when the tests are collected, which may be long ago
        headers = {"Retry_After": format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)}
    with Server([busy("429 Too Many Requests", **headers)]) as server:
        error = refused(chat(server, reply_deadline_s=3000.0))
        assert len(server.asked) == 1
    assert isinstance(error, NotReadyError)
    assert error.pause_s == pytest.approx(pause_s, abs=120)
    assert f"It wants a pause of {error.pause_s:.0f} s, and an answer has 3000 s left" in error.sentence


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry_After": "0"},
        {"Retry_After": "0.01"},
        {"retry_after_ms": "10"},
        {"Retry_After": date(-3600), "Date": date(0)},
        {"Retry_After": date(0), "Date": date(0)},
        {"Retry_After": "soon"},
        {"Retry_After": ""},
        {"Retry_After": "-5"},
        {"Retry_After": "nan"},
        {"Retry_After": "1e9"},
        {"Retry_After": "Mon, 99 Foo 99999999999999999999 00:00:00 GMT"},
        {"Retry_After": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"},
        {"Retry_After": date(-3600), "Date": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"},
    ],
)
def test_pauses_that_are_over_or_no_pauses(headers: dict[str, str]) -> None:
    with Server([busy("429 Too Many Requests", **headers), says("ok")]) as server:
        assert chat(server).reply(QUESTION, 8) == "ok"


def test_the_pause_that_a_server_wants_is_kept() -> None:
    times = []

    def asked(exchange: Exchange) -> None:
        times.append(time.monotonic())
        (busy(Retry_After="0.4") if len(times) == 1 else says("ok"))(exchange)

    with Server([asked]) as server:
        assert chat(server).reply(QUESTION, 8) == "ok"
    assert times[1] - times[0] >= 0.4


def late(words: str, server: Server | None = None, **settings: Any) -> StageError:
    """What a short deadline ends in; a longer one, where a loaded machine does not get as far as these words."""
    for deadline_s in (0.3, 1.0, 4.0, 16.0):
        error = refused(chat(server, reply_deadline_s=deadline_s, **settings))
        if words in error.sentence:
            break
    return error


def test_it_ends_with_the_deadline() -> None:
    said = "is still loading (status 503): wait until it is ready. It says: 'Loading model'. It was "
    with Server([busy()]) as server:
        error = late(said, server)
    assert isinstance(error, NotReadyError)
    assert said in error.sentence  # asked so often, or so for so long


def test_silence_after_it_was_busy_names_both() -> None:
    def busy_then_silent(exchange: Exchange) -> None:
        (busy() if len(server.asked) % 2 else lambda _: exchange.over.wait(30.0))(exchange)

    with Server([busy_then_silent]) as server:
        error = late("is still loading", server)
    assert isinstance(error, NotReadyError)
    assert error.code is OutcomeCode.SERVER_TIMEOUT
    assert "is still loading" in error.sentence
    assert "s, and it gave no complete answer in the rest of" in error.sentence


@pytest.mark.parametrize("pause", ["20", "0.05"])
def test_a_cancel_interrupts_a_pause(pause: str) -> None:
    waits = threading.Event()
    cancel = CancelToken()

    def refuses(exchange: Exchange) -> None:
        busy(Retry_After=pause)(exchange)
        waits.set()

    def stop() -> None:
        waits.wait(30.0)
        cancel.cancel()

    with Server([refuses]) as server:
        model = chat(server)
        threading.Thread(target=stop, daemon=True).start()
        start = stalls.clock()
        assert refused(model, cancel=cancel).code is OutcomeCode.CANCELED
        assert stalls.clock() - start < 10.0


def test_a_server_that_starts_later() -> None:
    """Nobody listens yet: as with vLLM, which opens its port when its model is there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    model = chat(base_url=f"http://127.0.0.1:{port}/v1")
    error = late("cannot be reached", base_url=f"http://127.0.0.1:{port}/v1")
    assert isinstance(error, NotReadyError)
    assert "cannot be reached ([Errno 111] Connect call failed" in error.sentence
    assert "is the server running, and is planner.openai.base_url right?" in error.sentence
    server = Server([says("ok")], port=port)
    threading.Timer(0.1, server.__enter__).start()
    assert model.reply(QUESTION, 8) == "ok"
    server.__exit__()


def test_a_name_that_nobody_knows_ends_at_once() -> None:
    error = refused(chat(base_url="http://no-such-host.invalid:8000/v1"))
    assert error.code is OutcomeCode.SERVER_ERROR
    # a machine without any name server cannot tell, and asks again
    assert "is an unknown host name" in error.sentence or isinstance(error, NotReadyError)


def test_names_that_cannot_be_looked_up_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name server is what is missing here, as when the network comes up."""
    real, calls = socket.getaddrinfo, []

    def looks_up(host: str, *more: object, **named: object) -> object:
        calls.append(host)
        if len(calls) < 3:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", looks_up)
    with Server([says("ok")]) as server:
        assert chat(server, base_url=f"http://gpu-box:{server.port}/v1").reply(QUESTION, 8) == "ok"
    assert len(calls) == 3


def test_a_port_that_nobody_named_is_told() -> None:
    error = refused(chat(base_url="http://127.0.0.1/v1", reply_deadline_s=0.3))
    if error.code is OutcomeCode.SERVER_ERROR and "cannot be reached" in error.sentence:  # nothing is on port 80
        assert "it names no port: 80 was tried" in error.sentence


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with Server([says("ok")], host="::1") as server:
        assert chat(base_url=f"http://[::1]:{server.port}/v1").reply(QUESTION, 8) == "ok"


def test_a_connection_that_nobody_takes() -> None:
    """As with a firewall that drops: no answer at all, and no server that thinks."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        held = [socket.socket() for _ in range(4)]
        for other in held:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        error = refused(chat(base_url=f"http://127.0.0.1:{full.getsockname()[1]}/v1", reply_deadline_s=0.5))
        for other in held:
            other.close()
    assert error.code is OutcomeCode.SERVER_TIMEOUT
    assert "accepted no connection within 0.5 s (reply_deadline_s): is planner.openai.base_url right" in error.sentence


def test_tls_with_a_server_that_has_none() -> None:
    def silent(exchange: Exchange) -> None:
        exchange.over.wait(30.0)

    with Server([silent]) as server:  # waits for the end of a line that never comes
        error = late("did not start TLS", server, base_url=server.url.replace("http", "https"))
        assert error.code is OutcomeCode.SERVER_TIMEOUT
        assert "s (reply_deadline_s): if it does not use TLS, set planner.openai.base_url to http" in error.sentence


@pytest.mark.parametrize(
    ("reply", "linger", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 0, "does not use TLS ([SSL: WRONG_VERSION_NUMBER]"),
        (b"", 0, "closed the connection when TLS started"),
        (b"", 1, "closed the connection when TLS started"),
    ],
    ids=["HTTP", "end", "reset"],
)
def test_tls_with_a_server_that_answers_without(reply: bytes, linger: int, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answers() -> None:
            while True:
                try:
                    pipe, _ = plain.accept()
                except OSError:
                    return
                with pipe:
                    pipe.recv(10_000)
                    pipe.sendall(reply)
                    pipe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", linger, 0))

        threading.Thread(target=answers, daemon=True).start()
        error = refused(chat(base_url=f"https://127.0.0.1:{plain.getsockname()[1]}/v1"))
    assert words in error.sentence, error.sentence
    assert "set planner.openai.base_url to http://..." in error.sentence


def conversation(model: ChatModel, deadline_s: float, cancel: CancelToken | None = None) -> Conversation:
    return Conversation(model, IMAGE, 2, time.monotonic() + deadline_s, cancel or CancelToken())


@dataclass
class Starting:
    """A server's model whose first answers end with "not ready"."""

    model: ServerChat
    left: int
    name: str = "starting"
    asked: list[Sequence[Turn]] = field(default_factory=list)

    def reply(self, turns: Sequence[Turn], *more: Any) -> str:
        self.asked.append(turns)
        self.left -= 1
        if self.left >= 0:
            raise NotReadyError(OutcomeCode.SERVER_ERROR, "It loads.", 0.01)
        return self.model.reply(turns, *more)


def test_a_plan_waits_longer_than_one_answer_may_take() -> None:
    """The very same question: the model has said nothing yet that could be corrected."""
    with Server([says("ok")]) as server:
        model = Starting(chat(server), 3)
        assert conversation(model, 60.0).ask("name", "Which?", str, 16) == "ok"
        assert model.asked == [model.asked[0]] * 4
        assert len(server.asked) == 1


def test_a_plan_does_not_wait_beyond_its_own_deadline() -> None:
    with Server([busy(Retry_After="50")]) as server:
        with pytest.raises(NotReadyError, match="It wants a pause of 50 s"):
            conversation(chat(server, reply_deadline_s=5.0), 40.0).ask("name", "Which?", str, 16)
        assert len(server.asked) == 1


def test_a_cancel_interrupts_a_plan_that_waits() -> None:
    cancel = CancelToken()

    def refuses(exchange: Exchange) -> None:
        busy(Retry_After="50")(exchange)
        threading.Timer(0.1, cancel.cancel).start()

    with Server([refuses]) as server:
        talk, start = conversation(chat(server, reply_deadline_s=30.0), 3000.0, cancel), stalls.clock()
        with pytest.raises(StageError, match="CANCELED"):
            talk.ask("name", "Which?", str, 16)
    assert stalls.clock() - start < 30.0


def test_a_fault_of_the_server_is_not_told_to_the_model() -> None:
    with Server([busy("401 Unauthorized")]) as server:
        with pytest.raises(StageError, match="refused the token"):
            conversation(chat(server), 60.0).ask("name", "Which?", str, 16)
        assert len(server.asked) == 1


def test_waiting_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with Server([busy(), busy(), says("ok")]) as server:
        chat(server).reply(QUESTION, 8)
    (record,) = caplog.records
    assert "is still loading (status 503)" in record.getMessage()
    assert "asked again" in record.getMessage()


@pytest.mark.parametrize("dies", [2, 3])
def test_a_server_that_dies_of_a_question_is_not_killed_for_ever(dies: int) -> None:
    def dying(exchange: Exchange) -> None:
        exchange.pipe.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + completion("ok")[:20].encode())
        exchange.pipe.close()

    with Server([*[dying] * dies, says("ok")]) as server:
        if dies < 3:
            assert chat(server).reply(QUESTION, 8) == "ok"
        else:
            assert "closed the connection" in refused(chat(server)).sentence
            assert len(server.asked) == 3
    assert json.loads(server.asked[0].body) == json.loads(server.asked[-1].body)


def test_what_is_lost_after_a_wait_is_asked_for_a_few_times_too() -> None:
    def closes(exchange: Exchange) -> None:
        exchange.pipe.close()

    with Server([*[busy()] * 4, closes, closes, says("ok")]) as server:
        assert chat(server).reply(QUESTION, 8) == "ok"


def test_the_proxy_of_the_environment_is_named_where_it_may_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    away = refused(chat(base_url="http://no-such-host.invalid/v1", reply_deadline_s=5.0))
    here = refused(chat(base_url="http://127.0.0.1:9/v1", reply_deadline_s=0.1))
    assert "The proxy in http_proxy is not used." in away.sentence
    assert "proxy" not in here.sentence


def test_a_connection_lost_while_a_large_question_is_sent_tells_its_size() -> None:
    """Some servers close it instead of answering 413."""
    large = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)

    def hangs_up(exchange: Exchange) -> None:
        exchange.pipe.close()

    with Server([hangs_up]) as server:
        error = refused(chat(server), (Turn("user", "?", (large,)),))
    assert "the largest question it accepts (this one has 19" in error.sentence, error.sentence


def test_a_server_that_is_silent_about_its_models_still_gets_its_refusal_told() -> None:
    def refuses(exchange: Exchange) -> None:
        if exchange.line.startswith("POST"):
            exchange.send('{"error": {"message": "The model does not exist"}}', "404 Not Found")
        else:
            exchange.over.wait(30.0)

    with Server([refuses]) as server:
        error = refused(chat(server, reply_deadline_s=4.0))
    assert "has no model 'qwen' (status 404)" in error.sentence
