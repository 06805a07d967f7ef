"""Chromium for tests of web pages, without a GPU. These run where Chromium and Playwright are installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest

CHROMIUM = os.environ.get("STVLA_CHROMIUM") or shutil.which("chromium")
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
         "--disable-dev-shm-usage"]  # fmt: skip

_MISSING = [
    *(["no Chromium: install it, or name it in STVLA_CHROMIUM"] if CHROMIUM is None else []),
    *(["Playwright is not installed: pip install playwright"] if find_spec("playwright") is None else []),
]
needs_chromium = pytest.mark.skipif(bool(_MISSING), reason="; ".join(_MISSING))


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser of Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
