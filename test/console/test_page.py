"""The page itself, over its websocket: what reaches the session, and what does not."""

from __future__ import annotations

import base64
import http.client
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET, create_connection
from socket import socket as tcp_socket
from typing import Any
from urllib.parse import urlsplit

import cv2
import msgspec
import numpy as np
import pytest
import stalls
import viser
from console.test_films import make_film, shows
from console.test_session import OPERATE, POINTS, Console, proposal
from drawn_plans import PICK_TO_PLATE, make_plan, plan_through
from ray_caster import Scene, block, front_camera, plate
from viser import _messages
from viser.transforms import SO3
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from benchmarks.console.browser import dial, messages
from stvla_ros.config import ConfigError
from stvla_ros.console import page as pages
from stvla_ros.console.camera_view import vertical_fov
from stvla_ros.console.edit import Drawn
from stvla_ros.console.page import Page, history, motion, reply, status
from stvla_ros.console.runs import FILM
from stvla_ros.console.scene import at_fraction, hand_poses
from stvla_ros.console.session import Shown
from stvla_ros.console.views import (
    BOXES,
    CLOUD,
    DRAWN,
    FRAME,
    JOINTS,
    LATENCIES,
    OBSTACLES,
    PATH,
    PLAN,
    RAW,
    Boxes,
    Cells,
    Cloud,
    PathView,
    Views,
)
from stvla_ros.description.kinematics import link_poses, tcp_pose
from stvla_ros.description.panda import HAND_LINK, HOME_Q_RAD, TCP_OFFSET_M
from stvla_ros.geometry.cameras import back_project, project
from stvla_ros.motion.approval import Status
from stvla_ros.types import JointPath, RobotState

CAMERA = _messages.ViewerCameraMessage(
    (1.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0, 0.01, 100.0, 600, 800, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)
)


class Served(Console):
    """A session behind a page, on a free port."""

    def __init__(self, folder: Path, tokens: bool = False) -> None:
        super().__init__(folder, tokens)
        self.views = Views()
        self.page = Page(self.session, self.session._access, self.views, "127.0.0.1", 0)

    @property
    def netloc(self) -> str:
        return urlsplit(self.page.address).netloc

    @contextmanager
    def browser(self, origin: str | None = "own") -> Iterator[ClientConnection]:
        """A connection as viser's page makes it."""
        site: Any = f"http://{self.netloc}" if origin == "own" else origin
        protocol: Any = f"viser-v{viser.__version__}"
        address = urlsplit(self.page.address)
        own = create_connection((address.hostname, address.port))
        self._port = own.getsockname()[1]
        with connect(f"ws://{self.netloc}", sock=own, subprotocols=[protocol], origin=site, max_size=None) as socket:
            send(socket, CAMERA)
            yield socket

    def newest(self) -> Any:
        """What the page keeps of the newest browser, None before it does. One that is gone may still be kept as well."""
        connections = dict(self.page._server._websock_server._live_connections)
        ports = {number: connection.remote_address[1] for number, connection in connections.items()}
        return next((b for number, b in self.page._browsers.copy().items() if ports.get(number) == self._port), None)

    def ready(self) -> bool:
        """Whether the newest browser has its widgets."""
        return (browser := self.newest()) is not None and browser._ready

    def widget(self, label: str) -> Any:
        """A widget of the newest browser."""
        handles = self.newest()._client.gui._gui_input_handle_from_uuid.values()
        return wait(lambda: next((h for h in handles if getattr(h, "label", "") == label), None))


def send(socket: ClientConnection, message: Any) -> None:
    socket.send(msgspec.msgpack.encode(message.as_serializable_dict([])))


def click(socket: ClientConnection, button: Any) -> None:
    send(socket, _messages.GuiUpdateMessage(button._impl.uuid, {"value": True}))


def write(socket: ClientConnection, widget: Any, value: Any) -> None:
    send(socket, _messages.GuiUpdateMessage(widget._impl.uuid, {"value": value}))


