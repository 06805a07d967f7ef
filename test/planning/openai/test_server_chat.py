"""Each thing that a server can do to a client ends as a typed outcome, in bounded time. The HTTP is real."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import shutil
import socket
import ssl
import struct
import threading
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import stalls
from planning.openai.asking import chat, refused
from planning.openai.http_server import Behaviour, Exchange, Server, completion, says, self_signed

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.openai.chat import ServerChat
from stvla_ros.planning.openai.server import ServerConfig

DEADLINE_S = 1.0
SLACK_S = 2.0  # of what is done besides waiting
TOKEN = "sk-0123456789abcdef"
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
ASKED = [Turn("user", "Where is it?", (IMAGE,))]
TIMEOUT, ERROR = OutcomeCode.SERVER_TIMEOUT, OutcomeCode.SERVER_ERROR
UNPARSABLE = OutcomeCode.REPLY_UNPARSABLE


def refusal(model: ServerChat, within_s: float = DEADLINE_S + SLACK_S) -> StageError:
    """What a question ends in, in time."""
    start = stalls.clock()
    error = refused(model, ASKED)
    assert stalls.clock() - start < within_s
    return error


def test_question_and_answer() -> None:
    with Server([says("[(1, 2)]")]) as server:
        turns = [*ASKED, Turn("assistant", "[(3, 4)]"), Turn("user", "And now?")]
        model = chat(server)
        assert model.reply(turns, 64) == "[(1, 2)]"
        assert model.name == "qwen"
    (asked,) = server.asked
    assert asked.line == "POST /v1/chat/completions HTTP/1.1"
    assert "authorization" not in asked.headers
    body = asked.json
    assert (body["model"], body["max_tokens"], body["temperature"], body["stream"]) == ("qwen", 64, 0.0, False)
    assert "response_format" not in body
    first, second, third = body["messages"]
    assert first["content"][1] == {"type": "text", "text": "Where is it?"}
    assert second == {"role": "assistant", "content": "[(3, 4)]"}
    assert third == {"role": "user", "content": "And now?"}


@pytest.mark.parametrize(("form", "most"), [("png", 0), ("jpeg", 60)])
def test_images_arrive_as_they_are(form: str, most: int) -> None:
    smooth = np.ascontiguousarray(cv2.resize(IMAGE[:6, :8], (64, 48)))
    with Server([says("ok")]) as server:
        chat(server, image_format=form).reply([Turn("user", "?", (smooth,))], 8)
    kind, _, packed = server.asked[0].json["messages"][0]["content"][0]["image_url"]["url"].partition(",")
    assert kind == f"data:image/{form};base64"
    seen = cv2.imdecode(np.frombuffer(base64.b64decode(packed), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(seen.astype(int) - smooth).max() <= most


def test_schema_is_sent_where_it_may() -> None:
    schema = {"type": "object", "properties": {"points": {"type": "array"}}}
    with Server([says("{}")]) as server:
        chat(server).reply(ASKED, 8, schema)
        chat(server, structured=False).reply(ASKED, 8, schema)
    held, free = (asked.json for asked in server.asked)
    assert held["response_format"]["type"] == "json_schema"
    assert held["response_format"]["json_schema"]["schema"] == schema
    assert "response_format" not in free


def test_models_without_temperature_and_with_another_limit() -> None:
    with Server([says("ok")]) as server:
        chat(server, temperature=-1.0, token_limit="max_completion_tokens").reply(ASKED, 8)
    assert "temperature" not in server.asked[0].json
    assert server.asked[0].json["max_completion_tokens"] == 8


def test_one_connection_is_kept() -> None:
    with Server([says("ok")]) as server:
        model = chat(server)
        for _ in range(5):
            assert model.reply(ASKED, 8) == "ok"
        assert (len(server.asked), server.connections) == (5, 1)
        model.close()
        assert model.reply(ASKED, 8) == "ok"
        assert server.connections == 2


def test_connection_that_the_server_gave_up_is_opened_again() -> None:
    def once(exchange: Exchange) -> None:
        exchange.send(completion("ok"))
        exchange.pipe.shutdown(socket.SHUT_RDWR)

    with Server([once, says("again")]) as server:
        model = chat(server)
        assert model.reply(ASKED, 8) == "ok"
        time.sleep(0.05)
        assert model.reply(ASKED, 8) == "again"


def test_text_in_parts() -> None:
    with Server([says([{"type": "text", "text": "[(1, "}, {"type": "text", "text": "2)]"}])]) as server:
        assert chat(server).reply(ASKED, 8) == "[(1, 2)]"


def sleeps(exchange: Exchange) -> None:
    exchange.over.wait(5.0)


def drips_head(exchange: Exchange) -> None:
    for letter in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000:
        exchange.pipe.sendall(bytes([letter]))
        if exchange.over.wait(0.02):
            return


def drips_body(exchange: Exchange) -> None:
    exchange.pipe.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for letter in b" " * 1000:
        exchange.pipe.sendall(bytes([letter]))
        if exchange.over.wait(0.02):
            return


@pytest.mark.parametrize("behaviour", [sleeps, drips_head, drips_body])
def test_deadline_is_for_the_whole_answer(behaviour: Behaviour) -> None:
    with Server([behaviour, says("ok")]) as server:
        model = chat(server, reply_deadline_s=DEADLINE_S)
        error = refusal(model)
        assert (error.code, "no complete answer within 1 s (reply_deadline_s): raise the limit" in error.sentence) == (
            TIMEOUT,
            True,
        )
        assert model.reply(ASKED, 8) == "ok", "the next question is not the worse for it"


def test_a_cancel_closes_the_connection_at_once() -> None:
    closed = threading.Event()

    def thinks(exchange: Exchange) -> None:
        cancel.cancel()
        exchange.pipe.settimeout(30)
        if exchange.pipe.recv(1) == b"":
            closed.set()

    with Server([thinks, says("ok")]) as server:
        model, cancel = chat(server, reply_deadline_s=30.0), CancelToken()
        start = stalls.clock()
        with pytest.raises(StageError, match="Canceled by the operator") as error:
            model.reply(ASKED, 64, cancel=cancel)
        assert error.value.code is OutcomeCode.CANCELED
        assert stalls.clock() - start < SLACK_S
        assert closed.wait(30.0), "the server knows that nobody waits"
        assert model.reply(ASKED, 8) == "ok"
        with pytest.raises(StageError, match="CANCELED"):
            model.reply(ASKED, 64, cancel=cancel)
        assert len(server.asked) == 2, "nothing is asked for a goal that was canceled before"


def test_server_that_never_reads() -> None:
    """Connects, and takes no byte of a question that is larger than all buffers."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        large = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
        config = ServerConfig(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", "qwen", reply_deadline_s=DEADLINE_S)
        model = ServerChat(config, "planner.openai")
        with pytest.raises(StageError, match="no complete answer") as error:
            model.reply([Turn("user", "?", (large,))], 8)
        assert error.value.code is TIMEOUT


def reset(exchange: Exchange) -> None:
    exchange.pipe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.pipe.close()


def half_an_answer(exchange: Exchange) -> None:
    exchange.pipe.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    exchange.pipe.close()


def no_http(exchange: Exchange) -> None:
    exchange.pipe.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
    exchange.pipe.close()


def mail(exchange: Exchange) -> None:
    exchange.pipe.sendall(b"220 example.org ESMTP\r\n\r\n")
    exchange.pipe.close()


def huge_head(exchange: Exchange) -> None:
    exchange.pipe.sendall(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(2000)))
    exchange.pipe.close()


