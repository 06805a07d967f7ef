"""The page in headless Chromium: what a person does, with a server that is killed in between. Skipped without a browser."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chromium import chromium, needs_chromium
from data.st_human.clips import make_clip

from stvla_ros.annotate.review import Role
from stvla_ros.annotate.store import Store
from stvla_ros.data.st_human.info_json import project
from stvla_ros.data.st_human.process.video import ProcessSettings, process_video

pytestmark = [needs_chromium, pytest.mark.slow]
WAIT_MS = 60_000
GREEN = (0, 255, 102)
"""Colour of the projection of the pose in work."""


class Server:
    """The real command, on one port, which can be killed and started again."""

    def __init__(self, data: Path) -> None:
        self._data, self._port = data, "0"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "stvla_ros.cli", "annotate", "--data", str(self._data), "--port", self._port]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self._process.stdout is not None
        found = next(f for line in self._process.stdout if (f := re.search(r"http://127\.0\.0\.1:(\d+)", line)))
        self.address, self._port = found[0], found[1]

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip as the pipeline leaves it: one action."""
    folder = tmp_path_factory.mktemp("clip")
    told: dict[str, Any] = {"template": "put_on", "objects": [{"name": "red block"}, {"name": "white plate"}]}
    make_clip(folder / "raw" / "clip", told=told)
    process_video(folder / "raw" / "clip", folder / "data" / "clip", ProcessSettings(samples=False))
    return folder / "data"


@pytest.fixture
def data(processed: Path, tmp_path: Path) -> Path:
    shutil.copytree(processed, tmp_path / "data", symlinks=False)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def server(data: Path) -> Iterator[Server]:
    made = Server(data)
    yield made
    made.kill()


def opened(browser: Any, address: str) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(address)
    page.get_by_role("link", name="clip").click()
    page.locator(".cloud canvas").wait_for()
    shown(page, "saved", "r1 by stvla human process")
    page.get_by_test_id("pose").filter(has_text=re.compile(r"\d px")).wait_for()
    page.wait_for_timeout(1000)  # the first picture in 3D
    return page


def shown(page: Any, state: str, text: str) -> None:
    page.locator(f".status.{state}", has_text=text).wait_for()


def pixel(page: Any) -> np.ndarray:
    """Where the text says that the pose is projected to."""
    said = page.get_by_test_id("pose").text_content()
    found = re.search(r"at ([-\d.]+), ([-\d.]+) px", said)
    assert found is not None, said
    return np.array([float(found[1]), float(found[2])])


def drawn(page: Any) -> np.ndarray:
    """Where the mark of the pose is in the image, by its colour."""
    script = "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    canvas = page.get_by_test_id("preview")
    width = int(canvas.get_attribute("width"))
    image = np.array(canvas.evaluate(script), np.uint8).reshape(-1, width, 4)[:, :, :3]
    v, u = np.nonzero((np.abs(image.astype(int) - GREEN) < 40).all(axis=2))
    assert len(u) > 20
    return np.array([(u.min() + u.max()) / 2, (v.min() + v.max()) / 2])


def version(store: Store) -> int:
    return int(store.opened(1)["version"])


def test_segment_drag_save_kill_reload(browser: Any, server: Server, data: Path) -> None:
    page, store = opened(browser, server.address), Store(data)
    before = store.opened(1)
    (first,) = before["document"]["actions"]

    # segments by keys: the last action ends one frame earlier
    for _ in range(first["end_frame"] - first["contact_frame"] - 1):
        page.keyboard.press("d")
    assert page.get_by_test_id("frame").text_content() == f"frame {first['end_frame'] - 1} / {before['frames'] - 1}"
    page.keyboard.press("f")
    shown(page, "saved", "saved r2")
    assert store.opened(1)["document"]["actions"][0]["end_frame"] == first["end_frame"] - 1

    # the gizmo's x axis is dragged: the projection moves with it, before it is let go
    page.keyboard.press("q")  # to the contact of the first action
    page.wait_for_timeout(1500)
    frame = first["contact_frame"]
    start = pixel(page)
    assert drawn(page) == pytest.approx(start, abs=2)
    box = page.locator(".cloud canvas").bounding_box()
    scale = box["height"] / before["size_px"][1]  # the first view is the camera's
    x = box["x"] + box["width"] / 2 + (start[0] - before["K"][2]) * scale
    y = box["y"] + box["height"] / 2 + (start[1] - before["K"][3]) * scale
    page.mouse.move(x + 30, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=6)
    page.wait_for_timeout(500)
    moving = pixel(page)
    assert moving[0] - start[0] > 8
    assert abs(moving[1] - start[1]) < 0.5
    assert drawn(page) == pytest.approx(moving, abs=2)
    assert version(store) == 2
    page.mouse.up()
    shown(page, "saved", "saved r3")
    (action,) = store.opened(1)["document"]["actions"]
    point = next(one for one in action["trajectory"] if one["frame"] == frame)
    assert point["source"] == "manual"
    assert project(store.entry(1).info.camera, [point["xyz_m"]])[0] == pytest.approx(moving, abs=0.06)

    # the server is killed: the change stays in the browser, through a crash of the page too
    server.kill()
    page.keyboard.press("g")
    shown(page, "failed", "kept in this browser")
    context = page.context
    kept = page.evaluate("localStorage.getItem('stvla-annotate:1')")
    assert '"gripper":' in kept
    page.close(run_before_unload=False)
    server.start()
    assert version(store) == 3
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{server.address}/#/video/1")
    shown(page, "saved", "saved r4")
    (action,) = store.opened(1)["document"]["actions"]
    assert next(one for one in action["trajectory"] if one["frame"] == frame)["gripper"] == 1 - point["gripper"]
    assert page.evaluate("localStorage.getItem('stvla-annotate:1')") is None

    # undo is of this page's changes only; the history is the server's
    page.keyboard.press("g")
    shown(page, "saved", "saved r5")
    page.keyboard.press("Control+z")
    shown(page, "saved", "saved r6")
    assert store.opened(1)["document"] == store.document(1, 4)
    page.close()


