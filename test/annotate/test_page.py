"""The built page belongs to its sources, and projects as Python does."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from stvla_ros.annotate.server import PAGE
from stvla_ros.data.st_human.info import Camera
from stvla_ros.data.st_human.info_json import project

WEB = Path(__file__).resolve().parents[2] / "web" / "annotate"
BESIDE = ("index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts")


def digest(web: Path) -> str:
    """As ``vite.config.ts`` does when it builds."""
    files = [*(web / name for name in BESIDE), *(path for path in (web / "src").rglob("*") if path.is_file())]
    found = hashlib.sha256()
    for name, path in sorted((path.relative_to(web).as_posix(), path) for path in files):
        found.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def test_the_built_page_is_that_of_the_sources() -> None:
    stamped = (PAGE / "sources.sha256").read_text().strip()
    assert stamped == digest(WEB), "the page is older than web/annotate: run make web, and commit what it builds"


def test_the_page_needs_no_other_site() -> None:
    page = (PAGE / "index.html").read_text()
    assert sorted(re.findall(r'(?:src|href)="([^"]+)"', page)) == ["./app.css", "./app.js", "data:,"]
    assert {path.name for path in PAGE.iterdir()} == {
        "index.html", "app.js", "app.css", "sources.sha256", "LICENSES.md",
    }  # fmt: skip


def test_python_projects_as_the_page_does() -> None:
    """The same numbers are in ``model.test.ts``."""
    camera = Camera((600.0, 610.0, 320.0, 240.0), tuple(float(i == j) for i in range(4) for j in range(4)))
    assert project(camera, [(0.1, -0.05, 0.8)])[0] == pytest.approx([395.0, 201.875], abs=1e-6)
    assert "toEqual([395, 201.875])" in (WEB / "src" / "model.test.ts").read_text()
