"""Services of a running stack, for programs outside the graph: the simulated scene."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.client import Client
from stvla_msgs.srv import ResetScene, ScoreTask

from stvla_ros.config import ConfigError
from stvla_ros.ros.client import client_node

TIMEOUT_S = 30.0


def reset_scene(task: str, seed: int) -> str:
    """Lay the simulated scene anew; the instruction that belongs to it.

    Raises:
        ConfigError: The simulator refuses.
        ConnectionError: There is no simulator.
    """
    answer = _ask(ResetScene, "/sim/reset_scene", ResetScene.Request(task=task, seed=seed, distractors=-1))
    if not answer.ok:
        raise ConfigError(answer.message)
    return str(answer.instruction)


@contextmanager
def judge() -> Iterator[Callable[[float], tuple[bool, str]]]:
    """Looks for a simulator from now on; what is given then asks for its verdict, and what it measured.

    Whoever judges at the end of a goal should begin before it: processes find each other by announcements that may be lost, and the
    next one comes after 3 s (Fast DDS). The argument says how much longer to look [s]; ConnectionError without a simulator.
    """
    with client_node("judge") as node:
        client = node.create_client(ScoreTask, "/sim/score_task")

        def verdict(connect_s: float) -> tuple[bool, str]:
            answer = _call(client, ScoreTask.Request(), connect_s)
            return bool(answer.success), str(answer.detail)

        yield verdict


def _ask(kind: Any, name: str, request: Any, connect_s: float = TIMEOUT_S) -> Any:
    with client_node("service_client") as node:
        return _call(node.create_client(kind, name), request, connect_s)


def _call(client: Client, request: Any, connect_s: float) -> Any:
    if not client.wait_for_service(connect_s):
        raise ConnectionError(f"Nobody serves {client.srv_name}: its node is not running.")
    done = threading.Event()
    future = client.call_async(request)
    future.add_done_callback(lambda _: done.set())
    if not done.wait(TIMEOUT_S):
        raise ConnectionError(f"{client.srv_name} did not answer within {TIMEOUT_S:.0f} s.")
    return future.result()
