"""What the database keeps, refuses and never loses."""

from __future__ import annotations

import copy
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from annotate.folders import changed, make_videos, write_info_of
from data.st_human.clips import make_clip

from stvla_ros.annotate.document import completed
from stvla_ros.annotate.review import Person, RefusedError, Role, State
from stvla_ros.annotate.store import DATABASE, FullError, StaleError, Store, UnknownError
from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.plain import FormatError

ANN, BO, CEM = Person("Ann", Role.ANNOTATOR), Person("Bo", Role.AUDITOR), Person("Cem", Role.ADMIN)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(make_videos(tmp_path))
    assert made.add_videos() == []
    return made


def edited(store: Store, video: int, **fields: Any) -> dict[str, Any]:
    now = store.opened(video)
    return store.save(ANN, video, now["version"], None, changed(now["document"], **fields))


def test_the_pipelines_result_is_the_first_revision(store: Store) -> None:
    opened = store.opened(1)
    assert (opened["version"], opened["state"], opened["frames"], opened["fault"]) == (1, "open", 70, None)
    assert [a["template"] for a in opened["document"]["actions"]] == ["put_on", "put_relative"]
    assert store.add_videos() == []
    assert store.listed()["counts"] == {"open": 2}


def test_a_stale_version_is_refused_with_the_newest(store: Store) -> None:
    first = store.opened(1)["document"]
    store.save(ANN, 1, 1, "op-1", changed(first, contact_frame=11))
    with pytest.raises(StaleError) as caught:
        store.save(BO, 1, 1, "op-2", changed(first, contact_frame=12))
    assert caught.value.newest["version"] == 2
    assert caught.value.newest["by"] == "Ann"
    assert caught.value.newest["document"]["actions"][0]["contact_frame"] == 11


def test_a_change_that_is_sent_twice_is_made_once(store: Store) -> None:
    new = changed(store.opened(1)["document"], contact_frame=11)
    assert store.save(ANN, 1, 1, "op-1", new)["version"] == 2
    assert store.save(ANN, 1, 1, "op-1", new)["version"] == 2
    assert len(store.revisions(1)) == 2


def test_undo_is_a_revision_of_its_own(store: Store) -> None:
    first = store.opened(1)["document"]
    edited(store, 1, contact_frame=11)
    undone = store.restore(ANN, 1, 2, 1)
    assert (undone["version"], undone["document"]) == (3, first)
    assert [r["what"] for r in store.revisions(1)] == ["restore 1", "save", "draft"]
    assert store.restore(ANN, 1, 3, 2)["document"]["actions"][0]["contact_frame"] == 11
    with pytest.raises(UnknownError, match="There is no version 9 of video 1"):
        store.restore(ANN, 1, 4, 9)


def test_revisions_cannot_be_changed(store: Store, tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / DATABASE)
    for statement in ("UPDATE revisions SET by = 'x'", "DELETE FROM revisions"):
        with pytest.raises(sqlite3.IntegrityError, match="revisions are never"):
            db.execute(statement)


def test_only_open_videos_are_changed_and_only_finished_ones_submitted(store: Store) -> None:
    edited(store, 1, template="")
    with pytest.raises(RefusedError, match=r"needs a finished annotation: action 'a1'.template: wanted one of"):
        store.move(ANN, 1, 2, "submit", None)
    store.restore(ANN, 1, 2, 1)
    assert store.move(ANN, 1, 3, "submit", None)["state"] == "annotated"
    with pytest.raises(RefusedError, match="Only open videos are changed: this one is annotated"):
        edited(store, 1, contact_frame=11)


def test_the_way_of_a_video_with_a_rejection(store: Store) -> None:
    edited(store, 1)
    store.move(ANN, 1, 2, "submit", None)
    returned = store.move(BO, 1, 3, "return", "the contact is late")
    assert (returned["state"], returned["reason"]) == ("open", "the contact is late")
    edited(store, 1, contact_frame=9)  # no pose at frame 9
    with pytest.raises(RefusedError, match=r"wanted a pose of the hand at contact \(9\) and at release \(20\)"):
        store.move(ANN, 1, 5, "submit", None)
    edited(store, 1, contact_frame=10)
    store.move(ANN, 1, 6, "submit", None)
    assert store.move(BO, 1, 7, "pass", None)["state"] == "audited"
    assert [r["what"] for r in store.revisions(1)] == [
        "pass", "submit", "save", "save", "return", "submit", "save", "draft",
    ]  # fmt: skip


def moved(document: dict[str, Any], frame: int, mm: float) -> dict[str, Any]:
    """An annotation whose first action has its pose in a frame so far to the right."""
    path = [
        {**point, "xyz_m": [point["xyz_m"][0] + mm / 1000, *point["xyz_m"][1:]]} if point["frame"] == frame else point
        for point in document["actions"][0]["trajectory"]
    ]
    return changed(document, trajectory=path)


