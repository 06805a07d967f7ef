"""The console's page: viser's widgets and 3D view in front of a :class:`Session`.

Every browser has widgets and a scene of its own, made when its person has a role: whoever has none gets nothing. One
thread refreshes all of them. A stop is handled in the thread that receives it, and waits for none of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import io
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.console.access import Access, Role
from stvla_ros.console.camera_view import CameraView
from stvla_ros.console.edit import Drawn
from stvla_ros.console.films import Player
from stvla_ros.console.gate import Gate, Link
from stvla_ros.console.marks import ELEMENT, across, beside, data_url, left_s
from stvla_ros.console.replaying import Replays
from stvla_ros.console.runs import PastRun, Runs
from stvla_ros.console.scene import Scene
from stvla_ros.console.session import IDLE, Answer, Code, Session, Shown
from stvla_ros.console.trends import Trends
from stvla_ros.console.views import (
    BOXES,
    CLOUD,
    DRAWN,
    GUIDED,
    JOINTS,
    OBSTACLES,
    OLD_S,
    PATH,
    PLAN,
    RAW,
    Views,
    caption,
)
from stvla_ros.errors import StageError
from stvla_ros.motion.approval import Approval, Proposal, Status, describe
from stvla_ros.types import F64, U8, WAYPOINTS, TracePlan

INSTALL = (
    "The console needs the Python package 'viser', which is missing: pip install --no-deps viser==1.1.1 msgspec imageio "
    "trimesh requests urllib3 idna certifi charset-normalizer"
)
TICK_S = 0.1
PICTURE_S = 0.2
"""Pictures are sent at most so often."""

ALIVE_S = 0.3
"""So often each browser is told that what it shows is not old."""

PICTURE_PX = (384, 288)
JPEG_QUALITY = 75
FILM_S = 2.0
"""Another film begins once the one before has ended, at the latest after so long."""

CHOOSE = "(choose)"
REPLY_CHARS = 20_000
"""More of a model's reply is not shown."""

SILENT = f"OLD: nothing newer has come for {OLD_S:.0f} s"
"""Across the page: of what is shown, whether by a silent console, a link that stalls, or a silent camera."""

GONE = Answer(Code.NOT_WAITING, "The motion that you answered does not wait any more: the answer counted for nothing.")
GONE_KEPT = 30
"""So many buttons of motions that are gone are known, to answer a click on one that a slow link brings late."""

NOTHING_EDITED = Answer(Code.NOT_WAITING, "Nothing is edited: tick 'Edit the path' while a motion waits.")

RED, GREEN = (200, 30, 30), (30, 140, 60)


def viser() -> Any:
    """The package. Raises ConfigError that says how to install it."""
    try:
        import viser as package
    except ModuleNotFoundError as error:
        raise ConfigError(f"{INSTALL}.") from error
    return package


