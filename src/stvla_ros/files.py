"""Files as they arrive: recognises wrong files, reads JSON in any encoding, writes completely or not at all."""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from stvla_ros.config import ConfigError

HEAD_BYTES = 1024
"""Number of bytes examined; a Git LFS pointer has about 130 bytes."""

ZIP = b"PK\x03\x04"

_LFS = (b"version https://git-lfs", b"version https://hawser.github.com")
_ANNEX = b"/annex/objects/"
_ARCHIVES = {
    b"\x1f\x8b": "a gzip archive",
    ZIP: "a zip archive",
    b"PK\x05\x06": "an empty zip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\x00": "an xz archive",
    b"(\xb5/\xfd": "a zstd archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
}
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EROFS)
_MAX_REASON_CHARS = 300
_AGAIN, _DOWNLOAD = ": copy or download it again", ": download it again"


def check_file(
    path: Path, wanted: str, error: type[ConfigError] = ConfigError, *, text: bool = False, inside: bytes = b""
) -> None:
    """Raise unless a file exists, is readable, and does not look like something that often replaces the right file.

    It recognises Git LFS and git-annex pointers, web pages, archives, plain text, empty files and files of zeros. They
    have nothing to do with the wanted format, so one function serves all formats.

    Args:
        path: The file.
        wanted: What should be there, for the message: ``a checkpoint``.
        error: Type of the exception.
        text: Whether the format is text; otherwise text means a wrong file.
        inside: First bytes of the archive that the format itself uses (:data:`ZIP` for ``.npz``).

    Raises:
        ConfigError: As ``error``: the message says what was found.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except IsADirectoryError:
        raise error(f"{path}: wanted {wanted}, found a folder.") from None
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{path}: wanted {wanted}, found {absent(path)}") from None
    except (OSError, ValueError) as unreadable:  # ValueError: a name with a zero byte
        raise error(f"{path}: cannot be read ({said(unreadable)}).") from unreadable
    if found := disguise(head, wanted, text=text, inside=inside):
        raise error(f"{path}: {found}.")


def absent(path: Path) -> str:
    """``nothing``, with the reason if known: a broken link, a missing folder, or a similar name. Ends a sentence.

    Never raises.
    """
    try:
        if path.is_symlink():
            target = os.readlink(path)
            annex = ": fetch it with git annex get" if ".git/annex/" in target else ""
            return f"nothing: it is a link to {target}, which is not there{annex}."
        if str(path).startswith("~"):
            return f"nothing: write the home folder out, {path.expanduser()}."
        there = next(place for place in path.absolute().parents if place.exists())
        if there != path.absolute().parent:
            return f"nothing: {there} has no {path.absolute().relative_to(there).parts[0]}."
        if not there.is_dir():
            return f"nothing: {there} is a file."
        digits = str.maketrans("", "", "0123456789")  # a name with another number is no misspelling
        others = [n for n in os.listdir(there) if n.translate(digits) != path.name.translate(digits)]
        alike = difflib.get_close_matches(path.name, others, n=1, cutoff=0.75)
    except (OSError, ValueError, RuntimeError, StopIteration):  # RuntimeError: the home folder is unknown
        return "nothing."
    return f"nothing. Did you mean '{alike[0]}'?" if alike else "nothing."


def disguise(head: bytes, wanted: str = "the file itself", *, text: bool = False, inside: bytes = b"") -> str | None:
    """What a file is instead of the wanted one, by its first bytes, and what to do; None if nothing is recognised.

    Args:
        head: The first :data:`HEAD_BYTES`, or all of a shorter file.
        wanted: As for :func:`check_file`.
        text: As for :func:`check_file`.
        inside: As for :func:`check_file`.
    """
    if not head:
        return f"the file is empty{_AGAIN}"
    if head.startswith(_LFS):
        return "a pointer of Git LFS, not the file itself: fetch it with git lfs pull"
    if head.startswith(_ANNEX) or (head.startswith(b"../") and _ANNEX in head[:200]):
        return "a pointer of git-annex, not the file itself: fetch it with git annex get"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:200].lower()
    if start.startswith(_PAGES) or (start.startswith(b"<?xml") and b"<html" in start):
        return f"a web page, not {wanted}: its address wants a login or a link for downloads; download it again"
    if start.startswith(b"<?xml") and b"<error>" in start:
        return f"a server's error message, not {wanted}{_DOWNLOAD}"
    for magic, what in _ARCHIVES.items():
        if head.startswith(magic) and not (inside and magic.startswith(inside[:2])):
            return f"{what}, not {wanted}: unpack it first"
    if head[257:262] == b"ustar":
        return f"a tar archive, not {wanted}: unpack it first"
    if len(head) >= 64 and not any(head):
        return f"its first {len(head)} bytes are zeros: a download that did not finish{_DOWNLOAD}"
    if not text and (words := _text(head)):
        return f"text, not {wanted}; it begins '{words}'{_DOWNLOAD}"
    return None


def _text(head: bytes) -> str:
    """The first words, if everything is printable text."""
    try:
        words = head[:200].decode("ascii")
    except UnicodeDecodeError:
        return ""
    return " ".join(words.split())[:40] if all(c.isprintable() or c in "\t\r\n" for c in words) else ""


def read_json(path: Path, error: type[ConfigError] = ConfigError, wanted: str = "a JSON file") -> Any:
    """The content of a JSON file: UTF-8 with or without byte order mark, UTF-16 or UTF-32.

    Raises:
        ConfigError: As ``error``: missing, the wrong file (:func:`check_file`), of another encoding, or not JSON.
    """
    check_file(path, wanted, error, text=True)
    try:
        data = path.read_bytes()
    except OSError as unreadable:
        raise error(f"{path}: cannot be read ({said(unreadable)}).") from unreadable
    return parse_json(data, f"{path}", error)


def parse_json(data: bytes | str, where: str, error: type[ConfigError] = ConfigError) -> Any:
    """JSON from bytes or text, as :func:`read_json`; ``where`` begins the message."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as wrong:
        raise error(f"{where}: not valid JSON ({_why_no_json(wrong)}).") from wrong


