"""Servers are asked again soon."""

import pytest

from stvla_ros.planning.openai import chat


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "PAUSES_S", (0.01, 0.02))
