"""What several tests of the console need."""

from __future__ import annotations

import pytest

from stvla_ros.console import replaying


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays at normal priority: at their own there is no telling, on a busy machine, when they end."""
    monkeypatch.setattr(replaying, "run_when_idle", lambda _: None)
