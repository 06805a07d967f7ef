"""Who may use the console."""

from __future__ import annotations

from pathlib import Path

import pytest

from stvla_ros.config import ConfigError
from stvla_ros.console.access import Access, Role, TokenConfig
from stvla_ros.tokens import is_loopback

OPERATE, VIEW = "0123456789abcdef-operate", "0123456789abcdef-view"


def secret(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def both() -> Access:
    config = TokenConfig(operate_variable="OP", view_variable="VIEW")
    return Access("0.0.0.0", config, {"OP": OPERATE, "VIEW": f"{VIEW}\n"})


def test_a_token_is_a_role(both: Access) -> None:
    assert both.role(OPERATE) is Role.OPERATE
    assert both.role(VIEW) is Role.VIEW
    for wrong in ("", OPERATE[:-1], f"{OPERATE} ", VIEW.upper(), "x" * 100_000, "\ud800" * 50):
        assert both.role(wrong) is Role.NONE


def test_without_tokens_this_computer_operates() -> None:
    access = Access("127.0.0.1", TokenConfig(), {})
    assert access.open
    assert access.role("") is Role.OPERATE


def test_a_missing_token_of_viewers_is_no_role() -> None:
    access = Access("127.0.0.1", TokenConfig(operate_variable="OP"), {"OP": OPERATE})
    assert not access.open
    assert access.role("") is Role.NONE


def test_a_token_comes_from_a_file_of_one_person(tmp_path: Path) -> None:
    file = secret(tmp_path / "token", f"{OPERATE}\n")
    assert Access("0.0.0.0", TokenConfig(operate_file=file)).role(OPERATE) is Role.OPERATE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_read_is_refused(mode: int, tmp_path: Path) -> None:
    file = secret(tmp_path / "token", OPERATE, mode)
    with pytest.raises(ConfigError, match=f"others may read it \\(mode {mode:o}\\): chmod 600"):
        Access("127.0.0.1", TokenConfig(operate_file=file))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "console.host: 0.0.0.0 can be reached from other computers, and there is no token"),
        ({"view_variable": "VIEW"}, "a token for viewers and none for operators"),
        ({"operate_variable": "OP", "view_variable": "OP"}, "the same token"),
        (
            {"operate_variable": "NONE"},
            "operate_variable: NONE: wanted a token of 16 to 200 printable characters, found 0",
        ),
        ({"operate_variable": "SHORT"}, "found 5"),
        ({"operate_variable": "OP", "operate_file": "x"}, "both set: which of the two"),
        ({"operate_file": "/nowhere/token"}, "cannot be read \\(No such file"),
    ],
)
def test_what_is_refused(config: dict[str, str], sentence: str) -> None:
    environment = {"OP": OPERATE, "VIEW": VIEW, "SHORT": "short"}
    with pytest.raises(ConfigError, match=sentence):
        Access("0.0.0.0", TokenConfig(**config), environment)


def test_no_sentence_shows_a_token() -> None:
    environment = {"OP": "short-secret", "LONG": "s" * 300}
    for name in environment:
        with pytest.raises(ConfigError) as refused:
            Access("0.0.0.0", TokenConfig(operate_variable=name), environment)
        assert environment[name] not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.2", False),
        ("localhost.evil.com", False),
    ],
)
def test_loopback(host: str, own: bool) -> None:
    assert is_loopback(host) is own


@pytest.mark.parametrize(
    ("origin", "host", "sentence"),
    [
        (None, "127.0.0.1:8080", None),  # no browser
        ("http://127.0.0.1:8080", "127.0.0.1:8080", None),
        ("http://localhost:8080", "localhost:8080", None),
        ("http://[::1]:8080", "[::1]:8080", None),
        ("https://evil.example", "127.0.0.1:8080", "another site"),
        ("http://127.0.0.1:9999", "127.0.0.1:8080", "another site"),
        ("null", "127.0.0.1:8080", "another site"),
        ("http://evil.example:8080", "evil.example:8080", "not this computer's"),
        ("", "", "not this computer's"),
    ],
)
def test_other_sites_are_refused(origin: str | None, host: str, sentence: str | None) -> None:
    said = Access("127.0.0.1", TokenConfig(), {}).refusal(origin, host)
    assert said is None if sentence is None else sentence in (said or "")


def test_with_a_token_the_console_may_have_any_name(both: Access) -> None:
    assert both.refusal("http://robot.lab:8080", "robot.lab:8080") is None
    assert both.refusal("http://evil.example", "robot.lab:8080")
