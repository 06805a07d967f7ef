"""The annotation tool's database: people, videos, every revision that was ever saved, batches with their samples.

One SQLite file beside the videos. A save is acknowledged after it is on the disk (write-ahead log, ``synchronous =
FULL``), so that neither a killed server nor a lost supply loses one. Revisions are never changed or removed: triggers
refuse it. A change names the version that it was made from, and is refused when a newer one exists (compare and set);
it also has an id of its own, so that a change that is sent twice is made once.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stvla_ros.annotate import audit, review, videos
from stvla_ros.annotate import document as documents
from stvla_ros.annotate.review import Person, RefusedError, Role, State
from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.acceptance import Plan, draw, make_plan
from stvla_ros.data.st_human.info import VideoInfo
from stvla_ros.data.st_human.info_json import parse_info, plain_info

DATABASE = "annotations.sqlite"
VERSION = 2
PAGE = 100
"""Videos in one answer."""

_SCHEMA = """
CREATE TABLE people (name TEXT PRIMARY KEY, role TEXT NOT NULL, token_sha256 TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE videos (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, folder TEXT NOT NULL, task INTEGER NOT NULL,
    info BLOB NOT NULL, weak TEXT NOT NULL, to_person INTEGER NOT NULL,
    version INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT, annotator TEXT, actions INTEGER NOT NULL) STRICT;
CREATE INDEX by_state ON videos (state, id);
CREATE TABLE revisions (
    video INTEGER NOT NULL REFERENCES videos, version INTEGER NOT NULL, at REAL NOT NULL, by TEXT NOT NULL,
    what TEXT NOT NULL, state TEXT NOT NULL, reason TEXT, operation TEXT, document BLOB NOT NULL,
    PRIMARY KEY (video, version)) STRICT;
CREATE UNIQUE INDEX by_operation ON revisions (video, operation) WHERE operation IS NOT NULL;
CREATE TRIGGER no_update BEFORE UPDATE ON revisions BEGIN SELECT RAISE(ABORT, 'revisions are never changed'); END;
CREATE TRIGGER no_delete BEFORE DELETE ON revisions BEGIN SELECT RAISE(ABORT, 'revisions are never removed'); END;
CREATE TABLE batches (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, by TEXT NOT NULL, plan TEXT NOT NULL, secret TEXT NOT NULL,
    verdict TEXT) STRICT;
CREATE TABLE samples (
    batch INTEGER NOT NULL REFERENCES batches, video INTEGER NOT NULL REFERENCES videos, action TEXT NOT NULL,
    drawn INTEGER NOT NULL, good INTEGER, reason TEXT, by TEXT, PRIMARY KEY (batch, video, action)) STRICT;
"""


_AUDITS = """
CREATE TABLE audits (
    video INTEGER NOT NULL, version INTEGER NOT NULL, distances TEXT NOT NULL, PRIMARY KEY (video, version),
    FOREIGN KEY (video, version) REFERENCES revisions) STRICT;
CREATE TRIGGER no_audit_update BEFORE UPDATE ON audits BEGIN SELECT RAISE(ABORT, 'audits are never changed'); END;
CREATE TRIGGER no_audit_delete BEFORE DELETE ON audits BEGIN SELECT RAISE(ABORT, 'audits are never removed'); END;
"""
"""New in version 2."""


class StaleError(Exception):
    """A change was made from an older version; ``newest`` is the video as it is now."""

    def __init__(self, newest: dict[str, Any]) -> None:
        super().__init__(f"There is a newer version ({newest['version']}) by {newest['by']}.")
        self.newest = newest


class FullError(Exception):
    """Nothing was saved, because the disk is full or cannot be written to; the message says so."""


class UnknownError(Exception):
    """There is no such video, revision or batch."""


@dataclass(frozen=True)
class Entry:
    """A video as the store knows it."""

    id: int
    folder: Path
    info: VideoInfo
    version: int
    state: State
    annotator: str | None


class Store:
    """The database of one folder of videos. Safe to use from several threads.

    Args:
        data: Folder with the videos.
        clock: Seconds since 1970.

    Raises:
        ConfigError: The file is none of this program, of a newer version, or cannot be written.
    """

    def __init__(self, data: Path, clock: Callable[[], float] = time.time) -> None:
        self._data, self._clock, self._lock = data.resolve(), clock, threading.RLock()
        path = data / DATABASE
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version == 0 and not tables:
                self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {_AUDITS} PRAGMA user_version = {VERSION}; COMMIT;")
            elif version == 1:
                self._db.executescript(f"BEGIN IMMEDIATE; {_AUDITS} PRAGMA user_version = {VERSION}; COMMIT;")
            elif version != VERSION:
                raise ConfigError(f"{path}: wanted a database of version {VERSION} of this tool, found {version}.")
        except sqlite3.Error as error:
            raise ConfigError(f"{path}: cannot be used as the tool's database ({error}).") from error

    def close(self) -> None:
        """Close the file. All that was acknowledged is in it already."""
        with self._lock:
            self._db.close()

    # People

    def add_person(self, name: str, role: Role) -> str:
        """Add a person, or give one a new role and token. Returns the token, which is kept nowhere else.

        Raises:
            ConfigError: The name is empty or too long.
        """
        if not 1 <= len(name.strip()) <= 40 or not name.isprintable():
            raise ConfigError(f"A person's name has 1 to 40 printable characters, found '{name[:60]}'.")
        token = secrets.token_urlsafe(32)
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO people VALUES (?, ?, ?)", (name.strip(), role, _hashed(token)))
        return token

    def remove_person(self, name: str) -> None:
        """Take a person's token away; what they made stays. Raises UnknownError."""
        with self._writing() as db:
            if not db.execute("DELETE FROM people WHERE name = ?", (name,)).rowcount:
                raise UnknownError(f"There is nobody called '{name[:40]}'.")

    def people(self) -> list[tuple[str, Role]]:
        """Names and roles."""
        return [(row["name"], Role(row["role"])) for row in self._rows("SELECT name, role FROM people ORDER BY name")]

    def person(self, token: str) -> Person | None:
        """Whose token it is. The token has 256 random bits, so that its hash is looked up without a secret time."""
        rows = self._rows("SELECT name, role FROM people WHERE token_sha256 = ?", _hashed(token))
        return Person(rows[0]["name"], Role(rows[0]["role"])) if rows else None

    # Videos

    def add_videos(self, progress: Callable[[int, int], None] = lambda done, of: None) -> list[str]:
        """Add the videos of the folder that are not known yet, with what is known of them as the first revision.

        Returns:
            A sentence for each one that cannot be used.

        Raises:
            ConfigError: There is no video in the folder.
        """
        folders = videos.find(self._data)
        known = {row["folder"] for row in self._rows("SELECT folder FROM videos")}
        names = {row["name"] for row in self._rows("SELECT name FROM videos")}
        faults: list[str] = []
        for number, folder in enumerate(folders, 1):
            place = str(folder.resolve().relative_to(self._data))
            if place not in known:
                try:
                    found = videos.read(folder)
                except ConfigError as error:
                    faults.append(str(error))
                    continue
                if found.info.video.id not in names:  # the same video before the pipeline
                    names.add(found.info.video.id)
                    self._add(place, found)
            progress(number, len(folders))
        return faults

    def _add(self, place: str, found: videos.Found) -> None:
        info, first = found.info, videos.draft(found.info)
        to_person = sum(weak["route"] != "audit" for weak in found.weak.values())
        with self._writing() as db:
            cursor = db.execute(
                "INSERT INTO videos (name, folder, task, info, weak, to_person, version, state, actions) "
                "VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?)",
                (info.video.id, place, info.video.task, _packed(plain_info(info)), json.dumps(found.weak), to_person,
                 State.OPEN, len(first["actions"])),
            )  # fmt: skip
            self._append(
                db, int(cursor.lastrowid or 0), 1, info.provenance.tool, "draft", State.OPEN, None, None, first
            )

    def listed(self, after: int = 0, state: State | None = None, search: str = "") -> dict[str, Any]:
        """A page of videos by id, those of one state or with a text in their name, and how many there are of each state."""
        rows = self._rows(
            "SELECT id, name, task, version, state, reason, annotator, actions, to_person FROM videos "
            "WHERE id > ? AND (? = '' OR state = ?) AND (? = '' OR instr(name, ?)) ORDER BY id LIMIT ?",
            after, state or "", state or "", search, search, PAGE + 1,
        )  # fmt: skip
        counts = self._rows("SELECT state, count(*) AS number FROM videos GROUP BY state")
        return {
            "videos": [dict(row) for row in rows[:PAGE]],
            "next": rows[PAGE - 1]["id"] if len(rows) > PAGE else None,
            "counts": {row["state"]: row["number"] for row in counts},
        }

    def entry(self, video: int) -> Entry:
        """What is known of a video. Raises UnknownError."""
        row = self._row("SELECT * FROM videos WHERE id = ?", video, what=f"video {video}")
        return Entry(
            row["id"], self._data / row["folder"], parse_info(_unpacked(row["info"])), row["version"],
            State(row["state"]), row["annotator"],
        )  # fmt: skip

    def opened(self, video: int) -> dict[str, Any]:
        """A video for the page: camera, images, annotation, state. Raises UnknownError."""
        with self._lock:
            row = self._row("SELECT * FROM videos WHERE id = ?", video, what=f"video {video}")
            plain = _unpacked(row["info"])
            return {
                "id": video, "name": row["name"], "frames": plain["video"]["frames"], "fps": plain["video"]["fps"],
                "size_px": plain["video"]["size_px"], "K": plain["camera"]["K"],
                "depth_unit_m": plain["camera"]["depth_unit_m"], "weak": json.loads(row["weak"]),
                "hands": videos.hands(self._data / row["folder"]), **self._newest(row),
            }  # fmt: skip

    def revisions(self, video: int) -> list[dict[str, Any]]:
        """All revisions, newest first, without their annotations; those of audits with their distances."""
        rows = self._rows(
            "SELECT version, at, by, what, state, reason, distances FROM revisions LEFT JOIN audits USING (video, version) "
            "WHERE video = ? ORDER BY version DESC",
            video,
        )  # fmt: skip
        return [dict(row) | {"distances": json.loads(row["distances"] or "null")} for row in rows]

    def distances(self, person: Person, video: int, version: int, own: Any) -> dict[str, Any]:
        """How far an annotation is from an auditor's copy of it, see :func:`stvla_ros.annotate.audit.distances`.

        Raises:
            RefusedError: The person does not audit.
            FormatError: The copy is no finished annotation.
            UnknownError: There is no such video or version.
        """
        _needs(person, Role.AUDITOR)
        row = self._row("SELECT * FROM videos WHERE id = ?", video, what=f"video {video}")
        annotated = self.document(video, version)
        return audit.distances(parse_info(_unpacked(row["info"])), annotated, documents.check(own))

    def document(self, video: int, version: int) -> dict[str, Any]:
        """The annotation of a revision. Raises UnknownError."""
        row = self._row(
            "SELECT document FROM revisions WHERE video = ? AND version = ?", video, version,
            what=f"version {version} of video {video}",
        )  # fmt: skip
        return dict(_unpacked(row["document"]))

    # Changes

    def save(
        self, person: Person, video: int, version: int, operation: str | None, changed: Any, what: str = "save"
    ) -> dict[str, Any]:
        """Append an annotation.

        Args:
            person: Who made it.
            video: Of which video.
            version: The version that it was made from.
            operation: An id of the change; one that was made already is not made again. None: it is not sent twice.
            changed: The annotation.
            what: What it is called in the list of revisions.

        Returns:
            The video as it is now.

        Raises:
            StaleError: There is a newer version.
            RefusedError: The video is not open.
            FormatError: It is no annotation.
            FullError: It could not be written.
            UnknownError: There is no such video.
        """
        new = documents.check(changed)
        with self._writing() as db:
            row = self._row("SELECT * FROM videos WHERE id = ?", video, what=f"video {video}")
            if operation is not None and self._rows(
                "SELECT 1 FROM revisions WHERE video = ? AND operation = ?", video, operation
            ):
                return self._newest(row)
            self._compare(row, version)
            review.may_edit(State(row["state"]))
            self._append(db, video, version + 1, person.name, what, State.OPEN, row["reason"], operation, new)
            db.execute(
                "UPDATE videos SET version = ?, annotator = ?, actions = ? WHERE id = ?",
                (version + 1, person.name, len(new["actions"]), video),
            )
            return self._newest(self._row("SELECT * FROM videos WHERE id = ?", video, what=""))

    def restore(self, person: Person, video: int, version: int, old: int) -> dict[str, Any]:
        """Append the annotation of an older revision again: an undo that can be undone. Raises as :meth:`save`."""
        return self.save(person, video, version, None, self.document(video, old), f"restore {old}")

    def move(
        self, person: Person, video: int, version: int, verb: str, reason: str | None, own: Any = None
    ) -> dict[str, Any]:
        """Carry out a transition of :data:`stvla_ros.annotate.review.TRANSITIONS`.

        Args:
            person: Who does.
            video: Of which video.
            version: The version that the person has seen.
            verb: The transition.
            reason: Why, where one is needed.
            own: What an auditor finds instead; None: the same. A video passes only within the tolerances.

        Returns and raises as :meth:`save`.
        """
        with self._writing() as db:
            row = self._row("SELECT * FROM videos WHERE id = ?", video, what=f"video {video}")
            self._compare(row, version)
            state = review.target(verb, State(row["state"]), person, row["annotator"], reason)
            if review.TRANSITIONS[verb].complete:
                wrong = documents.fault(parse_info(_unpacked(row["info"])), self.document(video, version))
                if wrong is not None:
                    raise RefusedError(f"'{verb}' needs a finished annotation: {wrong}")
            found = None
            if verb == "pass" or (verb == "return" and own is not None):
                found = self.distances(person, video, version, self.document(video, version) if own is None else own)
                if verb == "pass" and found["fault"] is not None:
                    raise RefusedError(f"'pass' needs an annotation within the tolerances: {found['fault']}.")
            author = person.name if verb == "submit" and row["annotator"] is None else row["annotator"]
            self._step(db, row, person.name, verb, state, reason, author)
            if found is not None:
                db.execute("INSERT INTO audits VALUES (?, ?, ?)", (video, version + 1, json.dumps(found)))
            return self._newest(self._row("SELECT * FROM videos WHERE id = ?", video, what=""))

    def _step(
        self,
        db: sqlite3.Connection,
        row: sqlite3.Row,
        by: str,
        what: str,
        state: State,
        reason: str | None,
        author: Any,
    ) -> None:
        version = row["version"] + 1
        same = self.document(row["id"], row["version"])
        self._append(db, row["id"], version, by, what, state, reason, None, same)
        db.execute(
            "UPDATE videos SET version = ?, state = ?, reason = ?, annotator = ? WHERE id = ?",
            (version, state, reason, author, row["id"]),
        )

    # Batches

    def plan(self, wanted: float = 0.95, confidence: float = 0.95, usual: float | None = None) -> dict[str, Any]:
        """The plan for a batch of all audited actions, before anything is drawn.

        Raises:
            FormatError: There is nothing to accept, or no sample proves it.
        """
        plan = make_plan(len(self._audited()), wanted, confidence, usual)
        chances = {f"{good:g}": plan.accepts(good) for good in (0.8, 0.9, 0.95, 0.98, 0.99, 1.0)}
        return {**asdict(plan), "usual": usual, "accepts": chances}

    def draw(self, person: Person, shown: Mapping[str, Any]) -> int:
        """Make a batch of all audited videos and draw its sample, by the plan that was shown. Returns the batch's id.

        Raises:
            RefusedError: The person may not, or the plan is another one by now.
            FormatError: There is nothing to accept.
            FullError: It could not be written.
        """
        _needs(person, Role.ACCEPTOR)
        with self._writing() as db:
            now = self.plan(float(shown["wanted"]), float(shown["confidence"]), shown.get("usual"))
            if any(now[key] != shown.get(key) for key in ("batch", "sample", "allowed")):
                raise RefusedError("Other videos have been audited since the plan was shown: look at the new plan.")
            tasks, secret = self._audited(), secrets.token_hex(16)
            plan = Plan(now["batch"], now["sample"], now["allowed"], now["wanted"], now["confidence"])
            batch = int(
                db.execute(
                    "INSERT INTO batches (at, by, plan, secret) VALUES (?, ?, ?, ?)",
                    (self._clock(), person.name, json.dumps(now), secret),
                ).lastrowid
                or 0
            )
            drawn = set(draw(plan, tasks, f"batch {batch}", secret))
            for key in tasks:
                video, action = key.split("/", 1)
                db.execute(
                    "INSERT INTO samples (batch, video, action, drawn) VALUES (?, ?, ?, ?)",
                    (batch, int(video), action, key in drawn),
                )
            self._all(db, batch, person.name, f"batch {batch}", State.IN_BATCH, None)
            return batch

    def _audited(self) -> dict[str, int]:
        """``video/action`` -> task of all that a batch would hold."""
        return {
            f"{row['id']}/{action['id']}": row["task"]
            for row in self._rows("SELECT id, task, version FROM videos WHERE state = ?", State.AUDITED)
            for action in self.document(row["id"], row["version"])["actions"]
        }

    def batches(self) -> list[dict[str, Any]]:
        """All batches, newest first: plan, sample with verdicts, result, and after it the secret of the draw."""
        return [self._batch(row) for row in self._rows("SELECT * FROM batches ORDER BY id DESC")]

    def _batch(self, row: sqlite3.Row) -> dict[str, Any]:
        sample = self._rows(
            "SELECT video, name, action, good, samples.reason, by FROM samples JOIN videos ON videos.id = video "
            "WHERE batch = ? AND drawn ORDER BY video, action", row["id"],
        )  # fmt: skip
        return {
            "id": row["id"], "at": row["at"], "by": row["by"], "plan": json.loads(row["plan"]), "verdict": row["verdict"],
            "secret": row["secret"] if row["verdict"] else None, "sample": [dict(one) for one in sample],
        }  # fmt: skip

    def judge(
        self, person: Person, batch: int, video: int, action: str, good: bool, reason: str | None
    ) -> dict[str, Any]:
        """Judge one action of a sample; the last verdict, or one defect too many, ends the batch. Returns the batch.

        Raises:
            RefusedError: The person may not, or the batch has ended, or a reason is missing.
            UnknownError: It is not in the sample.
            FullError: It could not be written.
        """
        _needs(person, Role.ACCEPTOR)
        if not good and not (reason or "").strip():
            raise RefusedError("A defect needs a reason.")
        if len(reason or "") > review.MAX_REASON:
            raise RefusedError(f"A reason has at most {review.MAX_REASON} characters.")
        with self._writing() as db:
            row = self._row("SELECT * FROM batches WHERE id = ?", batch, what=f"batch {batch}")
            if row["verdict"] is not None:
                raise RefusedError(f"Batch {batch} is {row['verdict']} already.")
            made = self._row("SELECT annotator FROM videos WHERE id = ?", video, what=f"video {video}")["annotator"]
            if made == person.name and not person.alone:
                raise RefusedError(f"Another person than {person.name}, who annotated the video, judges it.")
            changed = db.execute(
                "UPDATE samples SET good = ?, reason = ?, by = ? WHERE batch = ? AND video = ? AND action = ? AND drawn",
                (good, reason, person.name, batch, video, action),
            ).rowcount
            if not changed:
                raise UnknownError(f"'{action[:40]}' of video {video} is not in the sample of batch {batch}.")
            sample, allowed = self._batch(row)["sample"], json.loads(row["plan"])["allowed"]
            defects = sum(one["good"] == 0 for one in sample)
            verdict = "rejected" if defects > allowed else None
            if verdict is None and all(one["good"] is not None for one in sample):
                verdict = "accepted"
            if verdict is not None:
                db.execute("UPDATE batches SET verdict = ? WHERE id = ?", (verdict, batch))
                state = State.ACCEPTED if verdict == "accepted" else State.OPEN
                why = None if verdict == "accepted" else f"batch {batch}: {defects} defects, {allowed} allowed"
                self._all(db, batch, person.name, f"batch {verdict}", state, why)
            return self._batch(self._row("SELECT * FROM batches WHERE id = ?", batch, what=""))

    def _all(self, db: sqlite3.Connection, batch: int, by: str, what: str, state: State, reason: str | None) -> None:
        """One step of all videos of a batch; defects that were found are told to who opens the video again."""
        for row in self._rows("SELECT * FROM videos WHERE id IN (SELECT video FROM samples WHERE batch = ?)", batch):
            found = self._rows(
                "SELECT action, reason FROM samples WHERE batch = ? AND video = ? AND good = 0", batch, row["id"]
            )
            told = "; ".join([reason or "", *(f"{one['action']}: {one['reason']}" for one in found)]).strip("; ")
            self._step(db, row, by, what, state, told or None, row["annotator"])

    # The file

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is on the disk afterwards, or nothing."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise FullError(
                    f"Nothing was saved: {self._data / DATABASE} cannot be written ({error}). Make room on the disk; the page "
                    "keeps the change and sends it again."
                ) from error

    def _append(
        self, db: sqlite3.Connection, video: int, version: int, by: str, what: str, state: State, reason: str | None,
        operation: str | None, new: Mapping[str, Any],
    ) -> None:  # fmt: skip
        db.execute(
            "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (video, version, self._clock(), by, what, state, reason, operation, _packed(new)),
        )

    def _compare(self, row: sqlite3.Row, version: int) -> None:
        if row["version"] != version:
            raise StaleError(self._newest(row))

    def _newest(self, row: sqlite3.Row) -> dict[str, Any]:
        last = self._row(
            "SELECT at, by FROM revisions WHERE video = ? AND version = ?", row["id"], row["version"], what="revision"
        )
        document = self.document(row["id"], row["version"])
        return {
            "version": row["version"], "state": row["state"], "reason": row["reason"], "annotator": row["annotator"],
            "by": last["by"], "at": last["at"], "document": document,
            "fault": documents.fault(parse_info(_unpacked(row["info"])), document),
        }  # fmt: skip

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def _row(self, query: str, *values: Any, what: str) -> sqlite3.Row:
        rows = self._rows(query, *values)
        if not rows:
            raise UnknownError(f"There is no {what}.")
        row: sqlite3.Row = rows[0]
        return row


def _needs(person: Person, role: Role) -> None:
    if not person.role.includes(role):
        raise RefusedError(f"This needs the role {role}: {person.name} is {person.role}.")


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def _packed(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"), 1)


def _unpacked(data: bytes) -> Any:
    return json.loads(zlib.decompress(data))
