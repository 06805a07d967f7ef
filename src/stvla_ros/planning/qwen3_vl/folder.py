"""Find a checkpoint: a local folder, or a repository of the Hugging Face hub, downloaded once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from stvla_ros import files as stored
from stvla_ros.config import ConfigError

FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja")
"""Files to download from a repository: never a pickle, never code."""


def find(model: str, what: str, where: str, how_to_get: str) -> Path:
    """The folder of a checkpoint.

    Args:
        model: A folder, or a repository id on the hub (``owner/name``), read from the download cache if it is there and
            downloaded otherwise.
        what: Kind of checkpoint, for messages.
        where: Name of the setting, for messages.
        how_to_get: Advice if it is not found.

    Raises:
        ConfigError: Nothing given, or not found.
    """
    if not model.strip():
        raise ConfigError(f"{where}: wanted the folder of {what}, got nothing. {how_to_get}")
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not _is_hub_id(model):
        raise ConfigError(f"{where}: wanted the folder of {what}, {folder} is not one. {how_to_get}")
    try:
        return Path(snapshot_download(model, allow_patterns=list(FILES), local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        pass  # not or only partly downloaded
    try:
        return Path(snapshot_download(model, allow_patterns=list(FILES)))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ConfigError(
            f"{where}: '{model}' is neither a local folder nor in the download cache, and the Hugging Face hub could not "
            f"be reached or does not have it. {how_to_get}"
        ) from error


def read_json(file: Path, where: str) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ConfigError: The file is missing or contains something else.
    """
    if not file.exists() and not file.is_symlink():
        raise ConfigError(f"{where}: {file.parent} lacks {file.name}: copy it from the checkpoint's repository.")
    with stored.setting(where):
        content = stored.read_json(file)
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: {file} holds a {type(content).__name__}, wanted settings: download it again.")
    return content


def weight_files(folder: Path, stem: str, where: str, how_to_get: str) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint, ``STEM.safetensors`` or the parts that ``STEM.safetensors.index.json`` names.

    Raises:
        ConfigError: There are none (a pickle is mentioned but never read), or a part is missing.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        return (_checked(single, where),)
    if not index.is_file():
        pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
        found = f" ({pickled[0]} is a pickle, which is never read)" if pickled else ""
        raise ConfigError(f"{where}: {folder} lacks {single.name}{found}. {how_to_get}")
    names = read_json(index, where).get("weight_map", {})
    parts = tuple(folder / str(name) for name in sorted(set(names.values()))) if isinstance(names, dict) else ()
    missing = [part.name for part in parts if not part.is_file()]
    if missing or not parts:
        what = f"{missing[0]}, which {index.name} names" if missing else "the parts of its weights"
        raise ConfigError(f"{where}: {folder} lacks {what}. {how_to_get}")
    return tuple(_checked(part, where) for part in parts)


def check_texts(folder: Path, names: Iterable[str], where: str) -> None:
    """Check that existing files of a folder are not placeholders of the real ones (:mod:`stvla_ros.files`).

    Raises:
        ConfigError: One is a placeholder, which libraries only report as invalid JSON.
    """
    with stored.setting(where):
        for name in names:
            if (folder / name).is_file():
                stored.check_file(folder / name, f"a {name}", text=True)


def _checked(file: Path, where: str) -> Path:
    with stored.setting(where):
        stored.check_file(file, "a safetensors file")
    return file


def _is_hub_id(model: str) -> bool:
    owner, slash, name = model.partition("/")
    return bool(owner and slash and name) and "/" not in name and owner[0] not in ".~" and os.sep not in name