def test_two_people_lose_no_change(browser: Any, server: Server, data: Path) -> None:
    one, other, store = opened(browser, server.address), opened(browser, server.address), Store(data)
    contact = store.opened(1)["document"]["actions"][0]["contact_frame"]
    one.keyboard.press("a")
    one.keyboard.press("c")
    shown(one, "saved", "saved r2")
    goal = other.locator("label", has_text="goal").locator("input")
    goal.fill("Clear the table.")
    shown(other, "saved", "saved r3")
    document = store.opened(1)["document"]
    assert (document["instruction"], document["actions"][0]["contact_frame"]) == ("Clear the table.", contact - 1)
    one.locator("label", has_text="goal").locator("input").fill("Mine.")
    one.locator(".conflict", has_text="you and you have changed: instruction").wait_for()
    one.get_by_role("button", name="keep mine").click()
    shown(one, "saved", "saved r4")
    assert store.opened(1)["document"]["instruction"] == "Mine."
    assert store.document(1, 3)["instruction"] == "Clear the table."


def test_audit_reject_correct_accept_export(browser: Any, data: Path) -> None:
    store = Store(data)
    tokens = {name: store.add_person(name, role) for name, role in (("Ann", Role.ANNOTATOR), ("Cem", Role.ADMIN))}
    server = Server(data)
    try:
        pages: dict[str, Any] = {}
        for name, token in tokens.items():
            pages[name] = page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.set_default_timeout(WAIT_MS)
            page.goto(server.address)
            page.get_by_placeholder("your token").fill("wrong")
            page.get_by_role("button", name="Enter").click()
            page.get_by_text("This is nobody's token").wait_for()
            page.get_by_placeholder("your token").fill(token)
            page.get_by_role("button", name="Enter").click()
            page.get_by_role("link", name="clip").click()
            page.locator(".cloud canvas").wait_for()
        ann, cem = pages["Ann"], pages["Cem"]
        ann.keyboard.press("g")
        shown(ann, "saved", "saved r2")
        ann.get_by_role("button", name="submit").click()
        ann.locator(".state.annotated").wait_for()
        cem.reload()
        cem.once("dialog", lambda dialog: dialog.accept("the gripper is open too early"))
        cem.get_by_role("button", name="return").click()
        cem.locator(".state.open").wait_for()
        ann.reload()
        ann.get_by_text("the gripper is open too early").wait_for()
        ann.locator(".cloud canvas").wait_for()
        ann.keyboard.press("g")
        shown(ann, "saved", "saved r5")
        ann.get_by_role("button", name="submit").click()
        ann.locator(".state.annotated").wait_for()
        cem.reload()
        cem.locator(".cloud canvas").wait_for()
        cem.get_by_text("It is within the tolerances.").wait_for()
        cem.keyboard.press("Shift+ArrowRight")  # where the auditor sees the contact
        cem.get_by_text("contact or release is 10.0 mm off, 5 mm are allowed").wait_for()
        assert cem.get_by_role("button", name="pass").is_disabled()
        cem.keyboard.press("Control+z")
        cem.keyboard.press("ArrowRight")
        cem.get_by_test_id("audit-a1").filter(has_text="1.0").wait_for()
        cem.get_by_role("button", name="pass").click()
        cem.locator(".state.audited").wait_for()
        passed = store.revisions(1)[0]["distances"]["actions"][0]
        assert (passed["contact_mm"], passed["path_max_mm"]) == ([1.0, 0.0], 1.0)
        assert store.document(1, version(store)) == store.document(1, 5)  # the annotation is Ann's
        cem.goto(f"{server.address}/#/batches")
        cem.get_by_text("Look at 1 of 1 actions").wait_for()
        cem.get_by_role("button", name="Draw the sample").click()
        cem.get_by_role("button", name="good", exact=True).click()
        cem.locator(".state.accepted").wait_for()
        with cem.expect_download() as download:
            cem.get_by_role("link", name="Export what is accepted").click()
        packed = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
        assert packed.namelist() == ["clip/info.json", "manifest.json"]
        assert ann.request.get(f"{server.address}/api/export").status == 403
    finally:
        server.kill()


def test_the_cloud_is_the_image_seen_from_the_camera(browser: Any, server: Server, data: Path) -> None:
    """Pixels: in the first view, the cloud has the colours of the photo where nothing is drawn over them."""
    page = opened(browser, server.address)
    picture = cv2.imdecode(np.frombuffer(page.locator(".cloud canvas").screenshot(), np.uint8), cv2.IMREAD_COLOR)
    frame = Store(data).opened(1)["document"]["actions"][0]["contact_frame"]
    photo = cv2.imread(str(data / "clip" / "rgb" / f"{frame:06d}.png"))
    assert picture is not None
    assert photo is not None
    height, width = photo.shape[:2]
    scale = picture.shape[0] / height
    left = (picture.shape[1] - width * scale) / 2
    rows, columns = np.mgrid[20 : height - 20 : 7, 20 : width - 20 : 7]
    there = picture[
        np.clip((rows + 0.5) * scale, 0, picture.shape[0] - 1).astype(int),
        np.clip(left + (columns + 0.5) * scale, 0, picture.shape[1] - 1).astype(int),
    ]
    off = np.abs(there.astype(int) - photo[rows, columns]).max(axis=2)
    assert np.median(off) < 25
