"""Services over a middleware that loses answers."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from rclpy.node import Node
from std_srvs.srv import Trigger

from stvla_ros.ros import service_client


class Server:
    """A service whose first answers get lost."""

    def __init__(self, ros: Any, monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
        self.asked = 0
        self.node, client = ros.add(Node("server")), ros.add(Node("client"))
        service = self.node.create_service(Trigger, "ask", self._answer)
        send = service.send_response
        monkeypatch.setattr(
            service, "send_response", lambda response, header: self.asked > lost and send(response, header)
        )
        self.client = client

    def _answer(self, _: Any, response: Any) -> Any:
        self.asked += 1
        response.message = f"answer {self.asked}"
        return response


def test_a_lost_answer_is_asked_for_again(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(ros, monkeypatch, lost=2)
    answer = service_client.call_by_name(server.client, Trigger, "ask", Trigger.Request(), 20.0, 0.1)
    assert answer.message == "answer 3"


def test_what_must_not_be_done_twice_is_asked_once(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(ros, monkeypatch, lost=1000)
    with pytest.raises(ConnectionError, match=r"ask did not answer within 0\.5 s"):
        service_client.call_by_name(server.client, Trigger, "ask", Trigger.Request(), 0.5, None)
    assert server.asked == 1


def test_no_server_is_one_sentence(ros: Any) -> None:
    with pytest.raises(ConnectionError, match=r"No service ask was found within 0\.2 s"):
        service_client.call_by_name(ros.add(Node("client")), Trigger, "ask", Trigger.Request(), 0.2)


def test_clients_come_and_go_while_the_node_spins(ros: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(ros, monkeypatch, lost=0)
    failed: list[Exception] = []

    def ask() -> None:
        try:
            for _ in range(20):
                service_client.call_by_name(server.client, Trigger, "ask", Trigger.Request(), 20.0)
        except ConnectionError as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert not failed
    assert server.asked >= 60
