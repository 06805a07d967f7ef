"""Tokens of servers: a file that only its owner may read, or an environment variable; and which addresses need none."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from stvla_ros.config import ConfigError

MIN_TOKEN_CHARS, MAX_TOKEN_CHARS = 16, 200


def read_token(file: tuple[str, str], variable: tuple[str, str], environment: Mapping[str, str]) -> bytes:
    """The token that one of two settings names.

    Args:
        file: Name of the setting for messages, and its value: a file with mode 600; empty: none.
        variable: The same of the name of an environment variable.
        environment: Environment variables.

    Returns:
        Empty if none is configured.

    Raises:
        ConfigError: Both are set; the file cannot be read, or others may read it; the token is short.
    """
    if file[1] and variable[1]:
        raise ConfigError(f"{file[0]} and {variable[0]} are both set: which of the two?")
    if file[1]:
        where = f"{file[0]}: {file[1]}"
        text = _read(Path(file[1]).expanduser(), where)
    elif variable[1]:
        where, text = f"{variable[0]}: {variable[1]}", environment.get(variable[1], "")
    else:
        return b""
    token = text.strip()
    if not MIN_TOKEN_CHARS <= len(token) <= MAX_TOKEN_CHARS or not token.isprintable():
        raise ConfigError(
            f"{where}: wanted a token of {MIN_TOKEN_CHARS} to {MAX_TOKEN_CHARS} printable characters, found {len(token)}: "
            "`openssl rand -hex 16` makes one."
        )
    return token.encode()


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _read(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(4 * MAX_TOKEN_CHARS + 16)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror}).") from error
    if mode & 0o077:
        raise ConfigError(f"{where}: others may read it (mode {mode:o}): chmod 600 {path}, and make a new token.")
    return text.decode(errors="replace")
