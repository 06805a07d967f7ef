"""Reads files of ``torch.save``: tensors and plain values only. A file that would execute code is refused."""

from __future__ import annotations

import argparse
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath, PureWindowsPath
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from stvla_ros.config import ConfigError
from stvla_ros.files import ZIP, check_file, said
from stvla_ros.pickled_arrays import STAND_INS, PickleError, StoredArray, plain
from stvla_ros.weights import is_safetensors, read_tensors

PREFIX = "module."
"""Prefix of every name after training on several GPUs."""

COUNTER = "n_averaged"
"""Counter that ``torch.optim.swa_utils.AveragedModel`` stores with its weights."""

COMPILED = "_orig_mod."
"""Prefix that ``torch.compile`` puts before the names of a module, of the whole network or a part of it."""

WRAPPERS = (PREFIX, "model.", "network.", "net.", "policy.")
"""Names of a module that wraps the network, for several GPUs and in Lightning's and others' training code."""

KEYS = ("weight", "state_dict", "model_state_dict", "model", "module", "network")
"""Keys under which training code stores weights: the published codes, Lightning, PyTorch's examples, DeepSpeed."""

_PICKLE = b"\x80"
_NAMED = re.compile(r"(?:GLOBAL|Unsupported class) ([\w.]+)")
_ACTS = ("os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "runpy", "importlib", "pty", "ctypes")
"""Modules whose functions can do harm. If a file asks for them or a built-in, no message says how to run it."""


def _emptied(kind: type) -> Callable[..., Any]:
    """Replaces a kind of container that is created empty and filled afterwards."""
    return lambda *_: kind()


_PLAIN: Mapping[str, Any] = {
    **STAND_INS,
    "stvla_ros.pickled_arrays.StoredArray": StoredArray,  # PyTorch fills only what it knows by a name
    **{
        f"{module}.{kind.__name__}": _emptied(kind)
        for module in ("builtins", "__builtin__")
        for kind in (list, dict, int, float, bool, str, bytes, tuple)
    },
    "collections.defaultdict": _emptied(dict),
    "collections.deque": _emptied(list),
    "argparse.Namespace": argparse.Namespace,
    "types.SimpleNamespace": SimpleNamespace,
    **{
        f"{module}.{name}": PureWindowsPath if "Windows" in name else PurePosixPath
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
    },
    **{f"numpy.{name}": getattr(np, name.rstrip("_")) for name in ("float16", "float32", "float64", "int32", "int64")},
}
"""Full name in a pickle -> its replacement: plain data that training scripts store with the weights."""


def read_torch_file(path: Path) -> Mapping[str, Any]:
    """The dictionary in a file, with tensors on the CPU, memory-mapped where the format allows it.

    NumPy numbers and arrays, ``argparse.Namespace``, paths and standard containers are read too. So is a safetensors
    file, whatever its name.

    Raises:
        ConfigError: The file is missing, damaged or cut off, no dictionary, a TorchScript archive, or a pickle that
            does more than hold data; nothing of it was executed.
    """
    check_file(path, "a checkpoint", inside=ZIP)
    with path.open("rb") as file:
        start = file.read(16)
    if is_safetensors(start):
        return read_tensors(path)[0]
    is_zip = _check_kind(path, start)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(v, k) for k, v in _PLAIN.items()]):
            warnings.simplefilter("ignore")
            if path.suffix == ".safetensors":  # by this name PyTorch would not look at the content
                with path.open("rb") as file:
                    content = plain(torch.load(file, map_location="cpu", weights_only=True))
            else:
                content = plain(torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip))
    except Exception as error:  # damaged files raise almost anything
        raise ConfigError(_refusal(path, error, is_zip)) from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: wanted a dictionary of weights, found {type(content).__name__}.")
    return content


def _check_kind(path: Path, start: bytes) -> bool:
    """Whether it is a zip archive, as newer files are. Raises ConfigError for another or a damaged archive."""
    try:
        is_zip = zipfile.is_zipfile(path)
        names = zipfile.ZipFile(path).namelist() if is_zip else []
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ConfigError(f"{path}: a damaged zip archive ({said(error)}): copy or download it again.") from error
    if start.startswith(ZIP) and not is_zip:
        raise ConfigError(f"{path}: the file is cut off, its end is missing: copy or download it again.")
    if is_zip:
        if any(name.endswith("constants.pkl") for name in names):
            raise ConfigError(
                f"{path}: this is a TorchScript archive, which holds code: wanted only the weights, as safetensors or "
                "as a dictionary of tensors."
            )
        if not any(name.endswith("data.pkl") for name in names):
            raise ConfigError(
                f"{path}: this zip archive is no file of torch.save; it holds "
                f"{', '.join(map(repr, names[:3])) or 'nothing'}. If the checkpoint is inside, unpack it first."
            )
    return is_zip


