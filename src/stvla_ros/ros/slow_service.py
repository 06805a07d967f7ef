"""Services that take longer than a message: each request runs in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from threading import Lock, Thread
from typing import Any

from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.node import Node


def serve_slowly(
    node: Node, kind: Any, name: str, answer: Callable[[Any, Any], Any], one_at_a_time: Lock | None = None
) -> None:
    """Offer a slow service. The node's executor goes on meanwhile, so that cancels and the heartbeat are not delayed.

    Args:
        node: Owner of the service.
        kind: The service's type.
        name: Its name.
        answer: Gets request and response, and fills the response.
        one_at_a_time: Requests of all services with this lock wait for each other; None: they run at once.
    """
    service: Any = node.create_service(kind, name, lambda request, response: (request, response))  # type: ignore
    send = service.send_response

    def work(request: Any, response: Any, header: Any) -> None:
        with one_at_a_time or nullcontext():
            answer(request, response)
        with suppress(InvalidHandle, RCLError):  # the node has ended meanwhile
            send(response, header)

    def send_later(asked: tuple[Any, Any], header: Any) -> None:
        Thread(target=work, args=(*asked, header), name=name, daemon=True).start()

    service.send_response = send_later