@pytest.mark.parametrize("behaviour", [reset, half_an_answer, no_http, huge_head])
def test_broken_connections_are_tried_again_but_not_for_ever(behaviour: Behaviour) -> None:
    with Server([behaviour]) as server:
        error = refusal(chat(server))
        assert (error.code, "closed the connection" in error.sentence) == (ERROR, True), error
        assert len(server.asked) == 3


def test_what_is_no_http() -> None:
    with Server([mail]) as server:
        assert "does not speak HTTP" in refusal(chat(server)).sentence
        assert len(server.asked) == 1


def test_redirects_are_not_followed() -> None:
    with Server([says("stolen")]) as other:

        def away(exchange: Exchange) -> None:
            exchange.send("", "302 Found", f"Location: {other.url}/chat/completions\r\n")

        with Server([away]) as server:
            sentence = refusal(chat(server)).sentence
        assert f"redirects to another address (status 302): set planner.openai.base_url to {other.url}." in sentence
        assert other.asked == []


NO_ANSWERS = {
    "nothing": b"",
    "no JSON": b"<html>gateway</html>",
    "half of it": completion("[(1, 2)]")[:-20].encode(),
    "nested without end": b"[" * 200_000,
    "nested objects": b'{"choices":' * 50_000,
    "a number without end": b'{"choices": ' + b"9" * 100_000 + b"}",
    "another type": b"[]",
    "null": b"null",
    "a string": b'"choices"',
    "no choices": b"{}",
    "choices of another type": b'{"choices": {"0": {}}}',
    "no choice": b'{"choices": []}',
    "a choice of another type": b'{"choices": ["text"]}',
    "no message": b'{"choices": [{}]}',
    "a message of another type": b'{"choices": [{"message": "text"}]}',
    "no UTF-8": b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
    "other bytes": bytes(range(256)) * 10,
}
"""Of a server that does not bring what a model said."""