def wait(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    until = stalls.clock() + timeout_s
    while not (found := condition()):
        assert stalls.clock() < until
        time.sleep(0.01)
    return found


def received(socket: ClientConnection) -> bytes:
    window = socket.recv(timeout=20.0)
    assert isinstance(window, bytes)
    return window


def shown_picture(browser: Any) -> np.ndarray:
    """(H, W, 3) what is in the HTML of the pictures; black before there are any."""
    found = re.search(r"data:image/jpeg;base64,([^\"]+)", browser._pictures.content)
    jpeg = np.frombuffer(base64.b64decode(found[1]), np.uint8) if found else np.zeros(0, np.uint8)
    return cv2.imdecode(jpeg, cv2.IMREAD_COLOR) if len(jpeg) else np.zeros((1, 200, 3), np.uint8)


def closed(socket: ClientConnection) -> None:
    """Wait until the server closes the connection."""
    with suppress(ConnectionClosed):
        while True:
            socket.recv(timeout=20.0)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    console = Served(tmp_path)
    yield console
    console.page.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Served]:
    console = Served(tmp_path, tokens=True)
    yield console
    console.page.close()


def test_a_goal_an_approval_and_a_stop_by_clicks(served: Served) -> None:
    with served.browser() as socket:
        wait(served.ready)
        write(socket, served.widget("Goal"), "Put the red block in the plate.")
        click(socket, served.widget("Give the goal"))
        wait(lambda: served.stack.goals)
        served.session.hear_proposal(proposal("a-1"))
        browser = served.newest()
        wait(lambda: browser._asked == "a-1")
        click(socket, served.widget("Approve"))
        wait(lambda: served.stack.answers)
        assert served.stack.answers[0][:2] == ("a-1", True)
        click(socket, served.widget("STOP"))
        wait(lambda: served.stack.stops)
    wait(lambda: served.session.shown().operator == "")  # a closed page operates no more
    served.session.close(5.0)


def test_a_dragged_waypoint_is_part_of_the_path_that_is_used(served: Served) -> None:
    plan = make_plan(np.full((8, 2), 500.0), np.zeros(8))  # "p1"
    served.views.put(DRAWN, Drawn(plan, POINTS))
    with served.browser() as socket:
        wait(served.ready)
        browser = served.newest()
        write(socket, served.widget("Edit the path"), True)
        served.session.hear_proposal(replace(proposal("a-0"), plan_id="another"))
        wait(lambda: browser._edit.value and browser._asked == "a-0")
        time.sleep(3 * pages.TICK_S)
        assert not browser._scene.edited().size, "the motion that waits is another path's"
        click(socket, served.widget("Use this path"))
        served.session.hear_proposal(replace(proposal("a-1"), plan_id="p1"))
        wait(lambda: browser._scene.edited().size and browser._asked == "a-1")
        np.testing.assert_allclose(browser._scene.edited(), POINTS)
        drag = _messages.TransformControlsUpdateMessage(
            "/edit/8", (1.0, 0.0, 0.0, 0.0), (0.5, 0.25, 0.35), browser._client.scene._owner_id
        )
        send(socket, drag)
        wait(lambda: np.allclose(browser._scene.edited()[-1], (0.5, 0.25, 0.35)))
        click(socket, served.widget("Use this path"))
        wait(lambda: served.stack.answers)
        ((plan_id, points, _),) = served.stack.paths
        assert plan_id == "p1"
        np.testing.assert_allclose(points, [*POINTS[:-1], (0.5, 0.25, 0.35)])
        click(socket, served.widget("Undo all edits"))
        wait(lambda: np.allclose(browser._scene.edited(), POINTS))
        served.session.hear_proposal(replace(proposal("a-1", Status.REFUSED), plan_id="p1"))
        wait(lambda: not browser._scene.edited().size)
    assert served.page.trouble == ""


