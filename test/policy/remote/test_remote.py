"""A policy on a server: the same keyposes, typed ends of everything that can go wrong between the two."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stalls
from policy.seen import observation
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from stvla_ros import registry
from stvla_ros.cli import main
from stvla_ros.commands import exit_codes
from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.policy.remote import server as serving
from stvla_ros.policy.remote import wire
from stvla_ros.policy.remote.client import RemotePolicy, RemotePolicyConfig
from stvla_ros.policy.remote.messages import PROTOCOL, plain_observation
from stvla_ros.policy.remote.server import BUSY, WRONG, PolicyServer
from stvla_ros.types import Keypose, Observation

TOKEN = "0123456789abcdef"
FUZZ = int(os.environ.get("STVLA_FUZZ", 300))
"""100,000 before a release."""


class Told:
    """A policy that does what a test says."""

    def __init__(self, act: Callable[[Observation], Keypose | None]) -> None:
        self.act = act

    def predict(self, observation: Observation) -> Keypose | None:
        return self.act(observation)


@contextmanager
def served(
    policy: Any, port: int = 0, token: bytes = b"", tell: Callable[[str], Any] = lambda _: None
) -> Iterator[PolicyServer]:
    server = PolicyServer(policy, "told", "127.0.0.1", port, token, tell)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.close()
    thread.join(10.0)


def remote(port: int, **settings: Any) -> RemotePolicy:
    return RemotePolicy(RemotePolicyConfig(**{"url": f"ws://127.0.0.1:{port}", **settings}))


@pytest.fixture(scope="module")
def seen() -> Observation:
    return observation()


def failure(policy: RemotePolicy, seen: Observation) -> StageError:
    with pytest.raises(StageError) as error:
        policy.predict(seen)
    return error.value


def test_it_says_what_the_policy_says_itself(seen: Observation) -> None:
    local = registry.create("policy", "scripted", {})
    with served(registry.create("policy", "scripted", {})) as server:
        policy, now, steps = remote(server.port), seen, 0
        while (wanted := local.predict(now)) is not None and steps < 3:
            found = policy.predict(now)
            np.testing.assert_array_equal(found.T_base_tcp, wanted.T_base_tcp)
            assert (found.gripper_open, found.may_collide) == (wanted.gripper_open, wanted.may_collide)
            now, steps = replace(now, history=(*now.history, wanted)), steps + 1
        assert steps == 3
        policy.close()


def test_none_and_the_policy_s_own_outcome(seen: Observation) -> None:
    def act(_: Observation) -> Keypose | None:
        if answers:
            raise answers.pop()
        return None

    answers = [StageError(OutcomeCode.NO_DEPTH, "Too little depth.")]
    with served(Told(act)) as server:
        policy = remote(server.port)
        error = failure(policy, seen)
        assert (error.code, error.sentence) == (OutcomeCode.NO_DEPTH, "Too little depth.")
        assert policy.predict(seen) is None
        policy.close()


def test_a_policy_that_fails_is_told_and_the_next_question_is_answered(
    seen: Observation, caplog: pytest.LogCaptureFixture
) -> None:
    def act(_: Observation) -> Keypose | None:
        if broken:
            raise broken.pop()
        return None

    broken = [ZeroDivisionError("secret")]
    with served(Told(act)) as server:
        policy = remote(server.port)
        error = failure(policy, seen)
        assert error.code is OutcomeCode.SERVER_ERROR
        assert error.sentence.endswith("The policy failed: its server's log says how.")
        assert "secret" in caplog.text
        assert policy.predict(seen) is None
        policy.close()


def test_nobody_serves(seen: Observation) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        policy = remote(free.getsockname()[1])
    error = failure(policy, seen)
    assert error.code is OutcomeCode.SERVER_ERROR
    assert "nobody serves there: start `stvla serve`" in error.sentence


def test_a_server_that_computes_too_long(seen: Observation) -> None:
    over = threading.Event()
    with served(Told(lambda _: over.wait(20.0) and None)) as server:
        policy, start = remote(server.port, deadline_s=0.5), stalls.clock()
        error = failure(policy, seen)
        assert error.code is OutcomeCode.SERVER_TIMEOUT
        assert "did not answer within 0.5 s" in error.sentence
        assert stalls.clock() - start < 3.0
        over.set()


def test_a_peer_that_says_nothing_at_all(seen: Observation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        policy, start = remote(silent.getsockname()[1], deadline_s=0.5), stalls.clock()
        assert failure(policy, seen).code is OutcomeCode.SERVER_TIMEOUT
        assert stalls.clock() - start < 3.0


def test_a_new_server_in_the_same_place(seen: Observation) -> None:
    with served(Told(lambda _: None)) as server:
        port, policy = server.port, remote(server.port)
        assert policy.predict(seen) is None
    with served(Told(lambda _: None), port):
        assert policy.predict(seen) is None
        policy.close()


def test_one_robot_at_a_time(seen: Observation) -> None:
    with served(Told(lambda _: None)) as server:
        first, second = remote(server.port), remote(server.port)
        assert first.predict(seen) is None
        error = failure(second, seen)
        assert error.code is OutcomeCode.SERVER_ERROR
        assert "Another robot is served" in error.sentence
        first.close()
        end = stalls.clock() + 5.0
        while stalls.clock() < end:
            try:
                assert second.predict(seen) is None
                break
            except StageError:
                time.sleep(0.05)
        else:
            pytest.fail("the place of the first robot was not given to the second")
        second.close()


def test_a_policy_that_nobody_uses_any_more_makes_room(seen: Observation) -> None:
    """As in evaluation, which makes new stages for each episode."""
    left = threading.Event()
    with served(Told(lambda _: None), tell=lambda said: said.endswith("gone.") and left.set()) as server:
        policy = remote(server.port)
        assert policy.predict(seen) is None
        del policy
        assert left.wait(5.0)


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ({"action_dim": 7}, f"wanted a server of {PROTOCOL}, got one of 'None'."),
        ("Traceback", "Traceback."),
        (b"\xc1", "Wanted MessagePack: "),
    ],
)
def test_a_server_of_something_else(seen: Observation, says: Any, sentence: str) -> None:
    def talk(connection: Any) -> None:
        connection.send(says if isinstance(says, str | bytes) else wire.pack(says))
        connection.recv()

    with serve(talk, "127.0.0.1", 0) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        error = failure(remote(other.socket.getsockname()[1]), seen)
        other.shutdown()
    assert error.code is OutcomeCode.SERVER_ERROR
    assert sentence in error.sentence


def test_tokens(seen: Observation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIGHT", TOKEN)
    monkeypatch.setenv("OTHER", TOKEN[::-1])
    with served(Told(lambda _: None), token=TOKEN.encode()) as server:
        right = remote(server.port, token_variable="RIGHT")
        assert right.predict(seen) is None
        right.close()
        for settings in ({}, {"token_variable": "OTHER"}):
            error = failure(remote(server.port, **settings), seen)
            assert error.code is OutcomeCode.SERVER_ERROR
            assert "it wants another token" in error.sentence


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"url": "http://127.0.0.1"}, "policy.remote.url: wanted ws://HOST:PORT or wss://..., got 'http://127.0.0.1'."),
        ({"url": "ws://10.0.0.2:8000", "token_variable": "RIGHT"}, "policy.remote.url: ws://10.0.0.2:8000 would carry the"),
        ({"token_variable": "MISSING"}, "policy.remote.token_variable: MISSING: wanted a token of 16 to 200"),
        ({"token_variable": "RIGHT", "token_file": "x"}, "policy.remote.token_file and policy.remote.token_variable are"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], sentence: str) -> None:
    monkeypatch.setenv("RIGHT", TOKEN)
    with pytest.raises(ConfigError) as error:
        RemotePolicy(RemotePolicyConfig(**settings))
    assert str(error.value).startswith(sentence)


def test_no_token_is_for_this_computer_only() -> None:
    with pytest.raises(ConfigError, match=r"--host: 0.0.0.0 can be reached from other computers"):
        PolicyServer(Told(lambda _: None), "told", "0.0.0.0", 0)


def test_a_page_of_a_browser_is_refused_and_health_is_told() -> None:
    with served(Told(lambda _: None)) as server:
        with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{server.port}", origin="http://evil.example"):
            pass
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert plain.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_message_that_is_too_large_ends_the_connection(seen: Observation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REQUEST_BYTES", 100_000)
    with served(Told(lambda _: None)) as server:
        error = failure(remote(server.port), seen)
        assert error.code is OutcomeCode.SERVER_ERROR
        assert "it ended the connection" in error.sentence


def test_malformed_messages_end_their_connection_with_a_sentence_and_nothing_else(seen: Observation) -> None:
    rng, whole = random.Random(7), wire.pack(plain_observation(seen))
    asked: list[Observation] = []
    ended = None
    with served(Told(lambda one: asked.append(one))) as server:
        url, ends = f"ws://127.0.0.1:{server.port}", Counter[int]()
        for _ in range(FUZZ):
            cut, few = whole[: rng.randrange(len(whole))], rng.randbytes(rng.randrange(60))
            raw: str | bytes = rng.choice(("text", few, cut, wire.pack({"prompt": "x"})))
            with connect(url, compression=None, max_size=None) as connection:
                try:
                    if isinstance(connection.recv(10.0), bytes):  # else the one before has not quite gone
                        connection.send(raw)
                        assert isinstance(connection.recv(10.0), str), "a malformed message was answered"
                    connection.recv(10.0)
                except ConnectionClosed as error:
                    ended = error.rcvd
            ends[ended.code if ended is not None else 0] += 1
        assert asked == []
        assert set(ends) <= {WRONG, BUSY}
        assert ends[WRONG] > 0.3 * FUZZ


def test_the_command_serves_until_ctrl_c(seen: Observation, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    command = [sys.executable, "-m", "stvla_ros.cli", "serve", "--policy", "scripted", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--token-file", str(token)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        process_group=0,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("Policy 'scripted' at ws://127.0.0.1:")
        policy = remote(int(first.split(":")[2].split(".")[0]), token_file=str(token), deadline_s=30.0)
        assert policy.predict(seen) is not None
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(20.0) == 0
        assert rest.count("here.") == 1
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.wait()


def test_the_command_does_not_serve_a_remote_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cell.yaml"
    file.write_text("policy:\n  ros__parameters:\n    backend: remote\n")
    assert main(["serve", "--params", str(file)]) == exit_codes.USAGE
    assert "is 'remote' itself" in capsys.readouterr().err
