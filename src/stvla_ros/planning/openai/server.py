"""Address and settings of the server, checked once."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import httpx2

from stvla_ros.config import ConfigError, param

HERE = ("localhost", "127.0.0.1", "::1")
COMPLETIONS = "/chat/completions"
_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,60}")


@dataclass(frozen=True)
class ServerConfig:
    """Settings of a server with OpenAI's API."""

    base_url: str = param("http://127.0.0.1:8000/v1", "address including the version: http(s)://HOST[:PORT]/v1")
    model: str = param("", "name of the model at the server, e.g. Qwen/Qwen3-VL-8B-Instruct")
    token_variable: str = param("", "NAME of the environment variable with the server's token; empty: none is sent")
    plain_token: bool = param(False, "send the token to another machine even without TLS (http://)")
    ca_file: str = param("", "PEM file with the authority that signed the server's certificate; empty: the system's")
    reply_deadline_s: float = param(30.0, "time limit of a complete answer [s]", ge=0.1, le=3600.0)
    max_reply_bytes: int = param(1_000_000, "longer answers are refused", ge=1000, le=100_000_000)
    image_format: str = param("png", "format of sent images; jpeg is smaller but lossy", choices=("png", "jpeg"))
    structured: bool = param(
        True, "constrain answers to a JSON schema (response_format); off for servers that refuse it"
    )
    temperature: float = param(
        0.0, "sampling temperature; negative: not sent, for models that accept none", ge=-1.0, le=2.0
    )
    token_limit: str = param(
        "max_tokens", "name of the field that limits the answer", choices=("max_tokens", "max_completion_tokens")
    )


@dataclass(frozen=True)
class Address:
    """A checked server address.

    Attributes:
        base: URL including the version, without a trailing slash.
        host: Host for messages.
        token: Empty: none. Never shown.
        tls: Verifies certificate and host name; None without TLS.
    """

    base: str
    host: str
    token: str
    tls: ssl.SSLContext | None

    @property
    def url(self) -> str:
        """URL of the chat completions."""
        return f"{self.base}{COMPLETIONS}"

    def __repr__(self) -> str:
        return f"Address({self.url})"

    def without_token(self, text: str) -> str:
        """A text that may be shown: servers quote what they receive."""
        return text.replace(self.token, "***") if self.token else text


def address(config: ServerConfig, where: str) -> Address:
    """Check the settings.

    Raises:
        ConfigError: The URL is invalid, the model has no name, the variable is not set, the token would be sent
            unencrypted, or the CA file is unusable.
    """
    url = _url(config.base_url, f"{where}.base_url")
    if not config.model.strip():
        raise ConfigError(
            f"{where}.model: wanted the model's name at {url.netloc}, got nothing (its /v1/models lists them)."
        )
    token = _token(config.token_variable, f"{where}.token_variable")
    if token and url.scheme == "http" and url.hostname not in HERE and not config.plain_token:
        raise ConfigError(
            f"{where}.base_url: the token would go to {url.hostname} unencrypted: use https, or set plain_token to true in a "
            "network that you trust."
        )
    tls = _tls(config.ca_file, f"{where}.ca_file") if url.scheme == "https" else None
    return Address(url.geturl(), url.netloc, token, tls)


def _url(text: str, where: str) -> SplitResult:
    """The URL including the version. The URL of the completions is accepted too."""
    base = text.strip().rstrip("/").removesuffix(COMPLETIONS).rstrip("/")
    url = _split(base)
    if url is None or url.scheme not in ("http", "https") or url.query or url.fragment:
        without = "://" not in base and _split(f"http://{base}") is not None
        meant = f" Did you mean 'http://{base}'?" if without else ""
        raise ConfigError(f"{where}: wanted http(s)://HOST[:PORT]/v1 (an IPv6 HOST in []), got '{text}'.{meant}")
    if url.username is not None:
        raise ConfigError(f"{where}: the address must not contain a user or password: use token_variable.")
    return url


def _split(text: str) -> SplitResult | None:
    """Parts of a usable URL; None for any other."""
    try:
        url = urlsplit(text)
        httpx2.URL(text)
        return url if url.hostname and (url.port is None or url.port > 0) else None
    except (ValueError, httpx2.InvalidURL):
        return None


def _token(variable: str, where: str) -> str:
    if not variable:
        return ""
    token = os.environ.get(variable, "").strip()
    if not token and not _NAME.fullmatch(variable):  # probably the token itself, which must not be shown
        raise ConfigError(
            f"{where}: wanted the NAME of an environment variable, such as MY_TOKEN, that is set; found none."
        )
    if not token:
        raise ConfigError(f"{where}: the environment variable {variable} is not set: export {variable}=... first.")
    if not token.isascii() or not token.isprintable() or set(" '\"") & set(token):
        raise ConfigError(
            f"{where}: the value of {variable} is not a token: it has blanks, quotes or non-ASCII characters."
        )
    return token


def _tls(ca_file: str, where: str) -> ssl.SSLContext:
    if ca_file and not Path(ca_file).expanduser().is_file():
        raise ConfigError(f"{where}: there is no file {ca_file}.")
    try:
        return ssl.create_default_context(cafile=str(Path(ca_file).expanduser()) if ca_file else None)
    except ssl.SSLError as error:
        raise ConfigError(f"{where}: {ca_file} contains no certificate in PEM format ({error.reason}).") from error