class Page:
    """Serves the page until it is closed.

    Args:
        session: The logic.
        access: Which connections are refused.
        views: Pictures, joints, path.
        host: Address to serve at.
        port: Port; 0: any free one.
        offers: Goals that the scene offers now; asked by a click, may take a second.
        runs: Those on the disk; by default those in ``runs/``.
        replays: Of recordings.

    Raises:
        ConfigError: The package is missing, or the address cannot be served.
    """

    def __init__(
        self,
        session: Session,
        access: Access,
        views: Views,
        host: str,
        port: int,
        offers: Callable[[], tuple[str, ...]] = lambda: (),
        runs: Runs | None = None,
        replays: Replays | None = None,
    ) -> None:
        package = viser()
        _check_address(host, port)
        self._session, self._views, self._offers = session, views, offers
        self._runs, self._replays = runs or Runs(Path("runs")), replays or Replays()
        self._browsers: dict[int, _Browser] = {}
        self._ending = threading.Event()
        self.trouble = ""
        """The last error of refreshing a browser."""
        with contextlib.redirect_stdout(io.StringIO()):  # its banner
            self._server = package.ViserServer(host, port, label="stvla console", verbose=False)
        self._server.gui.configure_theme(
            control_width="large", dark_mode=True, show_logo=False, show_share_button=False
        )
        self.gate = Gate(self._server._websock_server, access)
        self._server.get_event_loop().set_exception_handler(self._note)
        self._server.on_client_connect(self._connect)
        self._server.on_client_disconnect(self._disconnect)
        self._thread = threading.Thread(target=self._refresh, name="page", daemon=True)
        self._thread.start()
        name = f"[{host}]" if ":" in host else host
        self.address = f"http://{name}:{self._server.get_port()}"
        """For people."""

    def _connect(self, client: Any) -> None:
        connection = self._server._websock_server._live_connections.get(
            client.client_id
        )  # viser 1.1 tells it nowhere else
        link = self.gate.link(client.client_id)
        if connection is None or link is None:
            return
        address = str((connection.remote_address or ("",))[0])
        self._session.join(client.client_id, address)
        self._browsers[client.client_id] = _Browser(
            client, self._session, self._views, self._offers, self._runs, self._replays, link
        )
        if client.client_id not in self._server.get_clients():  # gone while it was welcomed, and said so before
            self._disconnect(client)

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A message of one browser failed: one line, not a log full of whatever browsers send."""
        self.trouble = f"a message of a browser failed: {context.get('exception') or context['message']!r}"[:300]

    def _disconnect(self, client: Any) -> None:
        if (browser := self._browsers.pop(client.client_id, None)) is not None:
            browser.close()
        self._session.leave(client.client_id)

    def _refresh(self) -> None:
        """First the pictures, for everybody; then the rest, of as many browsers as there is time for, in turn."""
        picture, trends, turn, due = _Picture(self._views), Trends(self._views), 0, 0.0
        while not self._ending.wait(TICK_S):
            now = time.monotonic()
            if now >= due and picture.look():
                due = now + PICTURE_S - TICK_S / 2
            trends.sample()
            shown, ages = self._session.shown(), captions(self._views)
            browsers = list(self._browsers.values())
            for browser in browsers:
                self._try(partial(browser.see, picture))
            for number in range(len(browsers)):
                browser = browsers[(turn + number) % len(browsers)]
                self._try(partial(browser.refresh, shown, ages, trends))
                if time.monotonic() > now + TICK_S:
                    turn += number + 1
                    break

    def _try(self, refresh: Callable[[], None]) -> None:
        try:
            refresh()
        except Exception as error:  # noqa: BLE001 - one browser, perhaps gone meanwhile, must not end the others' view
            self.trouble = f"a browser could not be refreshed: {error!r}"

    def close(self) -> None:
        """Stop serving."""
        self._ending.set()
        self._replays.close()
        self._thread.join(0.5)
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()


def _check_address(host: str, port: int) -> None:
    """viser takes the next port when one is taken, and waits for ever for an address that is not this computer's."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return
    except OSError as error:
        raise ConfigError(
            f"console: {host}:{port} cannot be served ({error.strerror}): choose another host or port."
        ) from error