def test_a_click_on_the_cameras_picture_moves_a_waypoint_of_the_path_that_is_used(served: Served) -> None:
    frame = Scene([block("red", 0.5, 0.1), *plate(0.45, -0.22)]).render(front_camera())[0]
    camera, plan = frame.camera, plan_through(PICK_TO_PLATE, frame)
    eye = camera.T_base_camera[:3, 3]
    target = project(camera, np.array([0.42, -0.24, 0.008]))[0]

    def ray(px: Any, origin: Any = eye) -> Any:
        direction = back_project(camera, px, np.array(1.0)) - eye
        return _messages.ScenePointerMessage("click", tuple(origin), tuple(direction), ((0.5, 0.5),), None)

    served.views.put(DRAWN, Drawn(plan, PICK_TO_PLATE))
    served.session.hear_proposal(replace(proposal("a-1"), plan_id="p1"))
    with served.browser() as socket:
        wait(served.ready)
        browser = served.newest()
        view, scene = browser._client.camera, browser._scene
        before = view.position.copy()
        write(socket, served.widget("Edit the path"), True)
        wait(lambda: scene.edited().size)
        write(socket, served.widget("Look through the camera"), True)
        time.sleep(3 * pages.TICK_S)
        np.testing.assert_array_equal(view.position, before)  # there is no picture yet
        served.views.put(FRAME, frame)
        find = partial(browser._client.scene.get_handle_by_name, "/picture")
        fov = vertical_fov(camera, 800 / 600)
        wait(lambda: find() is not None and np.isclose(view.fov, fov))  # which is set last
        np.testing.assert_allclose(view.position, eye)
        np.testing.assert_allclose(SO3(view.wxyz).as_matrix(), camera.T_base_camera[:3, :3], atol=1e-6)
        picture = find()
        corner = np.array([-picture.render_width / 2, -picture.render_height / 2, 0.0])
        seen = picture.position + SO3(picture.wxyz).as_matrix() @ corner
        np.testing.assert_allclose(project(camera, seen)[0], (-0.5, -0.5), atol=1e-3)

        view.position = eye + 0.05  # a hand on the mouse
        send(socket, ray(target, eye + 0.05))
        wait(lambda: np.allclose(view.position, eye))
        send(socket, ray((np.nan, 3.0)))
        send(socket, ray((900.0, 3.0)))
        time.sleep(3 * pages.TICK_S)
        np.testing.assert_array_equal(scene.edited(), PICK_TO_PLATE)
        send(socket, ray(target))
        wait(lambda: not np.array_equal(scene.edited(), PICK_TO_PLATE))
        np.testing.assert_array_equal(scene.edited()[:-1], PICK_TO_PLATE[:-1])
        assert np.abs(project(camera, scene.edited()[-1])[0] - target).max() < 1.0
        write(socket, served.widget("Waypoint that a click moves"), 6)
        other = project(camera, np.array([0.42, -0.1, 0.0]))[0]
        send(socket, ray(other))
        wait(lambda: np.abs(project(camera, scene.edited()[5])[0] - other).max() < 1.0)
        click(socket, served.widget("Use this path"))
        wait(lambda: served.stack.paths)
        np.testing.assert_allclose(served.stack.paths[0][1], scene.edited())

        write(socket, served.widget("Look through the camera"), False)
        wait(lambda: find() is None and np.allclose(view.position, before))
        moved = scene.edited()
        send(socket, ray(other))
        time.sleep(3 * pages.TICK_S)
        np.testing.assert_array_equal(scene.edited(), moved)
    assert served.page.trouble == ""


