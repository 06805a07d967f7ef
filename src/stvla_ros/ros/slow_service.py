"""A service whose answer takes time: it works in a thread of its own, so that its node goes on hearing everything else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

from rclpy._rclpy_pybind11 import InvalidHandle, RCLError
from rclpy.node import Node


def serve_slowly(node: Node, kind: Any, name: str, answer: Callable[[Any, Any], None]) -> None:
    """Offer a service.

    Args:
        node: Its executor must spin.
        kind: The service.
        name: Its name.
        answer: Gets the Request and the Response message, and fills in the latter. Several may run at once.
    """
    service: Any = node.create_service(kind, name, lambda request, response: (request, response))  # type: ignore
    send = service.send_response

    def work(request: Any, response: Any, header: Any) -> None:
        answer(request, response)
        with suppress(InvalidHandle, RCLError):  # the node has ended meanwhile
            send(response, header)

    def send_later(asked: tuple[Any, Any], header: Any) -> None:
        Thread(target=work, args=(*asked, header), name=name, daemon=True).start()

    service.send_response = send_later