USELESS = {
    "no content": b'{"choices": [{"message": {}}]}',
    "content null": completion(None).encode(),
    "content of another type": completion({"text": "x"}).encode(),
    "content of numbers": completion([1, 2]).encode(),
    "parts of another type": completion([{"type": "text", "text": 3}]).encode(),
    "parts that are thoughts": completion([{"type": "thinking", "text": "[(1, 2)]"}]).encode(),
    "a call of a tool": completion(None, "tool_calls", tool_calls=[{"id": "1"}]).encode(),
    "a filter": completion("x", "content_filter").encode(),
    "a reason of another type": completion("x", ["stop"]).encode(),
    "a refusal": completion("", "stop", refusal="I cannot do that").encode(),
}
"""Of a model: it is told, and asked once more."""


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
def test_what_is_no_answer_is_the_servers_fault(body: bytes) -> None:
    with Server([lambda exchange: exchange.send(body)]) as server:
        assert refusal(chat(server, reply_deadline_s=10.0), 10.0).code is ERROR
        assert len(server.asked) <= 3


@pytest.mark.parametrize("body", USELESS.values(), ids=USELESS.keys())
def test_useless_answers_are_unparsable(body: bytes) -> None:
    with Server([lambda exchange: exchange.send(body)]) as server:
        assert refusal(chat(server, reply_deadline_s=10.0), 10.0).code is UNPARSABLE
        assert len(server.asked) == 1


def test_truncated_answers_say_so() -> None:
    with Server([says("[(1, 2), (3", "length")]) as server:
        error = refusal(chat(server))
    assert error.code is UNPARSABLE
    assert "cut off at its limit of tokens (raise max_tokens): '[(1, 2), (3'" in error.sentence


def announces_much(exchange: Exchange) -> None:
    exchange.pipe.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    pours(exchange)


def streams_much(exchange: Exchange) -> None:
    exchange.pipe.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not exchange.over.is_set():
        exchange.pipe.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def pours(exchange: Exchange) -> None:
    while not exchange.over.is_set():
        exchange.pipe.sendall(b" " * 65536)


@pytest.mark.parametrize("behaviour", [announces_much, streams_much])
def test_oversized_answers_are_not_read_to_their_end(behaviour: Behaviour) -> None:
    with Server([behaviour, says("ok")]) as server:
        model = chat(server, max_reply_bytes=100_000, reply_deadline_s=10.0)
        error = refusal(model, 10.0)
        assert (error.code, "longer than 100000 bytes" in error.sentence) == (UNPARSABLE, True)
        assert model.reply(ASKED, 8) == "ok"


def packed(content: bytes, how: str) -> Behaviour:
    return lambda exchange: exchange.send(content, headers=f"Content-Encoding: {how}\r\n")


def test_packed_answers_are_read_as_far_as_they_may_be_long() -> None:
    """Proxies pack unasked."""
    whole, bomb = completion("ok").encode(), b" " * 10_000_000
    sent = [
        packed(gzip.compress(whole), "gzip"),
        packed(zlib.compress(whole), "deflate"),
        packed(gzip.compress(bomb), "gzip"),
    ]
    with Server([*sent, *[packed(b"no gzip", "gzip")] * 3, packed(b"x", "br")]) as server:
        model = chat(server)
        assert [model.reply(ASKED, 8) for _ in range(2)] == ["ok", "ok"]
        assert "longer than 1000000 bytes" in refusal(model).sentence
        assert "not gzip, although its header says so" in refusal(model).sentence
        assert "compresses its answers as 'br' although not asked to" in refusal(model).sentence
    assert server.asked[0].headers["accept-encoding"] == "identity"


