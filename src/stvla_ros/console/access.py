"""Who may use the console: addresses, tokens, origins."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from stvla_ros.config import ConfigError, param
from stvla_ros.tokens import MAX_TOKEN_CHARS, is_loopback, read_token


class Role(StrEnum):
    """What a client may do. From little to much."""

    NONE = "none"
    VIEW = "view"  # see everything, and stop
    OPERATE = "operate"  # also give goals, answer proposals, release a stop


@dataclass(frozen=True)
class TokenConfig:
    """Where the tokens come from. Without any, whoever reaches the page operates, and it is served to this computer only."""

    operate_file: str = param("", "file with the operators' token, mode 600")
    operate_variable: str = param("", "NAME of the environment variable with it")
    view_file: str = param("", "file with the viewers' token, mode 600; empty: there are no mere viewers")
    view_variable: str = param("", "NAME of the environment variable with it")


class Access:
    """Turns tokens into roles.

    Args:
        host: Address that the page is served at.
        config: Where the tokens come from.
        environment: Environment variables.

    Raises:
        ConfigError: A token cannot be read, is short, or is missing although others than this computer are served.
    """

    def __init__(self, host: str, config: TokenConfig, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        operate = _token("operate", config.operate_file, config.operate_variable, variables)
        view = _token("view", config.view_file, config.view_variable, variables)
        if view and not operate:
            raise ConfigError(
                "console.tokens: there is a token for viewers and none for operators: set one for them too."
            )
        if view and hmac.compare_digest(view, operate):
            raise ConfigError("console.tokens: viewers and operators have the same token: make them differ.")
        self.loopback = is_loopback(host)
        if not self.loopback and not operate:
            raise ConfigError(
                f"console.host: {host} can be reached from other computers, and there is no token: whoever reaches the page "
                "could move the arm. Set console.tokens.operate_file or operate_variable, or use 127.0.0.1."
            )
        self._tokens = {Role.OPERATE: operate, Role.VIEW: view}

    @property
    def open(self) -> bool:
        """Whether no token is needed."""
        return not self._tokens[Role.OPERATE]

    def role(self, token: str) -> Role:
        """The role that a token gives. All tokens are compared, each in constant time."""
        given, role = token.encode(errors="surrogatepass")[: 4 * MAX_TOKEN_CHARS], Role.NONE
        for candidate, wanted in self._tokens.items():
            if hmac.compare_digest(given, wanted) and wanted:
                role = candidate
        return Role.OPERATE if self.open else role

    def refusal(self, origin: str | None, host: str | None) -> str | None:
        """Why a connection is refused; None if it is not: :func:`origin_refusal`."""
        return origin_refusal(origin, host, self.loopback)


def origin_refusal(origin: str | None, host: str | None, loopback: bool) -> str | None:
    """Why a connection is refused for the site that opened it; None if it is not.

    A browser says which site opened the connection. Only the page itself may: else any page that the operator
    visits could. A site that makes its own name point to this computer (DNS rebinding) is refused by that name.

    Args:
        origin: Header ``Origin``; None: not from a browser.
        host: Header ``Host``.
        loopback: Whether the page is served to this computer only.
    """
    if origin is None:
        return None
    site, name = urlsplit(origin).netloc, host or ""
    if site.lower() != name.lower():
        return f"The connection comes from another site ({origin[:100]}): open the page's own address."
    if loopback and not is_loopback(urlsplit(f"//{name}").hostname or ""):
        return f"The page is called by a name that is not this computer's ({name[:100]}): use 127.0.0.1."
    return None


def _token(role: str, file: str, variable: str, environment: Mapping[str, str]) -> bytes:
    where = f"console.tokens.{role}"
    return read_token((f"{where}_file", file), (f"{where}_variable", variable), environment)
