"""What several tests of the console need."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays at normal priority: at their own there is no telling, on a busy machine, when they end."""
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None, raising=False)
