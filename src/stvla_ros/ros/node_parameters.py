"""The parameters of all nodes of a ROS graph, asked without waiting for any of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.task import Future

from stvla_ros.ros.freshness import STEADY

LIST = "/list_parameters"
TIMEOUT_S = 30.0
AGAIN_S = 1.0
"""An answer is lost when the asked node has not discovered the asking one yet: so long until the request is repeated."""
PERIOD_S = 0.2


class ParameterSurvey:
    """Asks every node for its parameters, and asks again those that do not answer, and those that appear later.

    Args:
        node: Its executor must spin; everything happens in its thread.
        found: Receives node -> parameter -> value of all nodes that have answered so far, whenever those are more.
    """

    def __init__(self, node: Node, found: Callable[[Mapping[str, Mapping[str, Any]]], None]) -> None:
        self._node, self._tell = node, found
        self._clients: dict[tuple[str, str], Client] = {}
        self._pending: dict[str, tuple[float, Client, Future]] = {}  # node -> when, whom and what it was asked last
        self._found: dict[str, dict[str, Any]] = {}
        self._told = 0
        self._until = self._looked = 0.0
        node.create_timer(PERIOD_S, self._look, clock=STEADY)

    def ask(self) -> None:
        """Begin, for :data:`TIMEOUT_S`. A survey that still runs is replaced."""
        for name in list(self._pending):
            self._forget(name)
        self._found, self._told = {}, 0
        self._until, self._looked = time.monotonic() + TIMEOUT_S, 0.0
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._until:
            if now >= self._looked + AGAIN_S:
                self._looked = now
                services = [name for name, _ in self._node.get_service_names_and_types() if name.endswith(LIST)]
                for name in services:
                    self._client(name.removesuffix(LIST), ListParameters)
            for name in {name for name, _ in self._clients} - set(self._found):
                if name not in self._pending or now >= self._pending[name][0] + AGAIN_S:
                    self._forget(name)
                    self._request(name, ListParameters, ListParameters.Request(), self._listed)
        if len(self._found) > self._told:
            self._told = len(self._found)
            self._tell({name.lstrip("/"): values for name, values in sorted(self._found.items())})

    def _client(self, node: str, kind: Any) -> Client:
        """A client is kept, so that the next survey need not wait for discovery."""
        service = "list_parameters" if kind is ListParameters else "get_parameters"
        if (node, service) not in self._clients:
            self._clients[node, service] = self._node.create_client(kind, f"{node}/{service}")
        return self._clients[node, service]

    def _forget(self, name: str) -> None:
        if name in self._pending:
            _, client, future = self._pending.pop(name)
            client.remove_pending_request(future)

    def _request(self, name: str, kind: Any, request: Any, receive: Callable[[str, Any], None]) -> None:
        client = self._client(name, kind)
        if client.service_is_ready():
            future = client.call_async(request)
            self._pending[name] = (time.monotonic(), client, future)
            future.add_done_callback(lambda future: receive(name, future.result()))

    def _listed(self, name: str, answer: ListParameters.Response) -> None:
        names = [n for n in answer.result.names if not n.startswith("qos_overrides.")]
        self._request(name, GetParameters, GetParameters.Request(names=names), partial(self._got, names=names))

    def _got(self, name: str, answer: GetParameters.Response, names: list[str]) -> None:
        self._found[name] = {n: plain(v) for n, v in zip(names, answer.values, strict=False)}
        self._pending.pop(name, None)


def plain(value: Any) -> Any:
    """A parameter's value as JSON has it."""
    found = parameter_value_to_python(value)
    return [v.hex() if isinstance(v, bytes) else v for v in found] if isinstance(found, list) else found
