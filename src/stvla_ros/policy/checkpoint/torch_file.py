"""Files of ``torch.save``: tensors and plain values only; what would execute code is refused and never executed."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from stvla_ros.config import ConfigError

PREFIX = "module."
"""What training on several GPUs puts before every name."""

_ZIP, _PICKLE, _LFS = b"PK\x03\x04", b"\x80", b"version https://git-lfs"
_NAMED = re.compile(r"(?:GLOBAL|Unsupported class) ([\w.]+)")


def read_torch_file(path: Path) -> Mapping[str, Any]:
    """The dictionary in a file, its tensors on the CPU and mapped from the disk where the format allows it.

    Raises:
        ConfigError: Missing, damaged, cut off, no dictionary, a TorchScript archive, or a pickle that does more than
            hold tensors; nothing of it was executed.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: wanted a checkpoint, found {'a folder' if path.is_dir() else 'nothing'}.")
    is_zip = zipfile.is_zipfile(path)
    _check_kind(path, is_zip)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # damaged files raise nearly anything
        raise ConfigError(_refusal(path, error)) from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: wanted a dictionary of weights, found {type(content).__name__}.")
    return content


def _check_kind(path: Path, is_zip: bool) -> None:
    with path.open("rb") as file:
        start = file.read(len(_LFS))
    if not start:
        raise ConfigError(f"{path}: the file is empty.")
    if start == _LFS:
        raise ConfigError(f"{path}: a pointer of Git LFS, not the file itself: fetch it with git lfs pull.")
    if start.startswith(_ZIP) and not is_zip:
        raise ConfigError(f"{path}: the file is cut off, its end is missing: copy or download it again.")
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("constants.pkl") for name in names):
            raise ConfigError(
                f"{path}: a TorchScript archive, which holds code, is not read: wanted the weights alone, as "
                "safetensors or as a dictionary of tensors."
            )


def _refusal(path: Path, error: Exception) -> str:
    """One sentence; torch's own is a page and advises to execute the file."""
    named = _NAMED.search(str(error)) if isinstance(error, UnpicklingError) else None
    if named:
        return (
            f"{path}: its pickle asks for '{named[1]}', so it would do more than hold tensors; it was not executed. "
            "Save only the weights, or get the file from its authors."
        )
    with path.open("rb") as file:
        what = "a pickle that torch.save did not write" if file.read(1) == _PICKLE else "not a file of torch.save"
    return (
        f"{path}: {what}, or damaged ({type(error).__name__}); nothing of it was executed. Copy or download it again."
    )


def tensors(content: object, where: str) -> dict[str, torch.Tensor]:
    """A dictionary of tensors without the prefix of training on several GPUs.

    Raises:
        ConfigError: Something else is in it, it is empty, or only some names have the prefix.
    """
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"{where}: wanted a dictionary of tensors, found {_what(content)}.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ConfigError(f"{where}: wanted tensors only, but '{name}' is {_what(value)}.")
    prefixed = [name for name in content if name.startswith(PREFIX)]
    if not prefixed:
        return dict(content)
    if len(prefixed) < len(content):
        bare = min(content.keys() - set(prefixed))
        raise ConfigError(f"{where}: '{bare}' lacks the prefix '{PREFIX}' that {len(prefixed)} other names have.")
    return {name.removeprefix(PREFIX): value for name, value in content.items()}


def _what(value: object) -> str:
    return "an empty dictionary" if isinstance(value, Mapping) and not value else type(value).__name__