def read_json_lines(
    path: Path, error: type[ConfigError] = ConfigError, wanted: str = "a file of JSON lines"
) -> Iterator[Any]:
    """Values of a ``.jsonl`` file, in order; empty lines are skipped.

    Raises:
        ConfigError: As ``error``: as for :func:`read_json`; the message names the line.
    """
    check_file(path, wanted, error, text=True)
    try:
        data = path.read_bytes()
        coding = json.detect_encoding(data[:4])
        lines = data.decode(coding).split("\n")
    except OSError as unreadable:
        raise error(f"{path}: cannot be read ({said(unreadable)}).") from unreadable
    except UnicodeDecodeError as wrong:
        raise error(f"{path}: not valid JSON ({_why_no_json(wrong)}).") from wrong
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield parse_json(line, f"{path}: line {number}", error)


def _why_no_json(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return (
            f"byte {error.start} is 0x{error.object[error.start]:02x}, which is no {error.encoding}: save it as UTF-8"
        )
    if isinstance(error, json.JSONDecodeError) and error.pos >= len(error.doc.rstrip()):
        return f"it ends too early, in line {error.lineno}{_AGAIN}"
    return said(error)


def said(error: BaseException) -> str:
    """The message of a library or the system as part of a sentence: one line, not too long, never empty."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    return words.rstrip(".")[:_MAX_REASON_CHARS] or type(error).__name__


@contextmanager
def written(path: Path, error: type[ConfigError] = ConfigError) -> Iterator[Path]:
    """A temporary name to write to. On success it becomes ``path``, so that no reader ever sees half a file.

    Raises:
        ConfigError: As ``error``: no room, no permission, or a folder in the way. Nothing is left, and ``path`` is
            unchanged.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as wrong:
        _not_written(path, wrong, error)
    finally:
        with suppress(OSError):  # not there, or below what is no folder
            part.unlink()


def outside_cause(error: OSError) -> str | None:
    """One sentence if an operation on a file failed for want of room or permission; None for a defect of ours."""
    if error.errno in _NO_ROOM:
        return f"{error.filename or 'a file'}: cannot be written ({said(error)}): make room and run it again."
    if error.errno in _NOT_ALLOWED and error.filename is not None:
        return f"{error.filename}: cannot be opened ({said(error)})."
    return None


def _not_written(path: Path, wrong: OSError, error: type[ConfigError]) -> NoReturn:
    full = wrong.errno in _NO_ROOM or wrong.errno is None  # None: NumPy, for a file that is too short
    advice = ": make room and run it again" if full else ""
    raise error(f"{path}: cannot be written ({said(wrong)}){advice}.") from wrong


@contextmanager
def setting(name: str, advice: str = "") -> Iterator[None]:
    """Puts the setting that named a file before every ConfigError of the block, and replaces its advice."""
    try:
        yield
    except ConfigError as error:
        words = str(error)
        for own in (_AGAIN, _DOWNLOAD) if advice else ():
            words = words.replace(own, "")
        raise type(error)(f"{name}: {words} {advice}".removeprefix(": ").rstrip()) from error


DAMAGED = (
    OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, SyntaxError, OverflowError, MemoryError,
    NotImplementedError, RuntimeError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Exceptions that the readers of ``.npy`` and ``.npz`` raise for damaged files."""


def read_arrays(
    path: Path, error: type[ConfigError] = ConfigError, wanted: str = "arrays of NumPy"
) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a ``.npz`` file by name, or the array of a ``.npy`` file under the name ``""``; never objects.

    Raises:
        ConfigError: As ``error``: missing, the wrong file, damaged, or with objects in it, which are never read.
    """
    check_file(path, wanted, error, inside=ZIP)
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"": content}
        with content:
            return {name: content[name] for name in content.files}
    except DAMAGED as wrong:
        if "allow_pickle" in str(wrong):
            raise error(f"{path}: holds Python objects, which are never read: save plain arrays of numbers.") from wrong
        raise error(f"{path}: wanted {wanted}, found a damaged file ({said(wrong)}).") from wrong


def read_image(
    path: Path, error: type[ConfigError] = ConfigError, wanted: str = "an image", *, grey: bool = False
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB, or (H, W) with ``grey``. Palettes are resolved, 16 bits become 8, transparency is dropped.

    Raises:
        ConfigError: As ``error``: missing, the wrong file, cut off or damaged.
    """
    import cv2

    check_file(path, wanted, error)
    try:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB)
    except cv2.error as wrong:
        raise error(f"{path}: wanted {wanted}, found one that cannot be read ({said(wrong)}).") from wrong
    if image is None:
        raise error(f"{path}: wanted {wanted}, found a damaged or cut off file, or another format: copy it again.")
    return np.asarray(image, np.uint8)


def write_image(path: Path, rgb: npt.NDArray[np.uint8]) -> None:
    """Write (H, W, 3) RGB as PNG.

    Raises:
        OSError: It cannot be written; OpenCV's own writer only returns False.
    """
    import cv2

    done, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"{path}: not an image that can be written as PNG: {rgb.dtype} {rgb.shape}")
    path.write_bytes(data.tobytes())


def digest(path: Path, suffixes: tuple[str, ...] = ()) -> str:
    """SHA-256 of a file, or of names and contents of all files below a folder; with ``suffixes``, of those files only."""
    if path.is_file():
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        if not suffixes or file.suffix in suffixes:
            total.update(f"{file.relative_to(path)}\0{digest(file)}\0".encode())
    return total.hexdigest()


def keep_settings(path: Path, settings: Mapping[str, Any], holds: str) -> None:
    """Write the settings of a folder's content, or check that they are the same: one folder never mixes two settings.

    Args:
        path: ``settings.json`` in the folder.
        settings: Plain values.
        holds: Content of the folder, for the message: ``episodes run``.

    Raises:
        ConfigError: The file has other settings or something else, or it cannot be written.
    """
    wanted = json.loads(json.dumps(settings))
    if path.exists():
        with setting("", "Choose another --output or delete it."):
            found = read_json(path)
        if not isinstance(found, dict):
            raise ConfigError(
                f"{path}: wanted settings, found {type(found).__name__}: choose another --output or delete it."
            )
        if found != wanted:
            differing = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
            raise ConfigError(
                f"{path.parent}: holds {holds} with other settings ({', '.join(differing)}): choose another --output or "
                "delete it."
            )
    with written(path) as part:
        part.write_text(json.dumps(wanted, indent=2) + "\n")
