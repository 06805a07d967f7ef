"""What browsers never send, as ``python -m benchmarks.console fuzz`` sends it, and what viser would do of itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from console.test_page import CAMERA, Served, click, closed, send, wait
from viser import _messages

from benchmarks.console import fuzz
from benchmarks.console.browser import dial
from stvla_ros.console.gate import MESSAGE_BYTES, MESSAGES, MESSAGES_BURST, MOST_CLIENTS, MalformedError, check


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    console = Served(tmp_path)
    yield console
    console.page.close()


def update(**updates: Any) -> bytes:
    return msgspec.msgpack.encode({"type": "GuiUpdateMessage", "uuid": "u", "updates": updates})


def test_malformed_messages_and_1_gb_reach_nothing() -> None:
    with fuzz.running() as server:
        fuzz.attack(server, 100, 0.1, 0)
        before = server.rss_mb()
        fuzz.attack(server, 1000, 0.01, 2)
        assert fuzz.gigabyte(server.netloc)
        noted = server.count()
        assert noted.asked | {"stop": 0} == {"goal": 0, "answer": 0, "stop": 0, "release": 0}, "viewers may stop"
        assert noted.thrown_out > 500
        assert server.rss_mb() - before < 30.0
        assert server.log_mb() < 0.1


def test_what_people_do_passes() -> None:
    assert check(msgspec.msgpack.encode(CAMERA.as_serializable_dict([])))
    for value in (True, 1, 0.5, "Put the red block in the plate.", [0.1, 0.2, 0.3]):
        assert check(update(value=value))
    for kind in MESSAGES:
        assert hasattr(_messages, kind)


@pytest.mark.parametrize("kind", fuzz.FOREIGN[:-3])
def test_what_is_not_for_this_page_is_dropped(kind: str) -> None:
    assert not check(msgspec.msgpack.encode({"type": kind}))


@pytest.mark.parametrize(
    "raw",
    [
        "text",
        b"",
        b"\xc1",
        b"\x91" * 60_000,
        b"\xdd\xff\xff\xff\xff",
        msgspec.msgpack.encode([1]),
        msgspec.msgpack.encode({"type": 5}),
        msgspec.msgpack.encode({"type": "ViewerCameraMessage", "position": [1.0, 2.0]}),
        msgspec.msgpack.encode({"type": "CommandTriggerMessage", "uuid": "u", "excluded_self_client": 1}),
        update(value=float("nan")),
        update(value={"a": 1}),
        update(value=True, removed=True),
        update(update_cb=["x"]),
    ],
    ids=range(13),
)
def test_what_no_browser_sends(raw: Any) -> None:
    with pytest.raises(MalformedError):
        check(raw)


def test_nobody_opens_a_tunnel_to_the_internet(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(served.page._server, "request_share_url", lambda *_: asked.append(True))
    with served.browser() as socket:
        wait(served.ready)
        send(socket, _messages.ShareUrlRequest())
        click(socket, served.widget("STOP"))
        wait(lambda: served.stack.stops)
    assert asked == []


def test_what_browsers_send_is_not_kept_for_all(served: Served) -> None:
    kept = served.page._server._websock_server.get_message_buffer().message_from_id
    with served.browser() as socket:
        wait(served.ready)
        before = len(kept)
        for number in range(50):
            send(socket, _messages.GuiFormDirtyMessage(f"{number}"))
        click(socket, served.widget("STOP"))
        wait(lambda: served.stack.stops)
        assert len(kept) == before


def test_another_site_is_refused_before_it_says_a_word(served: Served) -> None:
    """viser calls a connection a client only with its first message, and hears others before."""
    with dial(served.netloc, "https://evil.example") as socket:
        closed(socket)
    assert socket.close_code == 1008
    assert "comes from another site" in (socket.close_reason or "")


def test_a_long_message_ends_its_connection(served: Served) -> None:
    with served.browser() as socket:
        wait(served.ready)
        socket.send(update(value="x" * MESSAGE_BYTES))
        closed(socket)


def test_a_flood_slows_its_own_sender_and_nobody_elses_stop(served: Served) -> None:
    with served.browser() as flood:
        wait(served.ready)
        goal = served.widget("Goal")
        for number in range(int(MESSAGES_BURST) + 100):
            send(flood, _messages.GuiUpdateMessage(goal._impl.uuid, {"value": str(number)}))
        with served.browser() as other:
            wait(served.ready)
            click(other, served.widget("STOP"))
            wait(lambda: served.stack.stops, 5.0)


def test_so_many_people_and_no_more(served: Served) -> None:
    sockets = [fuzz.Raw(served.netloc) for _ in range(MOST_CLIENTS)]
    late = fuzz.Raw(served.netloc)
    with suppress(OSError):  # thrown out at once, or in the answer to the first message
        assert not late.send(msgspec.msgpack.encode({"type": "ResetGuiMessage"}))
    assert len(served.page._server._websock_server._live_connections) <= MOST_CLIENTS + 1
    for connection in sockets:
        connection.close()
