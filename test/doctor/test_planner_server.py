"""The planner's server, asked over a genuine connection: not there, other model, slow, refusing, thinking."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from planning.openai.http_server import Behaviour, Exchange, Server, completion

from stvla_ros.doctor import planner_server
from stvla_ros.doctor.finding import Finding, State
from stvla_ros.doctor.planner_server import check_server
from stvla_ros.planning.openai.server import ServerConfig

MODELS = json.dumps({"object": "list", "data": [{"id": "qwen"}, {"id": "other"}]})


def serves(answer: Behaviour, models: str = MODELS, status: str = "200 OK") -> Behaviour:
    """A server with a list of models and one way to answer."""
    return lambda exchange: exchange.send(models, status) if exchange.line.startswith("GET") else answer(exchange)


def asked(behaviour: Behaviour, **settings: Any) -> list[Finding]:
    with Server([behaviour]) as server:
        config = ServerConfig(**{"base_url": server.url, "model": "qwen", **settings})
        return list(check_server(config))


def says_ok(exchange: Exchange) -> None:
    exchange.send(completion("ok"))


def late(exchange: Exchange) -> None:
    time.sleep(0.3)
    exchange.send(completion("ok"))


def test_a_good_server() -> None:
    model, answer = asked(serves(says_ok))
    assert (model.state, answer.state) == (State.OK, State.OK)
    assert "qwen is served" in model.figure
    assert "at most 30 s are allowed" in answer.figure
    assert answer.unit == "s"


def test_a_model_that_is_not_served() -> None:
    model, answer = asked(serves(lambda e: e.send("{}", "404 Not Found")), model="qwen3")
    assert model.state is State.WRONG
    assert "qwen3 is not served: the server has qwen, other" in model.figure
    assert answer.state is State.WRONG


def test_a_slow_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_server, "SLOW_S", 0.2)
    answer = asked(serves(late))[1]
    assert answer.state is State.WARNING
    assert answer.value is not None
    assert answer.value >= 0.3
    assert "task.deadlines.plan_s" in answer.remedy


def test_a_server_that_is_later_than_its_deadline() -> None:
    answer = asked(serves(late), reply_deadline_s=0.1)[1]
    assert answer.state is State.WRONG
    assert "reply_deadline_s" in answer.figure


def test_an_answer_that_did_not_fit_is_an_answer() -> None:
    assert asked(serves(lambda e: e.send(completion("", "length"))))[1].state is State.OK


def test_a_server_without_a_list() -> None:
    model, answer = asked(serves(says_ok, "nothing", "404 Not Found"))
    assert (model.state, answer.state) == (State.WARNING, State.OK)


def test_no_server() -> None:
    (found,) = check_server(ServerConfig(base_url="http://127.0.0.1:9/v1", model="qwen"))
    assert found.state is State.WRONG
    assert "cannot be reached" in found.figure
    assert "planner.openai.base_url" in found.remedy


def test_a_setting_that_is_missing() -> None:
    (found,) = check_server(ServerConfig())
    assert "planner.openai.model: wanted the model's name" in found.figure