def test_a_video_passes_within_the_tolerances_only(store: Store) -> None:
    """2 frames, 5 mm at contact and release, 10 mm between; the distances are kept with the verdict."""
    document = edited(store, 1)["document"]
    store.move(ANN, 1, 2, "submit", None)
    middle = next(p["frame"] for p in document["actions"][0]["trajectory"] if 10 < p["frame"] < 20)
    for own, said in (
        (moved(document, 10, 5.2), r"action 'a1': contact or release is 5.2 mm off, 5 mm are allowed"),
        (moved(document, middle, 11.0), r"action 'a1': its path is up to 11.0 mm off, 10 mm are allowed"),
        (changed(document, contact_frame=13), r"action 'a1': contact or release is 3 frames off, 2 are allowed"),
        ({**document, "actions": document["actions"][1:]}, "one of the two has an action that the other one lacks"),
    ):
        with pytest.raises(RefusedError, match=f"'pass' needs an annotation within the tolerances: {said}"):
            store.move(BO, 1, 3, "pass", None, own)
        assert store.distances(BO, 1, 3, own)["fault"] is not None
    with pytest.raises(RefusedError, match="needs the role auditor"):
        store.distances(ANN, 1, 3, document)
    with pytest.raises(FormatError, match=r"template: wanted one of the templates"):
        store.move(BO, 1, 3, "pass", None, changed(document, template=""))
    assert store.opened(1)["version"] == 3
    store.move(BO, 1, 3, "return", "see the distances", moved(document, 10, 7.0))
    store.move(ANN, 1, 4, "submit", None)
    assert store.move(BO, 1, 5, "pass", None, moved(document, 10, 4.0))["state"] == "audited"
    passed, _, returned, *others = store.revisions(1)
    assert passed["distances"]["actions"][0]["contact_mm"] == [4.0, 0.0]
    assert passed["distances"]["tolerance"] == {"frames": 2, "contact_mm": 5.0, "path_mm": 10.0}
    assert (passed["distances"]["fault"], returned["distances"]["actions"][0]["contact_mm"]) == (None, [7.0, 0.0])
    assert [one["distances"] for one in others] == [None] * len(others)
    assert store.document(1, 6) == store.document(1, 5)  # an auditor changes nothing


def test_a_database_of_version_1_gets_its_audits(tmp_path: Path) -> None:
    store = Store(make_videos(tmp_path))
    store.add_videos()
    edited(store, 1)
    store.move(ANN, 1, 2, "submit", None)
    store.close()
    db = sqlite3.connect(tmp_path / DATABASE)
    db.executescript("DROP TABLE audits; PRAGMA user_version = 1;")
    db.close()
    store = Store(tmp_path)
    store.move(BO, 1, 3, "pass", None)
    found = store.revisions(1)[0]["distances"]
    assert [row["contact_mm"] for row in found["actions"]] == [[0.0, 0.0]] * 2
    store.close()
    with sqlite3.connect(tmp_path / DATABASE) as db, pytest.raises(sqlite3.IntegrityError, match="never changed"):
        db.execute("UPDATE audits SET distances = ''")


def audited(store: Store, number: int) -> None:
    for video in range(1, number + 1):
        edited(store, video)
        store.move(ANN, video, 2, "submit", None)
        store.move(BO, video, 3, "pass", None)


def test_a_batch_is_accepted_by_the_plan_that_was_shown(tmp_path: Path) -> None:
    store = Store(make_videos(tmp_path, 10))
    store.add_videos()
    audited(store, 9)
    shown = store.plan(0.8, 0.9)
    assert (shown["batch"], shown["sample"], shown["allowed"]) == (18, 8, 0)
    audited_later = store.opened(10)
    store.save(ANN, 10, 1, None, audited_later["document"])
    store.move(ANN, 10, 2, "submit", None)
    store.move(BO, 10, 3, "pass", None)
    with pytest.raises(RefusedError, match="look at the new plan"):
        store.draw(CEM, shown)
    with pytest.raises(RefusedError, match="needs the role acceptor"):
        store.draw(BO, store.plan(0.8, 0.9))
    batch = store.draw(CEM, store.plan(0.8, 0.9))
    assert store.listed()["counts"] == {"in_batch": 10}
    (told,) = store.batches()
    assert told["secret"] is None
    assert len(told["sample"]) == told["plan"]["sample"]
    for one in told["sample"]:
        told = store.judge(CEM, batch, one["video"], one["action"], True, None)
    assert told["verdict"] == "accepted"
    assert len(told["secret"]) == 32
    assert store.listed()["counts"] == {"accepted": 10}
    with pytest.raises(RefusedError, match="accepted already"):
        store.judge(CEM, batch, one["video"], one["action"], False, "late")