class _Picture:
    """Camera and guided image side by side, encoded once for all who look."""

    def __init__(self, views: Views) -> None:
        self._views, self._seen = views, (0, 0)
        self.number, self.url = 0, ""
        """Counts the pictures; 0: there is none yet."""
        self._taken_s: tuple[float, ...] = ()

    def look(self) -> bool:
        """Make a new picture if one of the two images is new."""
        taken_s = tuple(
            time.monotonic() - self._views.age_s(name) for name in (RAW, GUIDED)
        )  # may be too early, not late
        (a, raw), (b, guided) = self._views.get(RAW), self._views.get(GUIDED)
        if self.number and (a, b) == self._seen:
            return False
        self._seen, self._taken_s = (a, b), taken_s
        bgr = np.hstack([_fitted(raw), _fitted(guided)])[:, :, ::-1]
        _, jpeg = cv2.imencode(".jpeg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        self.url = data_url(jpeg.tobytes())
        self.number += 1
        return True

    def shown(self, latency_s: float) -> str:
        """As HTML, for a browser to which messages take so long [s]: with marks, which appear when it has become old."""
        now = time.monotonic()
        marks = [
            (f"{what}: {'OLD' if isfinite(taken_s) else 'nothing has come yet'}", left_s(now - taken_s, latency_s))
            for what, taken_s in zip(("camera", "guided"), self._taken_s, strict=True)
        ]
        return beside(self.url, (2 * PICTURE_PX[0], PICTURE_PX[1]), marks, self._taken_s[0], now)


def _fitted(rgb: U8 | None) -> U8:
    width, height = PICTURE_PX
    if rgb is None:
        return np.zeros((height, width, 3), np.uint8)
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


class _Browser:
    """Widgets and scene of one browser."""

    def __init__(
        self,
        client: Any,
        session: Session,
        views: Views,
        offers: Callable[[], tuple[str, ...]],
        runs: Runs,
        replays: Replays,
        link: Link,
    ) -> None:
        self._runs, self._replays, self._link = runs, replays, link
        self._client, self._session, self._views, self._offers = client, session, views, offers
        self._number = int(client.client_id)
        self._ready, self._lock, self._told_s = False, threading.Lock(), 0.0
        self._shown: Shown | None = None
        self._proposal: Proposal | None = None
        self._answers: tuple[Any, ...] = ()
        self._gone: deque[str] = deque(maxlen=GONE_KEPT)
        self._asked = ""
        self._captions = ""
        self._editing = ""
        self._plan = self._trend = 0
        self._picture, self._alive_s = 0, 0.0
        self._run_words = ""
        self._player: Player | None = None
        self._film_lock, self._closed = threading.Lock(), False
        if session.role(self._number) is Role.NONE:
            self._ask_who()
        else:
            self._build()

    def _ask_who(self) -> None:
        gui = self._client.gui
        with gui.add_folder("Sign in") as folder:
            name, token = gui.add_text("Name", ""), gui.add_text("Token", "")
            button = gui.add_button("Sign in")

        @button.on_click
        def _(_: Any) -> None:
            said, token.value = token.value, ""  # now: what is typed while the answer comes stays
            answer = self._session.sign_in(self._number, said, name.value)
            self._tell(answer)
            if answer.ok:
                folder.remove()
                self._build()

    def _build(self) -> None:
        with self._lock:
            if self._ready:
                return
            gui = self._client.gui
            self._stop_widgets(gui)
            gui.add_html(ELEMENT)
            self._alive = gui.add_html("")
            self._status = gui.add_html("")
            self._motion_widgets(gui)
            self._goal_widgets(gui)
            self._picture_widgets(gui)
            self._scene = Scene(self._client.scene, self._views)
            self._camera_view = CameraView(self._client, self._views, self._clicked)
            self._client.camera.position, self._client.camera.look_at = (1.7, 1.1, 1.0), (0.4, 0.0, 0.2)
            from viser._messages import GuiUpdateMessage

            gui._websock_interface.register_handler(GuiUpdateMessage, self._late)  # viser 1.1 drops such a click itself
            self._ready = True

    def _late(self, _: int, message: Any) -> None:
        """Say so when a click came for a motion whose buttons are gone."""
        if message.uuid in self._gone:
            self._tell(GONE, rarely=True)

    def _stop_widgets(self, gui: Any) -> None:
        stop = gui.add_button("STOP", color=RED, icon="hand-stop", hint="The arm stops now. Key: S")
        alone = gui.add_panel()  # the first one scrolls away with its panel
        with alone.add_tab("Stop"):
            always = gui.add_button("STOP ", color=RED, icon="hand-stop", hint="The arm stops now. Key: S")
        alone.float(x=10, y=-10, width=300)
        command = gui.add_command("STOP", description="the arm stops now", hotkey="S")
        release = gui.add_button("Release the stop", color="gray", hint="twice: look at the robot in between")

        async def halt(_: Any) -> None:  # async: in the thread that receives it, not behind other clicks
            answer = self._session.stop(self._number)
            self._tell(answer)

        stop.on_click(halt)
        always.on_click(halt)
        command.on_trigger(halt)
        release.on_click(lambda _: self._tell(self._session.release(self._number)))

    def _motion_widgets(self, gui: Any) -> None:
        with gui.add_folder("Next motion") as self._next:
            self._motion = gui.add_html("", order=0)
            self._reason = gui.add_text("Why not", "", order=3)
            self._scrub = gui.add_slider("Along the motion", 0.0, 1.0, 0.01, 1.0, order=4)
            self._edit = gui.add_checkbox("Edit the path", False, hint="drag its 8 points in the 3D view", order=5)
            back = gui.add_button("Undo all edits", order=7)
            self._through = gui.add_checkbox(
                "Look through the camera", False, hint="while the path is edited, a click moves a waypoint", order=8
            )
            self._waypoint = gui.add_slider("Waypoint that a click moves", 1, WAYPOINTS, 1, WAYPOINTS, order=9)
        self._answer_widgets("")
        back.on_click(lambda _: setattr(self, "_editing", ""))
        self._scrub.on_update(lambda _: self._ghosts())

    def _answer_widgets(self, proposal_id: str) -> None:
        """New buttons for each motion: a click that comes late, over a slow link, answers the motion it was made for."""
        for button in self._answers:
            self._gone.append(button._impl.uuid)
            button.remove()
        gui = self._client.gui
        with self._next:
            approve = gui.add_button("Approve", color=GREEN, order=1)
            refuse = gui.add_button("Refuse", color="orange", order=2)
            use = gui.add_button("Use this path", hint="it is checked; then the waiting motion is refused", order=6)
        self._answers = (approve, refuse, use)

        def yes(_: Any) -> None:
            self._tell(self._session.approve(self._number, proposal_id))

        def no(_: Any) -> None:
            self._tell(self._session.refuse(self._number, proposal_id, self._reason.value))
            self._reason.value = ""

        def use_path(_: Any) -> None:
            if not len(points := self._scene.edited()):
                self._tell(NOTHING_EDITED, rarely=True)
                return
            self._tell(self._session.use_path(self._number, proposal_id, points))

        approve.on_click(yes)
        refuse.on_click(no)
        use.on_click(use_path)
        self._asked = proposal_id

    def _goal_widgets(self, gui: Any) -> None:
        with gui.add_folder("Goal"):
            self._words = words = gui.add_text("Goal", "")
            offered = gui.add_dropdown("The scene offers", (CHOOSE,))
            look = gui.add_button("Look what the scene offers", icon="eye")
            say = gui.add_button("Give the goal", color="blue")
            self._mode = gui.add_dropdown("Mode", tuple(Approval), initial_value=self._session.shown().mode.value)
            end, over = gui.add_button("End the task"), gui.add_button("Take over")
            self._past = gui.add_html("")

        def choose(_: Any) -> None:
            if offered.value != CHOOSE:
                words.value = offered.value

        looking = threading.Lock()

        def find(_: Any) -> None:
            if looking.acquire(
                blocking=False
            ):  # it may take a second: more clicks would fill the threads of all browsers
                try:
                    offered.options = (CHOOSE, *self._offers())
                finally:
                    looking.release()

        def mode(event: Any) -> None:
            if event.client is not None and self._mode.value != self._session.shown().mode:
                self._tell(self._session.set_mode(self._number, self._mode.value))
                self._mode.value = self._session.shown().mode.value

        offered.on_update(choose)
        look.on_click(find)
        say.on_click(lambda _: self._tell(self._session.say(self._number, words.value)))
        self._mode.on_update(mode)
        end.on_click(lambda _: self._tell(self._session.end_task(self._number)))
        over.on_click(lambda _: self._tell(self._session.take_over(self._number)))

    def _picture_widgets(self, gui: Any) -> None:
        panel = gui.add_panel()
        with panel.add_tab("Camera | guided"):
            self._ages = gui.add_html("")
            self._pictures = gui.add_html("")
            boxes = {name: gui.add_checkbox(label, name != OBSTACLES) for name, label in _TOGGLES.items()}
        with panel.add_tab("Planner's reply"):
            self._reply = gui.add_html("")
        with panel.add_tab("Timings"):
            self._timings = gui.add_html("")
        with panel.add_tab("Runs"):
            self._run_widgets(gui)
        panel.float(x=10, y=10, width=520)

        def toggle(name: str, box: Any, _: Any) -> None:
            self._scene.show(name, box.value)
            if self._closed:  # meanwhile
                self._views.want(name, self._scene, False)

        for name, box in boxes.items():
            box.on_update(partial(toggle, name, box))

    def _run_widgets(self, gui: Any) -> None:
        look = gui.add_button("Look for runs", icon="history")
        chosen = gui.add_dropdown("Run", (CHOOSE,))
        self._run_told = told = gui.add_html("")
        picture, self._film = (
            gui.add_image(np.zeros((1, 1, 3), np.uint8), format="jpeg", jpeg_quality=JPEG_QUALITY, visible=False)
            for _ in range(2)
        )
        self._film_at = gui.add_slider("Film [s]", 0.0, 1.0, 0.1, 0.0, visible=False)
        play = gui.add_button("Play or pause the film", icon="player-play", visible=False)
        again = gui.add_button(
            "Replay", icon="repeat", visible=False, hint="decides again on the recording; moves nothing"
        )
        end = gui.add_button("End the replay", icon="player-stop", visible=False)
        self._report = gui.add_html("", visible=False)
        repeat = gui.add_button("Take its words as the goal", icon="repeat", visible=False)
        known: dict[str, PastRun] = {}

        def find(_: Any) -> None:
            known.clear()
            known.update(self._runs.newest())
            chosen.options = (CHOOSE, *known)
            told.content = "" if known else _block(["There are no runs yet."])

        def choose(_: Any) -> None:
            run = known.get(chosen.value)  # whatever else a client sends is no run
            storyboard = self._runs.storyboard(run) if run is not None else None
            told.content = self._run_words = past_run(run) if run is not None else ""
            picture.visible = storyboard is not None
            if storyboard is not None:
                picture.image = storyboard
            self._film.visible = self._film_at.visible = play.visible = self._open_film(run)
            again.visible = end.visible = run is not None and run.recorded
            repeat.visible, self._report.visible = run is not None, False

        def seek(event: Any) -> None:
            if event.client is not None and (player := self._player) is not None:  # not what the film itself has set
                player.seek(self._film_at.value)

        def toggle(_: Any) -> None:
            if (player := self._player) is not None:
                player.toggle()

        def replay(_: Any) -> None:
            run = known.get(chosen.value)
            if run is not None and run.recorded:
                self._report.visible = False
                start = partial(self._replays.start, run.folder, partial(self._replayed, run))
                self._tell(self._session.replay(self._number, run.folder.name, start))

        def words(_: Any) -> None:
            if (run := known.get(chosen.value)) is not None:
                self._words.value = run.instruction

        again.on_click(replay)
        end.on_click(lambda _: self._tell(self._session.end_replay(self._number, self._replays.end)))
        repeat.on_click(words)
        look.on_click(find)
        chosen.on_update(choose)
        self._film_at.on_update(seek)
        play.on_click(toggle)

    def _open_film(self, run: PastRun | None) -> bool:
        """Show a run's film from its beginning in place of the one before; whether it has one."""
        with self._film_lock:
            if self._player is not None:
                self._player.close(FILM_S)
                self._player = None
            try:
                film = self._runs.film(run) if run is not None else None
            except ConfigError as error:
                self._film_trouble(str(error))
                return False
            if film is not None:
                self._film_at.max, self._film_at.value = max(film.seconds, 0.1), 0.0
                self._player = Player(film, self._show_film, self._film_trouble)
                if self._closed:  # meanwhile, and found no player
                    self._player.close(0.0)
            return film is not None

    def _show_film(self, picture: U8, t_s: float) -> None:
        self._film.image, self._film_at.value = picture, round(t_s, 1)

    def _replayed(self, run: PastRun, said: str, ended: bool) -> None:
        """What a replay says, and its report once it has ended; in the replay's thread."""
        if self._closed or self._run_words != past_run(run):  # another run is shown meanwhile
            return
        pre = f'<pre style="white-space:pre-wrap">{html.escape(said)}</pre>'
        self._run_told.content = self._run_words + _block([f"<b>{'Replayed' if ended else 'Replays ...'}</b>", pre])
        page = self._runs.report(run) if ended else None
        if page is not None:  # in a frame without rights: neither its scripts nor its links reach the console's page
            self._report.content = (
                f'<iframe sandbox="" style="width:100%;height:32em;border:0" srcdoc="{html.escape(page)}"></iframe>'
            )
            self._report.visible = True

    def _film_trouble(self, sentence: str) -> None:
        self._run_told.content = self._run_words + _block([html.escape(sentence)])

    def _tell(self, answer: Answer, rarely: bool = False) -> None:
        if (
            rarely or answer.code is Code.TOO_FAST
        ):  # once a second is enough for a person; a stuck key must pile up no more
            if time.monotonic() < self._told_s + 1.0:
                return
            self._told_s = time.monotonic()
        colour = "green" if answer.ok else "orange" if answer.code is Code.CONFIRM else "red"
        title = "Done" if answer.ok else answer.code.replace("_", " ").capitalize()
        self._client.add_notification(title, answer.sentence, color=colour, auto_close_seconds=8.0)

    def see(self, picture: _Picture) -> None:
        """Show the pictures if they are new; called by one thread. Of those that wait to be sent viser keeps the newest."""
        if self._ready and picture.number != self._picture:
            self._picture = picture.number
            self._pictures.content = picture.shown(self._link.latency_s)

    def refresh(self, shown: Shown, ages: str, trends: Trends) -> None:
        """Bring the rest up to date; called by the same thread."""
        if not self._ready:
            return
        with self._client.atomic():
            if shown != self._shown:
                self._show(shown)
            number, plan = self._views.get(PLAN)
            if number != self._plan:
                self._plan, self._reply.content = number, reply(plan)
            if trends.number != self._trend:
                self._trend, self._timings.content = trends.number, _block([trends.html])
            if ages != self._captions:
                self._captions = self._ages.content = ages
            self._place_gizmos()
            self._scene.refresh()
            self._camera_view.refresh(bool(self._through.value))
            self._say_alive()

    def _show(self, shown: Shown) -> None:
        before, self._shown = self._shown, shown
        self._status.content, self._past.content = status(shown), history(shown)
        if before is None or before.proposal is not shown.proposal:
            self._proposal = shown.proposal
            self._motion.content = motion(shown)
            self._ghosts()
            if shown.proposal is not None and shown.proposal.proposal_id != self._asked:
                self._answer_widgets(shown.proposal.proposal_id)  # after the motion: they are never beside another
        if before is not None and before.mode is not shown.mode:
            self._mode.value = shown.mode.value

    def _say_alive(self) -> None:
        """After all else, so that it claims of nothing that is still on its way that it is there."""
        if (now := time.monotonic()) < self._alive_s + ALIVE_S:
            return
        self._alive_s = now
        with self._link.trial():
            self._alive.content = across(SILENT, left_s(self._camera_view.age_s(), self._link.latency_s), now)

    def close(self) -> None:
        """The person is gone and looks at nothing any more."""
        self._closed = True
        if (player := self._player) is not None:
            player.close(0.0)
        if self._ready:
            self._views.want(OBSTACLES, self._scene, False)

    def _place_gizmos(self) -> None:
        """While a motion waits and the person edits: at the waypoints of its path."""
        path: Drawn | None = self._views.get(DRAWN)[1]
        waiting = self._shown.waiting if self._shown is not None else None
        edits = self._edit.value and path is not None and waiting is not None and waiting.plan_id == path.plan.plan_id
        wanted = path.plan.plan_id if edits and path is not None else ""
        if not wanted and self._scene.edited().size:
            self._scene.edit(None)
        elif path is not None and wanted != self._editing:
            self._scene.edit(path.points_m)
        self._editing = wanted

    def _clicked(self, origin_m: F64, direction: F64) -> None:
        """On the camera's picture: the chosen waypoint goes there."""
        points, waypoint = self._scene.edited(), self._waypoint.value - 1
        if waypoint not in range(len(points)):
            self._tell(NOTHING_EDITED, rarely=True)
            return
        try:
            self._scene.move(waypoint, self._camera_view.place(points, waypoint, origin_m, direction))
        except StageError as error:
            self._tell(Answer(Code.PATH_REFUSED, f"{error.code.name}: {error.sentence}"), rarely=True)

    def _ghosts(self) -> None:
        proposal = self._proposal
        show = proposal is not None and proposal.status in (
            Status.WAITING,
            Status.DRY_RUN,
            Status.APPROVED,
            Status.NOT_NEEDED,
        )
        self._scene.propose(proposal if show else None, float(self._scrub.value))


_TOGGLES = {
    CLOUD: "Point cloud",
    PATH: "Path and tube",
    BOXES: "Kept (green) and removed (red) objects",
    OBSTACLES: "Obstacles of the motions",
}


def status(shown: Shown) -> str:
    """Stop, operator, task and its steps, as HTML."""
    stop = html.escape(f"{shown.stop_sentence} {shown.stop_news}".strip())
    lines = [f'<b style="color:#ff5050">STOPPED</b> {stop}' if shown.stopped else stop]
    lines.append(f"<b>{html.escape(shown.operator) or 'Nobody'}</b> operates. {html.escape(shown.handover)}")
    lines.append(f"Here: {html.escape(', '.join(shown.people))}")
    if shown.instruction:
        lines.append(
            f"<b>{html.escape(shown.instruction)}</b>: {html.escape(shown.phase)}, {html.escape(shown.progress)}"
        )
    for number, step in enumerate(shown.steps, 1):
        last = "▶" if shown.phase != IDLE else "•"  # whether a task that ended did its last step is in its outcome
        lines.append(f"{last if number == len(shown.steps) else '✓'} {html.escape(step)}")
    return _block(lines)


def motion(shown: Shown) -> str:
    """The proposed motion, as HTML."""
    proposal = shown.proposal
    if proposal is None:
        return _block(["No motion was proposed yet."])
    said = proposal.status.replace("_", " ") + (f" by {proposal.who}" if proposal.who else "")
    colour = "#ffb030" if proposal.status is Status.WAITING else "#a0a0a0"
    wait = f" ({proposal.left_s:.0f} s to answer)" if proposal.status is Status.WAITING else ""
    first = f'<b style="color:{colour}">{html.escape(said)}</b>{wait}: {html.escape(describe(proposal))}'
    return _block([first, html.escape(proposal.reason)])


def history(shown: Shown) -> str:
    """Goals and their outcomes, newest first, as HTML."""
    lines = []
    for goal in shown.history:
        outcome = goal.outcome
        said = f"{outcome.code.name}: {outcome.sentence}" if outcome is not None else "runs"
        lines.append(f"<b>{html.escape(goal.instruction)}</b> ({html.escape(goal.who)}): {html.escape(said)}")
    return _block(lines)


def past_run(run: PastRun) -> str:
    """A run from the disk, as HTML."""
    took = f", {run.seconds:.1f} s" if run.seconds is not None else ""
    said = html.escape(f"{run.outcome or 'no outcome'}{took}: {run.sentence}")
    return _block([f"<b>{html.escape(run.instruction)}</b>", said, f"<code>{html.escape(run.command)}</code>"])


def reply(plan: TracePlan) -> str:
    """What the planner said with its newest plan, as HTML."""
    what = "the task is finished" if plan.finished else plan.sub_instruction
    said = html.escape(plan.raw_reply[:REPLY_CHARS]) or "(no text)"
    first = f"<b>{html.escape(plan.planner)}</b>, {html.escape(plan.plan_id)}: {html.escape(what)}"
    return _block([first, f'<pre style="white-space:pre-wrap;max-height:30em;overflow:auto">{said}</pre>'])


def captions(views: Views) -> str:
    """The line above the pictures, as HTML: red where something is old."""
    said = []
    for name, what in ((RAW, "camera"), (GUIDED, "guided"), (JOINTS, "joints")):
        age_s = views.age_s(name)
        text = html.escape(caption(what, age_s))
        said.append(f'<b style="color:#ff5050">{text}</b>' if age_s > OLD_S else text)
    return _block([" | ".join(said)])


def _block(lines: list[str]) -> str:
    return f'<div style="padding:0 1em;font-size:0.85em">{"<br>".join(line for line in lines if line)}</div>'
