"""Files that are not what they should be are refused in one sentence, and nothing in them runs."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.torch_file import KEYS, read_torch_file, tensors, weights_in


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


def of_several_disks(path: Path) -> None:
    torch.save({"weight": {"a": torch.zeros(3)}}, path)
    data = bytearray(path.read_bytes())
    locator = data.rfind(b"PK\x06\x07")
    data[locator + 16] = 9  # the number of disks
    path.write_bytes(data)


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
        (of_several_disks, "a damaged zip archive (zipfiles that span multiple disks"),
        (another_archive, "is no file of torch.save"),
        (script, "TorchScript archive"),
        (lambda path: torch.save(torch.zeros(3), path), "wanted a dictionary of weights, found Tensor"),
    ],
)
def test_bad_files(write: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    write(path)
    assert message in refused(path)


TRAINING = {
    "numbers": (np.float64(0.12), np.float32(0.5), np.int64(7), np.bool_(True), np.str_("word"), np.float16(2.0)),
    "arrays": [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.ones((2, 3), np.int32)), np.array(["a", "bc"])],
    "big endian": np.arange(3, dtype=">f4"),
    "dtypes": (np.dtype("float32"), torch.float16, torch.device("cuda:1"), torch.Size([2, 3])),
    "random": np.random.default_rng(0).bit_generator.random_raw(3),
    "args": argparse.Namespace(lr=1e-4, data=Path("/data/train.zarr")),
    "history": collections.defaultdict(list, {"loss": [1.0, np.float64(0.5)]}),
    "last": collections.deque([1, 2], maxlen=5),
    "config": collections.OrderedDict(a=1, b=None),
    "words": {"set", "of"},
}
"""What training scripts keep beside the weights and is data."""


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("numpy_1", [False, True])
def test_plain_values_beside_the_weights_are_read(zipped: bool, numpy_1: bool, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"weight": {"a": torch.ones(2)}, **TRAINING}, path, _use_new_zipfile_serialization=zipped)
    if numpy_1:
        old_names(path, zipped)
    found = read_torch_file(path)
    assert found["weight"]["a"].tolist() == [1, 1]
    assert found["numbers"] == (0.12, 0.5, 7, True, "word", 2.0)
    for there, wanted in zip(found["arrays"], TRAINING["arrays"], strict=True):
        np.testing.assert_array_equal(there, wanted)
    np.testing.assert_array_equal(found["big endian"], [0, 1, 2])
    assert found["dtypes"] == TRAINING["dtypes"]
    assert (found["args"].lr, str(found["args"].data)) == (1e-4, "/data/train.zarr")
    assert (found["history"], found["last"], found["words"]) == ({"loss": [1.0, 0.5]}, [1, 2], {"set", "of"})


def old_names(path: Path, zipped: bool) -> None:
    """The names of NumPy 1 in place of those of NumPy 2."""
    if not zipped:
        path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))
        assert b"numpy.core.multiarray" in path.read_bytes()
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data.replace(b"numpy._core", b"numpy.core") if name.endswith("data.pkl") else data)


def test_objects_in_arrays_stay_refused(tmp_path: Path) -> None:
    path, mark = tmp_path / "file.pth", tmp_path / "executed"
    for content in (np.array([Hostile(mark)], object), np.zeros(2, [("a", "f4")]), np.random.default_rng(0)):
        torch.save({"weight": {}, "x": content}, path)
        refused(path)
        assert not mark.exists()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of a library that is there where the training ran."""
    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = type("DictConfig", (), {"__module__": "omegaconf.dictconfig"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", module)
    return module.DictConfig  # type: ignore[no-any-return]


@pytest.mark.parametrize("zipped", [True, False])
def test_what_needs_code_is_refused_with_the_line_that_saves_the_weights(
    library: type, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "epoch=3.ckpt"
    weights = {"a": torch.ones(2)}
    torch.save({"config": library(), "state_dict": weights}, path, _use_new_zipfile_serialization=zipped)
    message = refused(path)
    assert "asks for 'omegaconf.dictconfig.DictConfig'" in message
    line = message.partition('python -c "')[2].rpartition('"')[0]
    monkeypatch.chdir(tmp_path)
    exec(line)  # the line does what it says
    assert weights_in(read_torch_file(tmp_path / "weights.pth"), "x")["a"].tolist() == [1, 1]
    torch.save(torch.nn.Linear(1, 1), path, _use_new_zipfile_serialization=zipped)
    assert "torch.load('epoch=3.ckpt', weights_only=False).state_dict()" in refused(path)


def test_nobody_is_told_to_run_a_hostile_file(tmp_path: Path) -> None:
    for call in ((os.system, "true"), (eval, "1"), (exec, "1"), (getattr, "a", "b")):
        torch.save({"weight": {}, "x": Call(*call)}, tmp_path / "file.pth")
        message = refused(tmp_path / "file.pth")
        assert "not executed" in message
        assert "weights_only" not in message


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "names",
    [
        ("module.a", "module.b.c"),
        ("_orig_mod.a", "_orig_mod.b.c"),
        ("module._orig_mod.a", "module._orig_mod.b.c"),
        ("_orig_mod.module.a", "_orig_mod.module.b.c"),
        ("a", "b._orig_mod.c"),
        ("model.a", "model.b.c"),
        ("model._orig_mod.module.a", "model._orig_mod.module.b.c"),
        ("n_averaged", "module.a", "module.b.c"),
    ],
    ids=lambda names: names[-2],
)
def test_names_are_those_of_the_network(names: tuple[str, ...]) -> None:
    assert sorted(tensors({name: torch.zeros(1) for name in names}, "x")) == ["a", "b.c"]


def test_names_that_are_not_clear() -> None:
    for names, message in (
        (("module.a", "b"), "'b' lacks the prefix 'module.'"),
        (("a", "_orig_mod.a"), "'_orig_mod.a' and another name mean the same weight 'a'"),
    ):
        with pytest.raises(ConfigError, match=message):
            tensors({name: torch.zeros(1) for name in names}, "x")


@pytest.mark.parametrize("key", [*KEYS, None])
def test_weights_are_found_under_the_names_that_training_code_uses(key: str | None, tmp_path: Path) -> None:
    weights: dict[str, Any] = {"module.a": torch.ones(2, dtype=torch.float16), "module.b": np.ones(3)}
    torch.save({key: weights, "epoch": 3} if key else weights, tmp_path / "weights.bin")
    found = weights_in(read_torch_file(tmp_path / "weights.bin"), "x")
    assert {name: (tuple(w.shape), w.dtype) for name, w in found.items()} == {
        "a": ((2,), torch.float16),
        "b": ((3,), torch.float64),
    }


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "weights.pth")
    assert read_torch_file(tmp_path / "weights.pth")["a"].tolist() == [1, 1]
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.safetensors")
    assert read_torch_file(tmp_path / "weights.safetensors")["a"].tolist() == [1, 1]


def test_other_checkpoints_without_weights(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "optimizer": {}}, tmp_path / "x.pth")
    with pytest.raises(
        ConfigError, match=r"wanted a training checkpoint with 'weight'.*found \['epoch', 'optimizer'\]"
    ):
        weights_in(read_torch_file(tmp_path / "x.pth"), "x")
    torch.save({"a": torch.zeros(2)}, tmp_path / "x.pth", pickle_protocol=4)
    assert "without pickle_protocol" in refused(tmp_path / "x.pth")


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