def _refusal(path: Path, error: Exception, is_zip: bool) -> str:
    """Why a file was refused, in short; PyTorch's own message is a page long and suggests executing the file."""
    named = _NAMED.search(str(error)) if isinstance(error, UnpicklingError) else None
    if named:
        refused = f"{path}: its pickle asks for '{named[1]}', so it does more than hold tensors; it was not executed."
        if "." not in named[1] or named[1].split(".")[0] in _ACTS:  # torch leaves "builtins." out
            return f"{refused} Ask its authors for a file with the weights only."
        return f"{refused} Where it was trained, save only the weights: {_how_to_save(path, is_zip)}."
    if isinstance(error, PickleError):
        return (
            f"{path}: its pickle holds more than plain values ({error}); nothing was executed. Save only the weights."
        )
    if "Unsupported operand" in str(error):
        return (
            f"{path}: damaged, or pickled with another protocol than torch.save's default; nothing was executed. Save "
            "it again without pickle_protocol."
        )
    with path.open("rb") as file:
        what = "a pickle that torch.save did not write" if file.read(1) == _PICKLE else "not a file of torch.save"
    return f"{path}: {what}, or damaged ({type(error).__name__}); nothing was executed. Copy or download it again."


def _how_to_save(path: Path, is_zip: bool) -> str:
    """The command that saves only the weights. It executes the file, so it is for the file's authors."""
    loaded = f"torch.load('{path.name}', weights_only=False)"
    key = next((key for key in KEYS if key in _texts(path, is_zip)), None)
    weights = f"{{'{key}': {loaded}['{key}']}}" if key else f"{loaded}.state_dict()"
    return f"python -c \"import torch; torch.save({weights}, 'weights.pth')\""


def _texts(path: Path, is_zip: bool) -> set[str]:
    """The strings in a pickled dictionary, as far as readable; none for a pickled object. Nothing is executed."""
    found: set[str] = set()
    try:
        with ExitStack() as opened:
            if is_zip:
                archive = opened.enter_context(zipfile.ZipFile(path))
                file = archive.open(next(name for name in archive.namelist() if name.endswith("data.pkl")))
            else:
                file = path.open("rb")
            opened.enter_context(file)
            for _ in range(1 if is_zip else 4):  # the older format: a number, a version, the system, then the content
                operations = pickletools.genops(file)
                next(operations)  # the protocol
                first, name, _ = next(operations)
                words = {text for _, text, _ in operations if isinstance(text, str)}
                found = words if first.name == "EMPTY_DICT" or name == "collections OrderedDict" else set()
    except (ValueError, OSError, EOFError, StopIteration, zipfile.BadZipFile):
        pass  # keep what was found before
    return found


def tensors(content: object, where: str) -> dict[str, torch.Tensor]:
    """A dictionary of tensors under the network's own names, without the prefixes of multi-GPU training,
    ``torch.compile`` and wrapping modules.

    Raises:
        ConfigError: It is empty or holds something else, only some names have the multi-GPU prefix, or two names are
            equal without their prefixes.
    """
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"{where}: wanted a dictionary of tensors, found {_what(content)}.")
    found: dict[str, torch.Tensor] = {}
    for name, value in content.items():
        tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" else value
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ConfigError(f"{where}: wanted tensors only, but '{' '.join(str(name).split())}' is {_what(value)}.")
        found[name] = tensor
    bare = [name.replace(COMPILED, "") for name in found]
    while wrapper := next((w for w in WRAPPERS if _all_have(w, bare)), None):
        bare = [name.removeprefix(wrapper) for name in bare]
    prefixed = [name for name in bare if name.startswith(PREFIX)]
    if prefixed:
        lacking = min(set(bare) - set(prefixed))
        raise ConfigError(f"{where}: '{lacking}' lacks the prefix '{PREFIX}' that {len(prefixed)} other names have.")
    ours: dict[str, torch.Tensor] = {}
    for name, theirs in zip(bare, found, strict=True):
        if name in ours:
            raise ConfigError(f"{where}: '{theirs}' and another name mean the same weight '{name}'.")
        ours[name] = found[theirs]
    ours.pop(COUNTER, None)
    return ours


def _all_have(prefix: str, names: list[str]) -> bool:
    counted = [name for name in names if name != COUNTER]
    return bool(counted) and all(name.startswith(prefix) for name in counted)


def weights_in(content: Mapping[str, Any], where: str) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint, by :func:`tensors`: the value of one of :data:`KEYS`, or the whole dictionary.

    Raises:
        ConfigError: It has no weights.
    """
    key = next((key for key in KEYS if isinstance(content.get(key), Mapping)), None)
    if key is not None:
        return tensors(content[key], f"{where}: {key}")
    if not any(isinstance(value, torch.Tensor | np.ndarray) for value in content.values()):
        raise ConfigError(
            f"{where}: wanted a training checkpoint with '{KEYS[0]}' (or {', '.join(KEYS[1:])}), found "
            f"{sorted(map(str, content))[:5]}."
        )
    return tensors(content, where)


def _what(value: object) -> str:
    return "an empty dictionary" if isinstance(value, Mapping) and not value else type(value).__name__