def test_token_comes_from_the_environment_and_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_TOKEN", f" {TOKEN}\n")

    def echoes(exchange: Exchange) -> None:
        exchange.send(f'{{"error": "Incorrect API key provided: {TOKEN}"}}', "500 Oh no")

    def refuses(exchange: Exchange) -> None:
        exchange.send(f"wrong {TOKEN}", "401 Unauthorized")

    def talks(exchange: Exchange) -> None:
        exchange.send(f"you are {TOKEN}")

    with Server([says("ok"), echoes, refuses, talks]) as server:
        model = chat(server, token_variable="MY_TOKEN")
        assert model.reply(ASKED, 8) == "ok"
        errors = [refusal(model) for _ in range(3)]
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert "***" in errors[0].sentence
    assert "refused the token with status 401: check the token in MY_TOKEN" in errors[1].sentence
    shown = [*(str(e) for e in errors), *(repr(vars(model))), caplog.text, repr(model._address)]
    assert not any(TOKEN in text for text in shown)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    return self_signed(tmp_path_factory.mktemp("tls"))


def test_certificates_are_verified(certificate: tuple[Path, Path]) -> None:
    file, key = certificate
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file, key)
    with Server([says("ok")], tls) as server:
        error = refusal(chat(server, reply_deadline_s=10.0), 10.0)
        assert (error.code, "CERTIFICATE_VERIFY_FAILED" in error.sentence) == (ERROR, True), error
        assert "set planner.openai.ca_file to the authority that signed its certificate" in error.sentence
        assert server.asked == []
        assert chat(server, ca_file=str(file), reply_deadline_s=10.0).reply(ASKED, 8) == "ok"
        by_name = chat(server, ca_file=str(file), base_url=server.url.replace("127.0.0.1", "localhost"))
        assert (
            "its certificate is for another name; set planner.openai.base_url to that name" in refusal(by_name).sentence
        )
        plain = chat(server, base_url=server.url.replace("https", "http"))
        assert "whether it wants https://..." in refusal(plain, 10.0).sentence


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "127.0.0.1:8000"}, r"wanted http\(s\)://HOST.*Did you mean 'http://127.0.0.1:8000'\?"),
        ({"base_url": "localhost:8000/v1/"}, r"Did you mean 'http://localhost:8000/v1'\?"),
        ({"base_url": "gpu-box"}, r"Did you mean 'http://gpu-box'\?"),
        ({"base_url": ""}, "base_url: wanted"),
        ({"base_url": "http://"}, "base_url: wanted"),
        ({"base_url": "http://::1:8000/v1"}, r"an IPv6 HOST in \[\]"),
        ({"base_url": "http://[::1/v1"}, "base_url: wanted"),
        ({"base_url": "http://host:70000/v1"}, "base_url: wanted"),
        ({"base_url": "http://h\x00st/v1"}, "base_url: wanted"),
        ({"base_url": "ftp://host/v1"}, "base_url"),
        ({"base_url": "http://host:port/v1"}, "base_url"),
        ({"base_url": "http://host/v1?key=1"}, "base_url"),
        ({"base_url": "https://me:secret@host/v1"}, "must not contain a user or password"),
        ({"model": " "}, r"model: wanted the model's name"),
        ({"token_variable": "NOT_SET_ANYWHERE"}, "variable NOT_SET_ANYWHERE is not set"),
        ({"token_variable": "WITH_BLANK"}, "WITH_BLANK is not a token"),
        ({"token_variable": "QUOTED"}, "QUOTED is not a token: it has blanks, quotes"),
        ({"token_variable": TOKEN}, "token_variable: wanted the NAME of an environment variable"),
        ({"token_variable": "hf_AbCdEf0123456789"}, "token_variable: wanted the NAME of an environment variable"),
        ({"base_url": "http://robot-server:8000/v1", "token_variable": "GOOD"}, "unencrypted: use https"),
        ({"base_url": "https://host/v1", "ca_file": "/nowhere.pem"}, "there is no file"),
        ({"base_url": "https://host/v1", "ca_file": __file__}, "no certificate in PEM form"),
    ],
)
def test_wrong_settings_are_told_at_once(
    settings: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WITH_BLANK", "a b")
    monkeypatch.setenv("QUOTED", f"'{TOKEN}'")
    monkeypatch.setenv("GOOD", TOKEN)
    with pytest.raises(ConfigError, match=message) as error:
        registry.create("planner", "openai", {"model": "qwen"} | settings)
    assert str(error.value).startswith("planner.openai.")
    assert "secret" not in str(error.value)
    assert TOKEN not in str(error.value)
    assert "hf_AbC" not in str(error.value)


def test_token_may_go_unencrypted_where_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOD", TOKEN)
    settings = {"base_url": "http://robot-server:8000/v1", "token_variable": "GOOD", "plain_token": True, "model": "q"}
    assert registry.create("planner", "openai", settings).model.name == "q"


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with Server([says("ok")]) as server:
        assert chat(server).reply(ASKED, 8) == "ok"
    assert json.loads(server.asked[0].body)["model"] == "qwen"
