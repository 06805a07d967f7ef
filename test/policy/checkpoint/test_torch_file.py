"""Files that are not what they should be are refused in one sentence, and nothing in them runs."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.torch_file import read_torch_file, tensors


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def hostile_zip(path: Path, mark: Path) -> None:
    torch.save({"weight": {"a": torch.zeros(3)}, "optimizer": Hostile(mark)}, path)


def hostile_old(path: Path, mark: Path) -> None:
    torch.save({"weight": Hostile(mark)}, path, _use_new_zipfile_serialization=False)


def hostile_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": Hostile(mark)}))


@pytest.mark.parametrize("write", [hostile_zip, hostile_old, hostile_pickle])
def test_a_pickle_with_code_is_refused_and_not_executed(write: Callable[[Path, Path], None], tmp_path: Path) -> None:
    path, mark = tmp_path / "file.pth", tmp_path / "executed"
    write(path, mark)
    message = refused(path)
    assert "executed" in message
    assert not mark.exists()
    if write is not hostile_pickle:
        assert "asks for 'posix.system'" in message
    torch.load(path, weights_only=False) if write is not hostile_pickle else pickle.loads(path.read_bytes())
    assert mark.exists()  # it would have


def cut_off(path: Path) -> None:
    torch.save({"weight": {"a": torch.zeros(9999)}}, path)
    path.write_bytes(path.read_bytes()[:20_000])


def old_cut_off(path: Path) -> None:
    torch.save({"weight": {"a": torch.zeros(9999)}}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:20_000])


def another_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "hello")


def script(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"model/{name}", "")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "found nothing"),
        (lambda path: path.mkdir(), "found a folder"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_text("hello there"), "text, not a checkpoint; it begins 'hello there'"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        (cut_off, "cut off"),
        (old_cut_off, "damaged"),
        (another_archive, "not a file of torch.save"),
        (script, "TorchScript archive"),
        (lambda path: torch.save(torch.zeros(3), path), "wanted a dictionary of weights, found Tensor"),
    ],
)
def test_bad_files(write: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    write(path)
    assert message in refused(path)


def test_tensors_only() -> None:
    for content, message in (
        ({"a": 1}, "'a' is int"),
        ({}, "an empty dictionary"),
        ([], "found list"),
        ({1: torch.zeros(1)}, "'1' is Tensor"),
    ):
        with pytest.raises(ConfigError, match=message):
            tensors(content, "x")


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        read_torch_file(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message
