"""Checkpoint files of training runs: written completely or not at all, and read as data."""

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
    """Read what :func:`write_state` wrote, to the CPU.

    Raises:
        ConfigError: The file is damaged, or something else.
    """
    with setting("", ANEW):
        return read_torch_file(path)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write plain values and tensors, completely or not at all.

    Raises:
        ConfigError: The disk is full, or writing is not permitted.
    """
    content = io.BytesIO()  # PyTorch's own writer does not report a full disk
    torch.save(dict(state), content)
    with written(path) as part:
        part.write_bytes(content.getbuffer())


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Context in which a state is loaded into networks and optimisers.

    Raises:
        ConfigError: The state is incomplete, or belongs to another network.
    """
    try:
        yield
    except ConfigError:
        raise
    except (LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged, or of another network ({said(error)}). {ANEW}") from error