def test_a_rejected_batch_opens_its_videos_with_the_defects(tmp_path: Path) -> None:
    store = Store(make_videos(tmp_path, 6))
    store.add_videos()
    audited(store, 6)
    batch = store.draw(CEM, store.plan(0.8, 0.9))
    one = store.batches()[0]["sample"][0]
    with pytest.raises(RefusedError, match="A defect needs a reason"):
        store.judge(CEM, batch, one["video"], one["action"], False, " ")
    with pytest.raises(UnknownError, match="not in the sample"):
        store.judge(CEM, batch, one["video"], "a9", True, None)
    assert store.judge(CEM, batch, one["video"], one["action"], False, "wrong cup")["verdict"] == "rejected"
    reason = store.opened(one["video"])["reason"]
    assert reason == f"batch 1: 1 defects, 0 allowed; {one['action']}: wrong cup"
    assert store.listed()["counts"] == {"open": 6}


def test_two_annotators_lose_no_change(store: Store) -> None:
    """Eight threads add actions of their own to one video, each again from the newest after a refusal."""
    refused = []

    def work(name: str) -> None:
        person = Person(name, Role.ANNOTATOR)
        for n in range(5):
            now = store.opened(1)
            while True:
                new = copy.deepcopy(now["document"])
                new["actions"].append({"id": f"{name}-{n}"})
                try:
                    store.save(person, 1, now["version"], f"{name}-{n}", new)
                    break
                except StaleError as stale:
                    refused.append(name)
                    now = stale.newest

    threads = [threading.Thread(target=work, args=(f"p{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {action["id"] for action in store.opened(1)["document"]["actions"]}
    assert ids == {"a1", "a2", *(f"p{i}-{n}" for i in range(8) for n in range(5))}
    assert store.opened(1)["version"] == 41


SAVER = """
import sys
from pathlib import Path
from stvla_ros.annotate.document import completed
from stvla_ros.annotate.review import Person, Role
from stvla_ros.annotate.store import Store
store, person = Store(Path(sys.argv[1])), Person("Ann", Role.ANNOTATOR)
now = store.opened(1)
for n in range(1_000_000):
    now["document"]["instruction"] = f"change {n} " + "x" * 400
    now = store.save(person, 1, now["version"], f"op-{n}", now["document"])
    print(now["version"], flush=True)
"""


@pytest.mark.parametrize("after", [1, 40, 95])
def test_a_killed_server_loses_nothing_that_it_acknowledged(after: int, tmp_path: Path) -> None:
    """A real process is killed (SIGKILL) while it saves as fast as it can."""
    store = Store(make_videos(tmp_path))
    store.add_videos()
    store.close()
    process = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = 0
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged > after:
            break
    time.sleep(0.003)  # somewhere in the middle of the next ones
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.wait()
    again = Store(tmp_path)
    opened = again.opened(1)
    assert opened["version"] in (acknowledged, acknowledged + 1)  # the last one may not have been said
    assert opened["document"]["instruction"].startswith(f"change {opened['version'] - 2} ")
    assert len(again.revisions(1)) == opened["version"]
    assert again._rows("PRAGMA integrity_check")[0][0] == "ok"


def test_a_full_disk_is_said_and_nothing_is_lost(store: Store) -> None:
    edited(store, 1, contact_frame=11)
    pages = store._rows("PRAGMA page_count")[0][0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 1}")
    big = changed(store.opened(1)["document"], part=os.urandom(200_000).hex())
    with pytest.raises(FullError, match=r"Nothing was saved: .*annotations.sqlite cannot be written \(.*full\)"):
        store.save(ANN, 1, 2, "op-2", big)
    assert store.opened(1)["version"] == 2
    store._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert store.save(ANN, 1, 2, "op-2", big)["version"] == 3


def test_a_thousand_videos_stay_quick(tmp_path: Path) -> None:
    for n in range(1000):
        write_info_of(tmp_path / f"v{n:04d}", n)
    store = Store(tmp_path)
    assert store.add_videos() == []
    asked: list[str] = []
    store._db.set_trace_callback(asked.append)
    page, names = store.listed(), []
    while True:
        names += [row["name"] for row in page["videos"]]
        if page["next"] is None:
            break
        page = store.listed(page["next"])
    assert names == [f"v{n:04d}" for n in range(1000)]
    assert len(asked) == 2 * 10  # a page and the numbers of each state, however many videos there are
    assert [row["name"] for row in store.listed(search="0777")["videos"]] == ["v0777"]
    assert store.listed(state=State.ACCEPTED)["videos"] == []


def test_a_token_is_kept_as_its_hash_only(store: Store, tmp_path: Path) -> None:
    token = store.add_person("Ann", Role.ANNOTATOR)
    assert store.person(token) == ANN
    assert store.person(token[:-1]) is None
    again = store.add_person("Ann", Role.AUDITOR)
    assert store.person(token) is None
    assert store.person(again) == Person("Ann", Role.AUDITOR)
    store.remove_person("Ann")
    assert store.person(again) is None
    with pytest.raises(UnknownError, match="nobody called 'Ann'"):
        store.remove_person("Ann")
    with pytest.raises(ConfigError, match="1 to 40 printable characters"):
        store.add_person(" ", Role.ADMIN)
    store.close()
    assert token.encode() not in (tmp_path / DATABASE).read_bytes()


def test_what_is_no_annotation_is_refused(store: Store) -> None:
    good = store.opened(1)["document"]
    for wrong in (
        None, [], {}, {**good, "video": {}}, {**good, "instruction": 3}, {**good, "actions": {}},
        {**good, "actions": [{}]}, {**good, "actions": [{"id": "a"}, {"id": "a"}]}, {**good, "objects": [{"id": ""}]},
        {**good, "actions": [{"id": str(n)} for n in range(201)]}, {**good, "actions": [{"id": "a", "trajectory": 1}]},
    ):  # fmt: skip
        with pytest.raises(FormatError, match="annotation"):
            store.save(ANN, 1, 1, None, wrong)
    assert store.opened(1)["version"] == 1


def test_an_unfinished_annotation_is_kept_with_what_it_lacks(store: Store) -> None:
    good = store.opened(1)["document"]
    for action in (
        {}, {"start_frame": "x"}, {"start_frame": 1, "slots": None}, {"start_frame": None, "trajectory": [3]},
        {"start_frame": 1, "contact_frame": 2, "release_frame": 3, "end_frame": 4, "template": "put_on", "slots": {}},
        {"start_frame": 1, "contact_frame": 2, "release_frame": 3, "end_frame": 4, "template": "put_on", "slots": [1],
         "relations": 7, "trajectory": [{"frame": 2, "xyz_m": "up"}]},
    ):  # fmt: skip
        new = {**good, "actions": [{"id": "a1", **action}]}
        saved = store.save(ANN, 1, store.opened(1)["version"], None, new)
        assert saved["document"] == new
        assert saved["fault"]


def test_videos_that_nothing_has_processed_start_empty(tmp_path: Path) -> None:
    make_clip(tmp_path / "raw" / "clip", told={"id": "kitchen", "objects": [{"name": "red block"}]})
    (tmp_path / "raw" / "damaged").mkdir()
    (tmp_path / "raw" / "damaged" / "camera.json").write_text("{")
    store = Store(tmp_path)
    (fault,) = store.add_videos()
    assert "damaged/camera.json: not valid JSON" in fault
    opened = store.opened(1)
    assert (opened["name"], opened["document"]["actions"]) == ("kitchen", [])
    assert [thing["id"] for thing in opened["document"]["objects"]] == ["red_block"]
    assert opened["fault"] == "There is no action: add one, or exclude the video with a reason."
    pose = {"quat_xyzw": [0, 0, 0, 1], "gripper": 1, "width_m": 0.04, "sigma_m": 0.003, "source": "manual"}
    action = {
        "id": "a1", "template": "pick_up", "slots": {"object": "red_block"}, "hand": "right", "start_frame": 5,
        "contact_frame": 10, "release_frame": 20, "end_frame": 30,
        "trajectory": [{"frame": n, "xyz_m": [0.01, 0.02, 0.7], **pose} for n in (10, 20)],
    }  # fmt: skip
    saved = store.save(ANN, 1, 1, None, {**opened["document"], "actions": [action]})
    assert saved["fault"] is None
    info = completed(store.entry(1).info, saved["document"])
    assert (info.actions[0].sentence, info.actions[0].clean_frame) == ("Pick up the red block.", 4)
    assert info.actions[0].contact_points is not None
    assert info.actions[0].contact_points.initial.source == "manual"


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"no database at all, but long enough to be one" * 40)
    with pytest.raises(ConfigError, match="cannot be used as the tool's database"):
        Store(tmp_path)
    db = sqlite3.connect(tmp_path / "other.sqlite")
    db.execute("PRAGMA user_version = 7")
    db.execute("CREATE TABLE x (y)")
    db.commit()
    db.close()
    (tmp_path / "other.sqlite").rename(tmp_path / DATABASE)
    with pytest.raises(ConfigError, match="wanted a database of version 2 of this tool, found 7"):
        Store(tmp_path)
