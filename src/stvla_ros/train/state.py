"""What a training run leaves to go on from: ``state.pt``, written whole, and read as data."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from stvla_ros.config import ConfigError
from stvla_ros.files import said, setting, written
from stvla_ros.policy.checkpoint.torch_file import read_torch_file

ANEW = "Delete it to begin anew."


def read_state(path: Path) -> Mapping[str, Any]:
    """What :func:`write_state` wrote, on the CPU.

    Raises:
        ConfigError: It is damaged, or another thing.
    """
    with setting("", ANEW):
        return read_torch_file(path)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write plain values and tensors, whole or not at all.

    Raises:
        ConfigError: There is no room, or no permission.
    """
    content = io.BytesIO()  # PyTorch's own writer has no word for a full disk
    torch.save(dict(state), content)
    with written(path) as part:
        part.write_bytes(content.getbuffer())


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Around what puts a state back into networks and optimisers.

    Raises:
        ConfigError: The state lacks something, or is of another network.
    """
    try:
        yield
    except ConfigError:
        raise
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged, or of another network ({said(error)}). {ANEW}") from error