def test_the_cameras_view_follows_the_camera_and_says_that_its_picture_is_old(served: Served) -> None:
    scene = Scene([block("red", 0.5, 0.1)])
    frame = scene.render(front_camera(1280, 960))[0]
    served.views.put(FRAME, frame, age_s=9.0)
    with served.browser() as socket:
        wait(served.ready)
        browser = served.newest()
        find = browser._client.scene.get_handle_by_name
        write(socket, served.widget("Look through the camera"), True)
        wait(lambda: find("/picture") is not None and 'data-left="0.000"' in browser._alive.content)
        wait(lambda: shown_by(find("/picture")).shape == (720, 960, 3))
        picture, T = find("/picture"), frame.camera.T_base_camera.copy()
        served.views.put(FRAME, replace(frame, rgb=frame.rgb // 2))
        wait(lambda: 'data-left="0.000"' not in browser._alive.content)
        assert find("/picture") is picture
        wait(lambda: shown_by(picture).max() <= 140)
        T[:3, 3] += (0.1, 0.0, 0.0)
        served.views.put(FRAME, replace(frame, camera=replace(frame.camera, T_base_camera=T)))
        wait(lambda: np.allclose(browser._client.camera.position, T[:3, 3]))
        assert find("/picture") is not picture
    assert served.page.trouble == ""


def shown_by(image: Any) -> np.ndarray:
    """(H, W, 3) what a picture in the 3D view shows."""
    return cv2.imdecode(np.frombuffer(image._data, np.uint8), cv2.IMREAD_COLOR)


def test_the_cameras_view_is_encoded_once_for_all(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Scene([block("red", 0.5, 0.1)]).render(front_camera())[0]
    with ExitStack() as stack:
        people = []
        for _ in range(4):
            socket = stack.enter_context(served.browser())
            wait(served.ready)
            people.append(served.newest())
            write(socket, served.widget("Look through the camera"), True)
        served.views.put(FRAME, frame)
        pictures = [wait(lambda p=p: p._client.scene.get_handle_by_name("/picture")) for p in people]
        encoded: list[int] = []
        encode = cv2.imencode
        monkeypatch.setattr(cv2, "imencode", lambda *args: (encoded.append(1), encode(*args))[1])
        for darker in (2, 3, 4):
            dark, encoded[:] = replace(frame, rgb=frame.rgb // darker), []
            served.views.put(FRAME, dark)
            mean = dark.rgb.mean()
            wait(lambda mean=mean: all(abs(shown_by(picture).mean() - mean) < 3.0 for picture in pictures))
            assert len({picture._data for picture in pictures}) == 1
            assert len(encoded) == 1
    assert served.page.trouble == ""


def test_a_click_answers_the_motion_that_was_shown_and_no_newer_one(served: Served) -> None:
    served.session.hear_proposal(proposal("a-1"))
    with served.browser() as socket:
        wait(served.ready)
        browser = served.newest()
        wait(lambda: browser._asked == "a-1")
        browser.refresh = lambda *_: None  # type: ignore[method-assign]  # its link stalls
        time.sleep(0.3)
        served.session.hear_proposal(proposal("a-2"))
        click(socket, served.widget("Approve"))
        wait(lambda: any(line["outcome"] == "not_waiting" for line in served.lines()))
        assert served.stack.answers == []


def test_a_click_on_a_motion_that_is_gone_answers_no_other(served: Served) -> None:
    """Over a link of a second: the click was made while a-1 was on the screen, and comes when a-2 is."""
    served.session.hear_proposal(proposal("a-1"))
    with served.browser() as socket:
        wait(served.ready)
        browser = served.newest()
        wait(lambda: browser._asked == "a-1")
        gone = [served.widget(label) for label in ("Approve", "Refuse", "Use this path")]
        served.session.hear_proposal(proposal("a-2"))
        wait(lambda: browser._asked == "a-2")
        click(socket, gone[0])
        wait(lambda: pages.GONE.sentence in str(messages(received(socket))))
        for button in gone[1:]:
            click(socket, button)
        click(socket, served.widget("STOP"))
        wait(lambda: served.stack.stops)
        time.sleep(3 * pages.TICK_S)
        assert served.stack.answers == []
        click(socket, served.widget("Approve"))
        wait(lambda: served.stack.answers)
    assert [answer[:2] for answer in served.stack.answers] == [("a-2", True)]


def test_a_reloaded_page_shows_the_motion_that_waits(served: Served) -> None:
    served.session.hear_proposal(proposal("a-1"))
    with served.browser():
        wait(served.ready)
    wait(lambda: not served.page._browsers)
    with served.browser() as socket:
        wait(served.ready)
        wait(lambda: served.newest()._asked == "a-1")
        assert served.stack.answers == []
        click(socket, served.widget("Approve"))
        wait(lambda: served.stack.answers)
    assert served.stack.answers[0][:2] == ("a-1", True)


def test_a_stop_does_not_wait_for_other_clicks(served: Served) -> None:
    """More clicks hang than viser has threads."""
    served.session.hear_proposal(proposal("a-1"))
    served.stack.hold.clear()
    with served.browser() as socket:
        wait(served.ready)
        wait(lambda: served.newest()._asked == "a-1")
        for _ in range(40):
            served.page._server._thread_executor.submit(served.stack.hold.wait, 20.0)
        begun = time.monotonic()
        click(socket, served.widget("STOP"))
        wait(lambda: served.stack.stops, 5.0)
        assert time.monotonic() - begun < 5.0
        served.stack.hold.set()


def test_who_reads_slowly_gets_what_is_new_and_not_all_that_was_meanwhile(served: Served) -> None:
    """Otherwise a slow link shows what was tens of seconds ago, and in it an arm that is not stopped."""
    rng = np.random.default_rng(0)
    ending = threading.Event()

    def feed() -> None:
        while not ending.wait(0.1):
            served.views.put(RAW, rng.integers(0, 255, (288, 384, 3), np.uint8))
            served.views.put(CLOUD, Cloud(rng.normal(size=(8000, 3)).astype(np.float32), np.zeros((8000, 3), np.uint8)))

    threading.Thread(target=feed, daemon=True).start()
    narrow = tcp_socket()
    narrow.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 16)
    host, _, port = served.netloc.rpartition(":")
    narrow.connect((host, int(port)))
    with dial(served.netloc, sock=narrow, max_queue=1, ping_interval=None) as connection:
        send(connection, CAMERA)
        seen = ""
        while "joints" not in seen or "camera" not in seen:
            seen = str([m for m in messages(received(connection)) if m["type"] == "GuiUpdateMessage"])
        time.sleep(6.0)
        served.session.hear_stopped(True, "since now.")
        size = 0
        while "STOPPED" not in seen:
            size += len(window := received(connection))
            seen = str([m for m in messages(window) if m["type"] == "GuiUpdateMessage"])
        ending.set()
    assert size < 1_500_000


def test_what_is_not_signed_in_gets_nothing(guarded: Served) -> None:
    with guarded.browser() as socket:
        browser = wait(guarded.newest)
        assert not browser._ready
        write(socket, guarded.widget("Name"), "Ada")
        write(socket, guarded.widget("Token"), "wrong-wrong-wrong")
        click(socket, guarded.widget("Sign in"))
        wait(lambda: "wrong_token" in guarded.audit.path.read_text())
        assert guarded.widget("Token").value == ""
        assert not browser._ready
        write(socket, guarded.widget("Token"), OPERATE)
        click(socket, guarded.widget("Sign in"))
        wait(lambda: browser._ready)
        assert guarded.session.shown().people == ("Ada (operate)",)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
def test_another_site_is_refused(origin: str, served: Served) -> None:
    for _ in range(5):
        with suppress(ConnectionClosed), served.browser(origin) as socket:
            closed(socket)
    assert served.page._browsers == {}
    assert served.session.shown().people == ()
    assert "join" not in served.audit.path.read_text(), "what was sent before the refusal arrived is not heard either"


def test_the_server_survives_messages_that_are_none(served: Served) -> None:
    rng = np.random.default_rng(0)
    for message in (b"", b"\xc1", msgspec.msgpack.encode({"type": "NoSuchMessage"}), rng.bytes(100_000), "text"):
        with served.browser() as socket:
            socket.send(message)
            closed(socket)
    with served.browser() as socket, suppress(ConnectionClosed):
        socket.send(bytes(60_000_000))  # more than the server takes
        closed(socket)
    assert (served.stack.goals, served.stack.answers) == ([], [])
    with served.browser() as socket:
        wait(served.ready)
        click(socket, served.widget("STOP"))
        wait(lambda: served.stack.stops)


@pytest.mark.parametrize("path", ["/../../../../etc/passwd", "/%2e%2e/%2e%2e/setup.py", "/..%5c..%5cx", "//etc/passwd"])
def test_no_file_but_the_pages_own(path: str, served: Served) -> None:
    connection = http.client.HTTPConnection(served.netloc, timeout=20.0)
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()


def test_pictures_and_arm_are_drawn(served: Served) -> None:
    state = RobotState(np.array(HOME_Q_RAD), np.zeros(7), tcp_pose(HOME_Q_RAD), 0.08, 1)
    points = np.linspace((0.4, 0.0, 0.1), (0.6, 0.2, 0.3), 5)
    served.views.put(JOINTS, state)
    served.views.put(RAW, np.full((480, 640, 3), 90, np.uint8))
    served.views.put(PATH, PathView(points, np.full((5, 3), 200, np.uint8), 0.05))
    time.sleep(5 * pages.TICK_S)  # before anybody looks
    with served.browser():
        wait(served.ready)
        browser = served.newest()
        wait(lambda: shown_picture(browser)[:, :100].min() >= 88)
        wait(lambda: browser._client.scene.get_handle_by_name("/path") is not None)
        for q_rad, gripper_m in ((HOME_Q_RAD, 0.08), (HOME_Q_RAD + np.linspace(-0.4, 0.5, 7), 0.03)):
            state = RobotState(q_rad, np.zeros(7), tcp_pose(q_rad), gripper_m, 1)
            served.views.put(JOINTS, state)
            poses = link_poses(q_rad, gripper_m)
            wait(lambda poses=poses: all(np.allclose(drawn_link(browser, n), poses[n], atol=1e-6) for n in poses))
    assert served.page.trouble == ""


def drawn_link(browser: Any, link: str) -> np.ndarray:
    """(4, 4) ``T_base_link`` as the 3D view has it: each frame of its name is in the one before."""
    T, name = np.eye(4), ""
    for part in browser._scene._robot[link].name.strip("/").split("/"):
        name += f"/{part}"
        handle = browser._client.scene.get_handle_by_name(name)
        step = np.eye(4)
        step[:3, :3], step[:3, 3] = SO3(handle.wxyz).as_matrix(), handle.position
        T = T @ step
    return T


def test_what_the_stack_says_again_is_not_sent_again(served: Served) -> None:
    """While a plan is in use its path and boxes come at the camera's rate; little of them changes."""
    points = np.linspace((0.4, 0.0, 0.1), (0.6, 0.2, 0.3), 5)

    def feed(red: int, x: float) -> None:
        served.views.put(PATH, PathView(points.copy(), np.full((5, 3), red, np.uint8), 0.05))
        served.views.put(BOXES, Boxes(np.full((2, 3), x), np.full((2, 3), 0.1), np.array([True, False])))

    def sent() -> dict[str, int]:
        found = Counter(type(message).__name__ for message in queued)
        return {kind: found[kind] for kind in ("BoxMessage", "SceneNodeUpdateMessage", "RemoveSceneNodeMessage")}

    with served.browser():
        wait(served.ready)
        browser = served.newest()
        feed(200, 0.3)
        find = browser._client.scene.get_handle_by_name
        wait(lambda: find("/boxes/1") is not None and find("/path") is not None)
        queued: list[Any] = []
        queue = browser._client.scene._queue_scene_message
        browser._client.scene._queue_scene_message = lambda message: (queued.append(message), queue(message))[1]
        for _ in range(5):
            numbers = {name: served.views.get(name)[0] for name in (PATH, BOXES)}
            feed(200, 0.3)
            wait(lambda n=numbers: all(browser._scene._seen[name][0] > n[name] for name in n))
        assert sum(sent().values()) == 0
        feed(150, 0.4)
        wait(lambda: sent()["BoxMessage"] == 2)
        assert sent()["SceneNodeUpdateMessage"] == 1, "the path's colours"
    assert served.page.trouble == ""


def test_the_planners_reply_and_the_timings_are_shown(served: Served) -> None:
    plan = replace(make_plan(np.full((8, 2), 500.0), np.zeros(8)), raw_reply="<think>left of the plate</think>")
    served.views.put(PLAN, plan)
    served.views.put(LATENCIES, {"planning": 1.25})
    with served.browser():
        wait(served.ready)
        browser = served.newest()
        wait(lambda: "&lt;think&gt;left of the plate" in browser._reply.content)
        assert "pick up the red block" in browser._reply.content
        wait(lambda: "<td>planning</td>" in browser._timings.content)
        assert "1.2 s" in browser._timings.content
    assert "the task is finished" in reply(replace(plan, finished=True))
    assert len(reply(replace(plan, raw_reply="x" * 1_000_000))) < 30_000
    assert served.page.trouble == ""


def test_obstacles_are_asked_for_and_sent_only_while_somebody_looks(served: Served) -> None:
    served.views.put(OBSTACLES, Cells(np.zeros((3, 3), np.float32), 0.01))
    with served.browser() as socket:
        wait(served.ready)
        browser = served.newest()
        find = partial(browser._client.scene.get_handle_by_name, "/obstacles")
        time.sleep(3 * pages.TICK_S)
        assert not served.views.wanted(OBSTACLES)
        assert find() is None
        write(socket, served.widget("Obstacles of the motions"), True)
        wait(lambda: served.views.wanted(OBSTACLES) and find() is not None)
        drawn = find()
        time.sleep(3 * pages.TICK_S)
        assert find() is drawn, "nothing changed: nothing is sent"
        served.views.put(OBSTACLES, Cells(np.ones((4, 3), np.float32), 0.02))
        wait(lambda: find() is not drawn and len(find().points) == 4)
        write(socket, served.widget("Obstacles of the motions"), False)
        wait(lambda: not served.views.wanted(OBSTACLES) and find() is None)
        write(socket, served.widget("Obstacles of the motions"), True)
        wait(lambda: served.views.wanted(OBSTACLES))
    wait(lambda: not served.views.wanted(OBSTACLES))
    assert served.page.trouble == ""


def test_a_view_that_is_hidden_while_it_is_drawn_stays_hidden(served: Served) -> None:
    served.views.put(OBSTACLES, Cells(np.zeros((3, 3), np.float32), 0.01))
    with served.browser() as socket:
        wait(served.ready)
        browser, box, drawing = served.newest(), served.widget("Obstacles of the motions"), threading.Event()
        scene = browser._client.scene
        add = scene.add_point_cloud

        def slow(*args: Any, **more: Any) -> Any:
            drawing.set()
            time.sleep(5 * pages.TICK_S)
            return add(*args, **more)

        scene.add_point_cloud = slow
        write(socket, box, True)
        assert drawing.wait(20.0)
        write(socket, box, False)
        wait(lambda: not served.views.wanted(OBSTACLES))
        time.sleep(10 * pages.TICK_S)
        assert scene.get_handle_by_name("/obstacles") is None
    assert served.page.trouble == ""


def test_a_run_is_chosen_from_the_index_and_from_nowhere_else(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "20260101-100000"
    folder.mkdir(parents=True)
    values = {"instruction": "Push <it>.", "outcome": "OK", "sentence": "Done.", "times_s": {"total": 9.0}}
    (folder / "summary.json").write_text(json.dumps(values))
    served.page._runs._root = folder.parent
    with served.browser() as socket:
        wait(served.ready)
        browser = served.newest()
        click(socket, served.widget("Look for runs"))
        chosen = served.widget("Run")
        wait(lambda: len(chosen.options) == 2)
        write(socket, chosen, "../../../etc/passwd")
        write(socket, chosen, chosen.options[1])
        wait(
            lambda: "Push &lt;it&gt;." in browser._run_told.content and "OK, 9.0 s: Done." in browser._run_told.content
        )
    assert served.page.trouble == ""


@pytest.mark.usefixtures("prompt")
def test_a_recording_is_replayed_by_a_click_and_a_runs_words_are_taken(served: Served, tmp_path: Path) -> None:
    served.page._runs._root = root = tmp_path / "runs"
    for name, file in (("1-run", "summary.json"), ("2-recording", "run.json")):
        (root / name).mkdir(parents=True)
        (root / name / file).write_text(json.dumps({"instruction": f"Push {name}."}))
    served.page._replays._command = (sys.executable, "-c", "import sys; print('<same> as', sys.argv[1])")
    with served.browser() as socket:
        wait(served.ready)
        browser = served.newest()
        click(socket, served.widget("Look for runs"))
        chosen, again = served.widget("Run"), served.widget("Replay")
        wait(lambda: len(chosen.options) == 3)
        recording, run = chosen.options[1:]
        write(socket, chosen, run)
        wait(lambda: "1-run" in browser._run_told.content)
        assert not again.visible
        click(socket, served.widget("Take its words as the goal"))
        wait(lambda: served.widget("Goal").value == "Push 1-run.")
        write(socket, chosen, recording)
        wait(lambda: again.visible)
        click(socket, again)
        wait(lambda: "<b>Replayed</b>" in browser._run_told.content)
        assert f"&lt;same&gt; as {root / '2-recording'}" in browser._run_told.content
        assert "Push 2-recording." in browser._run_told.content
        assert not browser._report.visible, "it left none"
        (root / "2-recording" / "replay").mkdir()
        (root / "2-recording" / "replay" / "report.html").write_text('<p title="it">differs</p><script>x</script>')
        click(socket, again)
        wait(lambda: browser._report.visible)
        frame = browser._report.content
        assert 'sandbox=""' in frame
        assert "&lt;p title=&quot;it&quot;&gt;differs" in frame
        assert "<script" not in frame
        served.page._replays._command = (
            sys.executable,
            "-c",
            "import time; print('begun', flush=True); time.sleep(600)",
        )
        click(socket, again)
        wait(lambda: "begun" in browser._run_told.content)
        click(socket, served.widget("End the replay"))
        wait(lambda: "The replay was ended." in browser._run_told.content)
    acts = [(line["act"], line["outcome"]) for line in served.lines()]
    assert acts.count(("replay", "done")) == 3
    assert ("end_replay", "done") in acts
    assert served.page.trouble == ""


def test_the_film_of_a_run_is_shown_sought_and_ends_with_the_page(served: Served, tmp_path: Path) -> None:
    served.page._runs._root = root = tmp_path / "runs"
    for name in ("1-good", "2-bad", "3-none"):
        (root / name).mkdir(parents=True)
        (root / name / "summary.json").write_text(json.dumps({"instruction": name}))
    make_film(root / "1-good")
    (root / "2-bad" / FILM).write_bytes(b"<no film>")
    with served.browser() as socket:
        wait(served.ready)
        browser = served.newest()
        click(socket, served.widget("Look for runs"))
        chosen, at = served.widget("Run"), served.widget("Film [s]")
        wait(lambda: len(chosen.options) == 4)
        none, bad, good = chosen.options[1:]
        write(socket, chosen, good)
        wait(lambda: at.visible and shows(browser._film.image, 0))
        first = browser._player
        write(socket, at, 5.1)
        wait(lambda: shows(browser._film.image, 20))
        click(socket, served.widget("Play or pause the film"))
        wait(lambda: at.value > 5.5)
        write(socket, chosen, bad)
        wait(lambda: "the film cannot be shown" in browser._run_told.content and not at.visible)
        assert not first._thread.is_alive()
        write(socket, chosen, none)
        wait(lambda: "3-none" in browser._run_told.content and "cannot be shown" not in browser._run_told.content)
        click(socket, served.widget("Play or pause the film"))
        write(socket, chosen, good)
        wait(lambda: browser._player is not None)
        assert at.value == 0.0
    wait(lambda: not browser._player._thread.is_alive())
    assert served.page.trouble == ""


def test_an_address_that_cannot_be_served(served: Served) -> None:
    port = int(served.netloc.rpartition(":")[2])
    for host, number in (("127.0.0.1", port), ("203.0.113.7", 0)):
        with pytest.raises(ConfigError, match=f"console: {host}:{number} cannot be served"):
            Page(served.session, served.session._access, Views(), host, number)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "viser", None)
    with pytest.raises(ConfigError, match="needs the Python package 'viser', which is missing: pip install"):
        pages.viser()


def test_the_ghost_follows_the_planned_motions() -> None:
    def path(a: float, b: float, seconds: float) -> JointPath:
        return JointPath(np.array([[a] * 7, [b] * 7]), np.zeros((2, 7)), np.array([0.0, seconds]))

    paths = (path(0.0, 1.0, 1.0), path(1.0, 3.0, 3.0))
    for fraction, q in ((-1.0, 0.0), (0.0, 0.0), (0.125, 0.5), (0.25, 1.0), (0.625, 2.0), (1.0, 3.0), (9.0, 3.0)):
        np.testing.assert_allclose(at_fraction(paths, fraction), np.full(7, q))
    assert at_fraction((), 0.5) is None


def test_the_ghost_gripper_is_at_the_keypose() -> None:
    tool = tcp_pose(HOME_Q_RAD)
    poses = hand_poses(tool, 0.04)
    np.testing.assert_allclose(poses[HAND_LINK][:3, 3], tool[:3, 3] - TCP_OFFSET_M * tool[:3, 2], atol=1e-9)
    fingers = [T[:3, 3] for link, T in poses.items() if link != HAND_LINK]
    assert np.linalg.norm(fingers[0] - fingers[1]) == pytest.approx(0.04)


def test_whatever_people_write_is_text() -> None:
    evil = "<script>alert(1)</script>"
    waiting = proposal("a-1", Status.REFUSED)
    object.__setattr__(waiting, "reason", evil)
    shown = Shown(
        instruction=evil, phase="moving", steps=(evil,), operator=evil, handover=evil, people=(evil,), proposal=waiting
    )
    for page in (status(shown), motion(shown), history(shown)):
        assert "<script>" not in page
    assert "STOPPED" in status(Shown(stopped=True, stop_sentence="stopped since 10:00."))


@pytest.mark.parametrize(("phase", "mark"), [("moving", "▶"), ("idle", "•")])
def test_the_last_step_is_not_ticked_off(phase: str, mark: str) -> None:
    page = status(Shown(instruction="all", phase=phase, steps=("first", "second")))
    assert "✓ first" in page
    assert f"{mark} second" in page
