"""What people who watch cost: a page alone, in a process of its own, with more and fewer browsers. CPU time, not the wall's.

The page is fed as the stack feeds it while a task runs: an arm that moves, 5 images and clouds per second, and at the
camera's rate the path and the boxes, in which little changes.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from benchmarks.console.browser import Browser
from benchmarks.record.__main__ import busy_s

FEED_S, EVERY = 1 / 15, 3
"""A new path, boxes and arm so often; images and a cloud every so many times."""

POINTS, PATH_POINTS = 8000, 60
WARM_S = 5.0
PICTURE = Path(__file__).parents[2] / "docs" / "images" / "console_waiting.webp"


def serve(pipe: Connection, folder: Path) -> None:
    """The page's process: says its address, and feeds the page until it is told to end."""
    from stvla_ros.console.access import Access, TokenConfig
    from stvla_ros.console.audit import AuditLog
    from stvla_ros.console.page import Page
    from stvla_ros.console.session import Session
    from stvla_ros.console.views import BOXES, CLOUD, GUIDED, JOINTS, PATH, RAW, Boxes, Cloud, PathView, Views
    from stvla_ros.description.kinematics import tcp_pose
    from stvla_ros.description.panda import HOME_Q_RAD
    from stvla_ros.types import RobotState

    access, views = Access("127.0.0.1", TokenConfig()), Views()
    stack: Any = None  # nobody asks it for anything
    page = Page(Session(stack, access, AuditLog(folder / "audit.jsonl")), access, views, "127.0.0.1", 0)
    pipe.send(page.address)
    rng, number = np.random.default_rng(0), 0
    rgb = cv2.resize(cv2.imread(str(PICTURE)), (640, 480))[:, :, ::-1]
    points = rng.normal(size=(POINTS, 3)).astype(np.float32)
    share = np.linspace(0.0, 1.0, PATH_POINTS)
    path = np.stack([0.3 + 0.3 * share, 0.0 * share, 0.2 + 0.1 * np.sin(np.pi * share)], axis=1)
    centres = rng.uniform(size=(6, 3))
    while not pipe.poll(FEED_S):
        number += 1
        q_rad = HOME_Q_RAD + 0.3 * np.sin(0.05 * number)
        views.put(JOINTS, RobotState(q_rad, np.zeros(7), tcp_pose(q_rad), 0.04, 0))
        behind = (number // 15) % PATH_POINTS  # the tool moves along it
        colours = np.full((PATH_POINTS, 3), 200, np.uint8)
        colours[:behind] = 150
        views.put(PATH, PathView(path.copy(), colours, 0.05))
        views.put(BOXES, Boxes(centres.copy(), np.full((6, 3), 0.05), np.arange(6) < 2))
        if number % EVERY == 0:
            picture = np.ascontiguousarray(np.roll(rgb, number, axis=1))
            views.put(RAW, picture)
            views.put(GUIDED, picture[:, ::-1])
            views.put(CLOUD, Cloud(np.roll(points, number, axis=0), picture.reshape(-1, 3)[:POINTS]))
    page.close()


def run(clients: int, seconds: float) -> dict[str, Any]:
    """The page's CPU time with nobody, and with so many browsers, for that long each."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=serve, args=(theirs, Path(folder)), daemon=True)
        process.start()
        netloc, pids = urlsplit(ours.recv()).netloc, [int(process.pid or 0)]
        alone = _busy(pids, seconds)
        browsers = [Browser(netloc) for _ in range(clients)]
        for browser in browsers:
            browser.wait("STOP", 60.0)
        time.sleep(WARM_S)
        seen = [len(browser.pictures) for browser in browsers]
        watched = _busy(pids, seconds)
        pictures = sum(len(browser.pictures) - n for browser, n in zip(browsers, seen, strict=True))
        for browser in browsers:
            browser.close()
        ours.send(None)
        process.join(10.0)
        process.kill()
    return {
        "benchmark": "console page",
        "clients": clients,
        "cpu_s_per_minute_alone": round(60.0 * alone, 2),
        "cpu_s_per_minute_watched": round(60.0 * watched, 2),
        "cpu_s_per_minute_and_client": round(60.0 * (watched - alone) / max(clients, 1), 2),
        "pictures_per_s_and_client": round(pictures / max(clients, 1) / seconds, 2),
        "cpu_ms_per_picture_of_a_client": round(1e3 * (watched - alone) * seconds / max(pictures, 1), 2),
        "load": round(os.getloadavg()[0], 1),
    }


def _busy(pids: list[int], seconds: float) -> float:
    """Cores that processes take."""
    before, begun = busy_s(pids), time.monotonic()
    time.sleep(seconds)
    return (busy_s(pids) - before) / (time.monotonic() - begun)
