"""Annotations as ST-Human data: ``info.json`` of each video, Parquet, and a list of what is in it with hashes."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stvla_ros import __version__
from stvla_ros.annotate import document
from stvla_ros.annotate.review import State
from stvla_ros.annotate.store import Store
from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.info import INFO, Review, VideoInfo
from stvla_ros.data.st_human.info_json import plain_info, write_info
from stvla_ros.files import digest, written

MANIFEST = "manifest.json"
_TIER = {State.ACCEPTED: "10", State.AUDITED: "01", State.IN_BATCH: "01"}


def infos(store: Store, everything: bool = False) -> Iterator[tuple[VideoInfo, int]]:
    """``info.json`` of all accepted and excluded videos with the version that it is of, by name.

    Args:
        store: The database.
        everything: Also those that are finished but not accepted yet; unfinished ones are left out.

    Raises:
        FormatError: An accepted annotation does not follow the format.
    """
    after: int | None = 0
    found: list[dict[str, Any]] = []
    while after is not None:
        page = store.listed(after)
        found += page["videos"]
        after = page["next"]
    for row in sorted(found, key=lambda row: row["name"]):
        state = State(row["state"])
        entry = store.entry(row["id"])
        if state is State.EXCLUDED:
            yield replace(entry.info, actions=(), excluded=row["reason"]), row["version"]
            continue
        if state is not State.ACCEPTED and not everything:
            continue
        newest = store.opened(row["id"])
        if state is not State.ACCEPTED and newest["fault"] is not None:
            continue
        at = datetime.fromtimestamp(newest["at"], UTC).isoformat(timespec="seconds")
        verdict = Review(_TIER.get(state, "00"), state, newest["version"], newest["by"], at, newest["reason"])  # type: ignore[arg-type]
        actions = newest["document"]["actions"]
        info = document.completed(entry.info, newest["document"], {action["id"]: verdict for action in actions})
        yield info, row["version"]


def zipped(store: Store) -> bytes:
    """The accepted videos as a zip: ``NAME/info.json`` and the manifest. The same annotations give the same bytes."""
    files: dict[str, bytes] = {}
    versions: dict[str, int] = {}
    for info, version in infos(store):
        text = json.dumps(plain_info(info), ensure_ascii=False, indent=1) + "\n"
        files[f"{_safe(info.video.id)}/{INFO}"] = text.encode()
        versions[info.video.id] = version
    files[MANIFEST] = _manifest(versions, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def write(store: Store, output: Path, everything: bool = False) -> int:
    """Write ``NAME/info.json``, the tables as Parquet and the manifest to a new folder. Returns the number of videos.

    Raises:
        ConfigError: The folder holds something, there is nothing to write, or it cannot be written.
    """
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"{output}: wanted a new or an empty folder, found one with files.")
    made = list(infos(store, everything))
    if not made:
        raise ConfigError("No video is accepted yet: there is nothing to write (--everything: all that are finished).")
    hashes: dict[str, str] = {}
    for info, _ in made:
        path = output / _safe(info.video.id) / INFO
        path.parent.mkdir(parents=True)
        write_info(path, info)
        hashes[str(path.relative_to(output))] = digest(path)
    from stvla_ros.data.st_human.tables import write_tables

    write_tables(output / "tables", [info for info, _ in made])
    with written(output / MANIFEST) as part:
        part.write_bytes(_manifest({info.video.id: version for info, version in made}, hashes))
    return len(made)


def _manifest(versions: dict[str, int], hashes: dict[str, str]) -> bytes:
    content = {"tool": "stvla annotate", "version": __version__, "revisions": versions, "sha256": hashes}
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def _safe(name: str) -> str:
    """A video's id as the name of a folder."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".") or "video"
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
