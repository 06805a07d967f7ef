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

from stvla_ros.ros.freshness import STEADY

LIST = "/list_parameters"
TIMEOUT_S = 5.0
PERIOD_S = 0.2


class ParameterSurvey:
    """Asks every node for its parameters, once per :meth:`ask`.

    Args:
        node: Its executor must spin; everything happens in its thread.
        done: Receives node -> parameter -> value, once all have answered or after :data:`TIMEOUT_S`. A node that did
            not answer is missing.
    """

    def __init__(self, node: Node, done: Callable[[Mapping[str, Mapping[str, Any]]], None]) -> None:
        self._node, self._done = node, done
        self._clients: dict[tuple[str, str], Client] = {}
        self._waiting: dict[str, Client] = {}  # nodes that are not asked yet: they must be discovered first
        self._asked: set[str] = set()
        self._found: dict[str, dict[str, Any]] = {}
        self._until = 0.0
        node.create_timer(PERIOD_S, self._look, clock=STEADY)

    def ask(self) -> None:
        """Begin. A survey that still runs is replaced."""
        self._found, self._until = {}, time.monotonic() + TIMEOUT_S
        services = [name for name, _ in self._node.get_service_names_and_types() if name.endswith(LIST)]
        self._asked = {name.removesuffix(LIST) for name in services}
        self._waiting = {name: self._client(name, "list_parameters", ListParameters) for name in self._asked}
        for name in self._asked:
            self._client(name, "get_parameters", GetParameters)
        self._look()

    def _client(self, node: str, service: str, kind: Any) -> Client:
        """A client is kept, so that the next survey need not wait for discovery."""
        key = node, service
        if key not in self._clients:
            self._clients[key] = self._node.create_client(kind, f"{node}/{service}")
        return self._clients[key]

    def _look(self) -> None:
        for name, client in list(self._waiting.items()):
            if client.service_is_ready() and self._clients[name, "get_parameters"].service_is_ready():
                del self._waiting[name]
                client.call_async(ListParameters.Request()).add_done_callback(partial(self._listed, name))
        if self._asked and (self._asked == set(self._found) or time.monotonic() > self._until):
            self._asked, self._waiting = set(), {}
            self._done({name.lstrip("/"): values for name, values in sorted(self._found.items())})

    def _listed(self, name: str, future: Any) -> None:
        names = [n for n in future.result().result.names if not n.startswith("qos_overrides.")]
        answer = self._clients[name, "get_parameters"].call_async(GetParameters.Request(names=names))
        answer.add_done_callback(partial(self._got, name, names))

    def _got(self, name: str, names: list[str], future: Any) -> None:
        values = future.result().values
        self._found[name] = {n: plain(v) for n, v in zip(names, values, strict=False)}


def plain(value: Any) -> Any:
    """A parameter's value as JSON has it."""
    found = parameter_value_to_python(value)
    return [v.hex() if isinstance(v, bytes) else v for v in found] if isinstance(found, list) else found
