"""The client's end of a service, for threads that do not spin the node: a request that is repeated until it is answered.

An answer gets lost when the server has not discovered the client yet (:mod:`stvla_ros.ros.action_client` says why), so
the first request of a new client is the one at risk. Of a repeated request, the newest one's answer counts: a server
takes requests in their order, so that none is left to be carried out later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.client import Client
from rclpy.node import Node

AGAIN_S = 1.0
"""How long to wait for an answer before the first repetition; twice as long before each further one."""


def call(client: Client, request: Any, answer_s: float, again_s: float | None = AGAIN_S) -> Any:
    """Returns the Response message; None when none came within ``answer_s``.

    Args:
        client: Of a service that was found. Its node's executor must spin in another thread.
        request: The Request message.
        answer_s: Time limit.
        again_s: As :data:`AGAIN_S`. None: the request is sent once, because it must not be carried out twice.
    """
    end, patience_s = time.monotonic() + answer_s, again_s or answer_s
    while (left_s := end - time.monotonic()) > 0.0:
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _, answered=answered: answered.set())
        if answered.wait(min(patience_s, left_s)):
            return future.result()
        client.remove_pending_request(future)
        patience_s *= 2
    return None


def call_by_name(
    node: Node, kind: Any, name: str, request: Any, timeout_s: float, again_s: float | None = AGAIN_S
) -> Any:
    """As :func:`call`, with a client of its own.

    Raises:
        ConnectionError: There is no server, or no answer in time.
    """
    client = node.create_client(kind, name)
    try:
        if not client.wait_for_service(timeout_s):
            raise ConnectionError(f"No service {name} was found within {timeout_s:g} s")
        if (answer := call(client, request, timeout_s, again_s)) is None:
            raise ConnectionError(f"{name} did not answer within {timeout_s:g} s")
        return answer
    finally:
        drop(node, partial(node.destroy_client, client))


def drop(node: Node, destroy: Callable[[], object]) -> None:
    """Destroy something in the executor's thread, which fails if it goes while that thread prepares its wait."""
    if (executor := node.executor) is not None:
        executor.create_task(destroy)
