"""The annotation tool over HTTP: who gets in, what is refused, and a video's whole way."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from annotate.folders import changed, make_videos
from starlette.testclient import TestClient

from stvla_ros import cli
from stvla_ros.annotate.review import Role
from stvla_ros.annotate.server import MOST_BYTES, make_app
from stvla_ros.annotate.store import Store
from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.info_json import parse_info, read_info
from stvla_ros.data.st_human.tables import read_tables

HERE = "http://127.0.0.1:8090"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(make_videos(tmp_path / "data", 8))
    made.add_videos()
    return made


@pytest.fixture
def alone(store: Store) -> Iterator[TestClient]:
    with TestClient(make_app(store, "127.0.0.1"), base_url=HERE) as client:
        yield client


@pytest.fixture
def people(store: Store) -> dict[str, TestClient]:
    tokens = {role: store.add_person(role, role) for role in Role}
    app = make_app(store, "0.0.0.0")
    return {
        role: TestClient(app, base_url="http://cell.lab:8090", headers={"authorization": f"Bearer {token}"})
        for role, token in tokens.items()
    } | {"nobody": TestClient(app, base_url="http://cell.lab:8090")}


def test_one_person_on_this_computer_needs_no_token(alone: TestClient) -> None:
    assert alone.get("/api/me").json()["role"] == "admin"
    assert len(alone.get("/api/me").json()["templates"]) == 18
    assert alone.get("/api/videos").json()["counts"] == {"open": 8}


def test_other_computers_are_not_served_without_tokens(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0 can be reached from other computers, and nobody has a token"):
        make_app(store, "0.0.0.0")


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({"origin": "https://evil.example"}, "comes from another site"),
        ({"origin": "null"}, "comes from another site"),
        ({"host": "evil.example"}, "not this computer's"),
        ({"host": "evil.example", "origin": "http://evil.example"}, "not this computer's"),
        ({"host": "["}, "cannot be read"),
        ({"host": ""}, "not this computer's"),
    ],
)
def test_other_sites_are_refused(alone: TestClient, headers: dict[str, str], sentence: str) -> None:
    for answer in (alone.get("/api/videos", headers=headers), alone.post("/api/batches", json={}, headers=headers)):
        assert answer.status_code == 403
        assert sentence in answer.json()["error"]
    assert alone.get("/api/videos", headers={"origin": HERE}).status_code == 200


READS = ("/api/me", "/api/videos", "/api/videos/1", "/api/videos/1/revisions", "/api/videos/1/frames/0.jpg",
         "/api/videos/1/depth/0.png", "/api/videos/1/depth/0", "/api/plan", "/api/batches", "/api/export")  # fmt: skip


def test_nothing_is_shown_without_a_token(people: dict[str, TestClient]) -> None:
    for headers in (
        {},
        {"authorization": "Bearer "},
        {"authorization": "Bearer wrong"},
        {"cookie": "stvla_annotate=x"},
    ):
        for path in READS:
            assert people["nobody"].get(path, headers=headers).status_code == 401, path
        for path in ("/api/videos/1/move", "/api/videos/1/restore", "/api/batches", "/api/batches/1/verdict"):
            assert people["nobody"].post(path, json={}, headers=headers).status_code == 401
        assert people["nobody"].put("/api/videos/1", json={}, headers=headers).status_code == 401


def test_a_token_becomes_a_cookie_that_pages_cannot_read(store: Store, people: dict[str, TestClient]) -> None:
    token, nobody = store.add_person("Ann", Role.ANNOTATOR), people["nobody"]
    assert nobody.post("/api/login", json={"token": token[:-1]}).status_code == 401
    for wrong in (3, None, "x" * 300):
        assert nobody.post("/api/login", json={"token": wrong}).status_code == 401
    answer = nobody.post("/api/login", json={"token": token})
    assert re.search("HttpOnly.*SameSite=strict", answer.headers["set-cookie"])
    assert nobody.get("/api/me").json()["name"] == "Ann"
    store.remove_person("Ann")
    assert nobody.get("/api/me").status_code == 401


def test_roles_are_enforced_here(people: dict[str, TestClient]) -> None:
    assert people["admin"].get("/api/export").status_code == 200
    for role in ("annotator", "auditor", "acceptor"):
        assert people[role].get("/api/export").status_code == 403
    people["annotator"].post("/api/videos/1/move", json={"version": 1, "verb": "submit"})
    refused = people["annotator"].post("/api/videos/1/move", json={"version": 2, "verb": "pass"})
    assert refused.status_code == 403
    assert refused.json()["error"] == "'pass' needs the role auditor: annotator is annotator."
    assert (
        people["auditor"].post("/api/videos/1/move", json={"version": 2, "verb": "pass"}).json()["state"] == "audited"
    )


def test_images_come_by_number(alone: TestClient) -> None:
    picture = cv2.imdecode(np.frombuffer(alone.get("/api/videos/1/frames/0.jpg").content, np.uint8), 1)
    assert picture is not None
    assert picture.shape == (480, 640, 3)
    small = cv2.imdecode(np.frombuffer(alone.get("/api/videos/1/frames/0.jpg?thumb").content, np.uint8), 1)
    assert small is not None
    assert small.shape == (120, 160, 3)
    png = cv2.imdecode(np.frombuffer(alone.get("/api/videos/1/depth/0.png").content, np.uint8), cv2.IMREAD_UNCHANGED)
    raw = np.frombuffer(alone.get("/api/videos/1/depth/0").content, "<u2").reshape(480, 640)
    assert png is not None
    assert np.array_equal(png, raw)
    assert (raw[0, 0], raw[0, -1]) == (800, 40_000)
    assert alone.get("/api/videos/1/frames/70.jpg").json()["error"] == "There is no frame 70: wanted 0 to 69."
    assert alone.get("/api/videos/1/frames/2.jpg").status_code == 500  # the file is missing
    assert "000002.jpg: wanted an image, found nothing" in alone.get("/api/videos/1/frames/2.jpg").json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/videos/1/frames/../../../etc/passwd", "/api/videos/1/frames/..%2f..%2finfo.json", "/../annotations.sqlite",
        "/..%2fserver.py", "/%2e%2e/server.py", "//etc/passwd", "/api/videos/-1", "/api/videos/1/frames/-1.jpg",
        f"/api/videos/{'9' * 40}", "/api/videos/1e3", "/api/videos/1/frames/00x.jpg", "/annotations.sqlite", "/server.py",
        "/....//....//etc/passwd", "/%00", "/api/videos/1/depth/0.png/..",
    ],
)  # fmt: skip
def test_no_path_of_a_client_is_opened(alone: TestClient, path: str) -> None:
    answer = alone.get(path)
    assert answer.status_code in (400, 404)
    assert b"root:" not in answer.content
    assert b"SQLite" not in answer.content


def test_large_and_malformed_bodies_are_refused(alone: TestClient, store: Store) -> None:
    assert alone.put("/api/videos/1", content=b"x" * (MOST_BYTES + 1)).status_code == 413

    def endless() -> Iterator[bytes]:  # no content-length
        for _ in range(6):
            yield b"[" * (1 << 20)

    assert alone.put("/api/videos/1", content=endless()).status_code == 413
    good = alone.get("/api/videos/1").json()["document"]
    for content in (
        b"", b"{", b"[]", b"[" * 100_000, b'{"a": NaN}', b'{"a": 1e999}', b'"\\ud800"', b'{"a": "\\ud800"}', b"\xff\xfe",
    ):  # fmt: skip
        assert alone.put("/api/videos/1", content=content).status_code == 400, content[:20]
    for body in (
        {}, {"version": True, "document": good}, {"version": -1, "document": good}, {"version": 2**70, "document": good},
        {"version": 1, "operation": 3, "document": good}, {"version": 1, "document": {**good, "more": 1}},
    ):  # fmt: skip
        assert alone.put("/api/videos/1", json=body).status_code == 422, body.keys()
    for query in ("after=-1", "after=x", f"after={'9' * 30}", "state=lost"):
        assert alone.get(f"/api/videos?{query}").status_code == 422
    assert alone.get("/api/plan?wanted=2").status_code == 422
    assert alone.get("/api/plan").json()["error"].startswith("batch: wanted at least one episode")
    assert store.opened(1)["version"] == 1


def test_a_conflict_answers_with_the_newest(alone: TestClient) -> None:
    first = alone.get("/api/videos/1").json()["document"]
    send = {"version": 1, "operation": "op-1", "document": changed(first, contact_frame=11)}
    assert alone.put("/api/videos/1", json=send).json()["version"] == 2
    assert alone.put("/api/videos/1", json=send).json()["version"] == 2  # sent again
    answer = alone.put("/api/videos/1", json={**send, "operation": "op-2"})
    assert answer.status_code == 409
    assert answer.json()["newest"]["document"] == send["document"]
    assert "There is a newer version (2) by you" in answer.json()["error"]
    assert alone.post("/api/videos/1/restore", json={"version": 2, "old": 1}).json()["document"] == first


def test_a_full_disk_is_said(alone: TestClient, store: Store) -> None:
    first = alone.get("/api/videos/1").json()["document"]
    store._db.execute(f"PRAGMA max_page_count = {store._rows('PRAGMA page_count')[0][0]}")
    big = {"version": 1, "document": changed(first, part=os.urandom(100_000).hex())}
    answer = alone.put("/api/videos/1", json=big)
    assert answer.status_code == 507
    assert "Nothing was saved" in answer.json()["error"]
    assert alone.get("/api/videos/1").json()["version"] == 1


def everything_accepted(people: dict[str, TestClient], number: int) -> None:
    for video in range(1, number + 1):
        for role, version, verb in (("annotator", 1, "submit"), ("auditor", 2, "pass")):
            answer = people[role].post(f"/api/videos/{video}/move", json={"version": version, "verb": verb})
            assert answer.status_code == 200, answer.json()
    plan = people["acceptor"].get("/api/plan?wanted=0.8&confidence=0.9").json()
    batch = people["acceptor"].post("/api/batches", json=plan).json()["id"]
    for one in people["acceptor"].get("/api/batches").json()[0]["sample"]:
        verdict = {"video": one["video"], "action": one["action"], "good": True}
        assert people["acceptor"].post(f"/api/batches/{batch}/verdict", json=verdict).status_code == 200


def test_from_draft_to_export(people: dict[str, TestClient], store: Store, tmp_path: Path) -> None:
    everything_accepted(people, 8)
    data = people["admin"].get("/api/export").content
    assert people["admin"].get("/api/export").content == data
    packed = zipfile.ZipFile(io.BytesIO(data))
    manifest = json.loads(packed.read("manifest.json"))
    assert len(packed.namelist()) == 9
    for name, wanted in manifest["sha256"].items():
        assert hashlib.sha256(packed.read(name)).hexdigest() == wanted
    info = parse_info(json.loads(packed.read("v0003/info.json")))
    review = info.actions[0].review
    assert review is not None
    assert (review.tier, review.state, review.by) == ("10", "accepted", "acceptor")
    assert info.actions[0].contact_points is not None
    data_folder = next(tmp_path.glob("data"))
    assert cli.main(["annotate", "--data", str(data_folder), "--export", str(tmp_path / "out")]) == 0
    tables = list(read_tables(tmp_path / "out" / "tables"))
    assert tables == [read_info(tmp_path / "out" / f"v{n:04d}" / "info.json") for n in range(8)]
    assert tables[3] == info


def test_an_auditor_is_shown_how_far_an_annotation_is_off(people: dict[str, TestClient]) -> None:
    document = people["annotator"].get("/api/videos/1").json()["document"]
    people["annotator"].post("/api/videos/1/move", json={"version": 1, "verb": "submit"})
    own = changed(document, release_frame=document["actions"][0]["release_frame"] + 4)
    asked = {"version": 2, "document": own}
    assert people["annotator"].post("/api/videos/1/audit", json=asked).status_code == 403
    shown = people["auditor"].post("/api/videos/1/audit", json=asked).json()
    assert shown["actions"][0]["frames"] == [0, 0, 4, 0]
    assert shown["tolerance"] == {"frames": 2, "contact_mm": 5.0, "path_mm": 10.0}
    step = {"version": 2, "verb": "pass", "document": own}
    refused = people["auditor"].post("/api/videos/1/move", json=step)
    assert (refused.status_code, shown["fault"] in refused.json()["error"]) == (403, True)
    for wrong in ({}, {"version": 2}, {"version": 2, "document": [1]}, {"version": "2", "document": own}):
        assert people["auditor"].post("/api/videos/1/audit", json=wrong).status_code == 422
    assert people["auditor"].post("/api/videos/1/audit", json={**asked, "version": 9}).status_code == 404
    assert people["auditor"].post("/api/videos/1/move", json={"version": 2, "verb": "pass"}).status_code == 200
    assert people["admin"].get("/api/videos/1/revisions").json()[0]["distances"]["fault"] is None


def test_the_page_is_told_where_the_pipeline_saw_a_hand(tmp_path: Path) -> None:
    """Short gaps and glimpses are none; a video that no pipeline has looked at has no hands."""
    seen = np.zeros(70, bool)
    seen[5:26], seen[12], seen[40:61], seen[66] = True, False, True, True
    data = make_videos(tmp_path / "data", 2)
    np.savez(data / "v0000" / "hands.npz", seen=seen)
    store = Store(data)
    store.add_videos()
    assert [store.opened(video)["hands"] for video in (1, 2)] == [[(5, 25), (40, 60)], []]


def test_malformed_requests_change_nothing(alone: TestClient, store: Store) -> None:
    """Random methods, paths, headers and bodies: nothing but an answer with a known status, and no change."""
    random_ = random.Random(0)
    words = ["api", "videos", "1", "0", "9" * 30, "..", "%2e%2e", "frames", "depth", "0.jpg", "0.png", "move", "batches",
             "verdict", "plan", "login", "restore", "\u00e9", "'; DROP TABLE videos; --", "export", "%ff", "index.html"]  # fmt: skip
    values: list[Any] = [None, 1, -1, 2**80, 1e308, "x", "", [], {}, True, "\u0000", {"id": 1}, [[]], "open", "pass"]
    keys = ["version", "operation", "document", "verb", "reason", "old", "token", "video", "action", "good", "wanted",
            "confidence", "usual", "batch", "sample", "allowed"]  # fmt: skip
    number = int(os.environ.get("STVLA_FUZZ", "500"))
    for _ in range(number):
        path = "/" + "/".join(random_.choice(words) for _ in range(random_.randint(1, 5)))
        method = random_.choice(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
        body: bytes = json.dumps({k: random_.choice(values) for k in random_.sample(keys, 5)}).encode()
        if random_.random() < 0.3:
            body = random_.randbytes(random_.randint(0, 200))
        headers = {"cookie": random_.choice(["a=b", "stvla_annotate=\x7f", "=;;"])} if random_.random() < 0.2 else {}
        answer = alone.request(method, path, content=body, headers=headers, follow_redirects=False)
        assert answer.status_code in (200, 307, 400, 401, 403, 404, 405, 413, 422), (method, path, body)
    for video in range(1, 9):
        revisions = store.revisions(video)
        assert [r["what"] for r in revisions if r["what"] in ("save", "draft")] == ["draft"]
    assert store._rows("PRAGMA integrity_check")[0][0] == "ok"


def test_the_command_serves_and_can_be_killed(tmp_path: Path) -> None:
    """The real program: saved over HTTP, killed, started again, there."""
    data = make_videos(tmp_path / "data", 1)
    for round_ in (1, 2):
        command = [sys.executable, "-m", "stvla_ros.cli", "annotate", "--data", str(data), "--port", "0"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        try:
            assert process.stdout is not None
            address = next(
                found[0] for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line))
            )
            with urllib.request.urlopen(f"{address}/api/videos/1") as answer:
                opened = json.load(answer)
            assert opened["version"] == round_
            if round_ == 1:
                body = json.dumps({"version": 1, "document": changed(opened["document"], contact_frame=11)}).encode()
                with urllib.request.urlopen(
                    urllib.request.Request(f"{address}/api/videos/1", body, method="PUT")
                ) as put:
                    assert json.load(put)["version"] == 2
            else:
                assert opened["document"]["actions"][0]["contact_frame"] == 11
                with urllib.request.urlopen(address) as page:
                    assert b'<div id="root">' in page.read()
        finally:
            process.send_signal(signal.SIGKILL if round_ == 1 else signal.SIGINT)
            code = process.wait()
    assert code in (0, 130)


def test_people_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_videos(tmp_path / "data", 1)
    assert cli.main(["annotate", "--data", str(data), "--add", "Ann:annotator", "--add", "Bo:auditor"]) == 0
    name, token = re.findall(r"(\w+), \w+: (\S+)", capsys.readouterr().out)[0]
    assert Store(data).person(token) is not None
    assert name == "Ann"
    assert cli.main(["annotate", "--data", str(data), "--remove", "Ann"]) == 0
    assert Store(data).person(token) is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data", "nowhere"], "nowhere: wanted a folder with videos, found none"),
        (["--data", "."], "wanted a folder of a video, with camera.json, rgb and depth, or of such folders"),
        (["--data", ".", "--host", "0.0.0.0"], "nobody has a token"),
        (["--data", ".", "--add", "Ann"], "wanted NAME:ROLE, got 'Ann'"),
        (["--data", ".", "--add", "Ann:auditer"], "no role 'auditer'. Did you mean 'auditor'?"),
        (["--data", ".", "--remove", "Ann"], "There is nobody called 'Ann'"),
        (["--data", ".", "--everything"], "is for --export"),
        (["--data", ".", "--export", "out"], "No video is accepted yet"),
    ],
)
def test_what_the_command_refuses(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["annotate", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['starlette.applications'] = None\n"
        "from stvla_ros import cli\n"
        f"sys.exit(cli.main(['annotate', '--data', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert "needs the Python packages 'starlette' and 'uvicorn' (the extra 'annotate'): pip install" in done.stderr
