"""What lies in place of a file is named, JSON is read in any encoding, and nothing is left of what could not be written."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save

from stvla_ros import cli
from stvla_ros.config import ConfigError
from stvla_ros.data.recording import RecordingError, RecordingWriter
from stvla_ros.files import (
    ZIP,
    check_file,
    disguise,
    keep_settings,
    read_arrays,
    read_image,
    read_json,
    read_json_lines,
    setting,
    written,
)
from stvla_ros.train.curves import CurveLog
from stvla_ros.train.run import read_state, write_state
from stvla_ros.types import Camera, RgbdFrame
from stvla_ros.weights import check_finite, open_tensors, read_tensors, write_tensors

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def refused(read: Callable[[Path], object], path: Path, words: str) -> None:
    """One sentence that begins with the file's name."""
    with pytest.raises(ConfigError, match=words) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith((".", "?"))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "the file is empty"),
        (LFS, "a pointer of Git LFS.*git lfs pull"),
        (b"/annex/objects/SHA256E-s1048576--4d7a.pth\n", "git annex get"),
        (b"../../.git/annex/objects/x1/Zq/SHA256E-s1--4d.pth/SHA256E-s1--4d.pth", "git annex get"),
        (b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title>", "a web page"),
        (b"\xef\xbb\xbf<html lang='de'>", "a web page"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0"><html>', "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "a server's error message"),
        (b"Entry not found", "text, not a checkpoint; it begins 'Entry not found'"),
        (b"404: Not Found\n", "it begins '404: Not Found'"),
        (b"\x1f\x8b\x08\x00\x00", "a gzip archive.*unpack it first"),
        (ZIP + b"\x14\x00", "a zip archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"weights\x00".ljust(257, b"\x00") + b"ustar\x00", "a tar archive"),
        (bytes(1024), "1024 bytes are zeros: a download that did not finish"),
    ],
)
def test_what_lies_in_place_of_a_file(head: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "weights é.pth"
    path.write_bytes(head)
    refused(lambda path: check_file(path, "a checkpoint"), path, words)


def test_the_right_thing_passes() -> None:
    png = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes()
    for data in (png, save({"a": torch.zeros(2)}), b"\x93NUMPY\x01\x00v\x00{'descr'", b"\x80\x02}q\x00."):
        assert disguise(data[:1024]) is None
    assert disguise(ZIP + b"\x14\x00", inside=ZIP) is None
    assert disguise(b'{"a": 1}', text=True) is None


def test_a_path_that_is_not_there_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.safetensors").write_bytes(b"x")
    (tmp_path / "000000.png").write_bytes(b"x")
    (tmp_path / "link.pth").symlink_to("gone.pth")
    (tmp_path / "annexed.pth").symlink_to(".git/annex/objects/x/SHA256E-s1--4d")
    (tmp_path / "nowhere").symlink_to("nowhere")
    for name, words in {
        "best.safetensor": r"found nothing\. Did you mean 'best\.safetensors'\?",
        "other": r"found nothing\.$",
        "000001.png": r"found nothing\.$",
        "runs/a/best.pth": f"found nothing: {tmp_path} has no runs",
        "best.safetensors/x": r"found nothing: .*best\.safetensors is a file",
        "link.pth": "it is a link to gone.pth, which is not there",
        "annexed.pth": "fetch it with git annex get",
        "": "wanted a checkpoint, found a folder",
        "nowhere": "cannot be read",
        "x" * 300: "cannot be read",
    }.items():
        refused(lambda path: check_file(path, "a checkpoint"), tmp_path / name, words)
    with pytest.raises(ConfigError, match=f"write the home folder out, {tmp_path}/best.pth"):
        check_file(Path("~/best.pth"), "a checkpoint")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may run as root, who may read everything."""
    path = tmp_path / "a.json"
    path.write_text("{}")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    refused(read_json, path, r"cannot be read \(Permission denied\)")


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_of_any_encoding(coding: str, tmp_path: Path) -> None:
    value = {"task": "Stück é", "numbers": [1, 2.5]}
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(value, ensure_ascii=False, indent=1).replace("\n", "\r\n").encode(coding))
    assert read_json(path) == value
    lines = tmp_path / "a.jsonl"
    lines.write_bytes("\r\n".join(json.dumps(value, ensure_ascii=False) for _ in range(3)).encode(coding))
    assert list(read_json_lines(lines)) == [value] * 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a": "St\xfcck"}', "byte 9 is 0xfc, which is no utf-8: save it as UTF-8"),
        (b'{"a": 1,}', "not valid JSON .*line 1 column 9"),
        (b'{"a": [1, 2', "ends too early, in line 1: copy or download it again"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not valid JSON"),
        (LFS, "git lfs pull"),
        (b"", "empty"),
        (b"<html>", "web page"),
    ],
)
def test_what_is_no_json(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    refused(read_json, path, words)
    refused(
        lambda path: list(read_json_lines(path)), path, "line 1: |git lfs|empty|web page|save it as UTF-8|not valid"
    )


def test_a_setting_is_named_and_advice_given() -> None:
    with (
        pytest.raises(ConfigError, match=r"^policy\.checkpoint: x: gone\. Look again\.$"),
        setting("policy.checkpoint", "Look again."),
    ):
        raise ConfigError("x: gone.")


@pytest.mark.parametrize("kind", ["grey", "palette", "alpha", "16 bit", "16 bit grey", "jpeg"])
def test_images_of_any_kind(kind: str, tmp_path: Path) -> None:
    from PIL import Image

    rgb = np.full((6, 8, 3), (200, 100, 50), np.uint8)
    rgb[:, :4] = 70
    path = tmp_path / "a.png"
    if kind == "palette":
        Image.fromarray(rgb).quantize(16).save(path)
    elif kind == "jpeg":  # the content decides, not the name
        Image.fromarray(rgb).save(path, "JPEG", quality=100, subsampling=0)
    elif kind == "grey":
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
        Image.fromarray(rgb[..., 0]).save(path)
    elif kind == "alpha":
        Image.fromarray(np.dstack([rgb, np.full((6, 8), 10, np.uint8)])).save(path)
    elif kind == "16 bit":
        cv2.imwrite(str(path), rgb[..., ::-1].astype(np.uint16) * 257)
    else:
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
        cv2.imwrite(str(path), rgb[..., 0].astype(np.uint16) * 257)
    found = read_image(path)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, rgb, atol=2 if kind == "jpeg" else 0)


def test_what_is_no_image_or_array(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:500])
    refused(read_image, path, "damaged or cut off")
    for content, words in (({"a": np.array([{}], object)}, "Python objects, which are never read"), (None, "damaged")):
        file = tmp_path / "a.npz"
        np.savez(file, **content) if content else file.write_bytes(file.read_bytes()[:100])
        refused(read_arrays, file, words)


@pytest.mark.parametrize("at", range(20, 60, 3))
def test_a_header_of_numpy_with_a_bracket_in_it(at: int, tmp_path: Path) -> None:
    """Python's own tokenizer has an exception of its own for what NumPy gives it."""
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 3), np.float32))
    data = bytearray(path.read_bytes())
    data[at] = ord("(")
    path.write_bytes(data)
    refused(read_arrays, path, "damaged")


def tensors_file(path: Path, header: Any, data: bytes = bytes(16)) -> Path:
    words = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(words).to_bytes(8, "little") + words + data)
    return path


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}, r"cut off; it has \d+ of \d+ bytes"),
        (
            b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
            "has 'a' twice",
        ),
        ({"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}, "not a safetensors file, or damaged"),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}}, "not a safetensors file, or damaged"),
        ({"a": 1}, "not a safetensors file, or damaged"),
        (b'{"a"', "not a safetensors file, or damaged"),
    ],
)
def test_safetensors_that_are_wrong(header: Any, words: str, tmp_path: Path) -> None:
    refused(read_tensors, tensors_file(tmp_path / "a.safetensors", header), words)


def test_safetensors_with_a_huge_header_or_cut_inside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    refused(read_tensors, path, "header too large|not a safetensors file")
    whole = save({"a": torch.zeros(4)})
    path.write_bytes(whole[:20])
    refused(read_tensors, path, "cut off inside its header")
    path.write_bytes(whole)
    with open_tensors(path) as file:
        assert list(file.keys()) == ["a"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_weights_are_numbers(dtype: torch.dtype) -> None:
    check_finite({"a": torch.ones(3).to(dtype), "count": torch.tensor(3)}, "x")
    with pytest.raises(ConfigError, match="x: 'b' has values that are not finite"):
        check_finite({"a": torch.ones(3), "b": torch.tensor([1.0, float("nan")]).to(dtype)}, "x")


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may become longer than ``room`` bytes: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def frame() -> RgbdFrame:
    rng = np.random.default_rng(0)
    camera = Camera(np.array([[50.0, 0, 40], [0, 50.0, 30], [0, 0, 1]]), 80, 60, np.eye(4), "camera")
    return RgbdFrame(rng.integers(0, 255, (60, 80, 3), np.uint8), rng.random((60, 80), np.float32), camera, 1)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_tensors(folder / "a.safetensors", {"a": torch.zeros(9999)}, {}),
        lambda folder: write_state(folder / "state.pt", {"a": torch.zeros(9999)}),
        lambda folder: RecordingWriter(folder / "r").append(frame()),
        lambda folder: RecordingWriter(folder / "r", compress=True).append(frame()),
        lambda folder: keep_settings(folder / "settings.json", {"a": "x" * 9999}, "episodes"),
    ],
)
def test_a_full_disk_is_told_and_leaves_no_half_file(write: Callable[[Path], None], tmp_path: Path) -> None:
    with full_disk(4096), pytest.raises(ConfigError, match=r"cannot be written .*: make room and run it again\."):
        write(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_was_there_stays_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    write_state(path, {"step": 1})
    with full_disk(1000), pytest.raises(ConfigError):
        write_state(path, {"a": torch.zeros(9999)})
    assert read_state(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["state.pt"]
    with pytest.raises(KeyError), written(path) as part:
        {part.write_text("half"): 1}["not there"]
    assert os.listdir(tmp_path) == ["state.pt"]
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(RecordingError, match="folder: cannot be written"),
        written(tmp_path / "folder", RecordingError) as part,
    ):
        part.write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"), written(path / "below") as part:
        part.write_text("x")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "a file: cannot be written (No space left on device): make room",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/out"),
            "/data/out: cannot be opened (Permission denied)",
        ),
    ],
)
def test_the_command_ends_with_a_sentence(
    error: OSError, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> int:
        raise error

    monkeypatch.setattr("stvla_ros.commands.backends.run", fails)
    assert cli.main(["backends"]) == 2
    assert words in capsys.readouterr().err


def test_other_errors_of_the_system_stay_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> int:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr("stvla_ros.commands.backends.run", fails)
    with pytest.raises(OSError, match="Bad file descriptor"):
        cli.main(["backends"])


def test_settings_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    keep_settings(path, {"a": (1, 2)}, "episodes run")
    keep_settings(path, {"a": [1, 2]}, "episodes run")
    with pytest.raises(ConfigError, match=r"holds episodes run with other settings \(a, b\)"):
        keep_settings(path, {"b": 1}, "episodes run")
    for content, words in (
        (b"[]", "found list"),
        (b"{", "ends too early.*delete it"),
        (LFS, "git lfs pull"),
        (b"", "empty"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            keep_settings(path, {"b": 1}, "episodes run")


def test_curves_of_an_interrupted_run(tmp_path: Path) -> None:
    fields = ("step", "split", "loss")
    CurveLog(tmp_path, fields, 0).add(5, "train", {"loss": 0.5})
    path = tmp_path / "curves.csv"
    path.write_bytes(path.read_bytes() + b"6,tr")  # killed in the middle of a line
    assert [row["step"] for row in CurveLog(tmp_path, fields, 9).rows] == ["5"]
    for content in (b"step,split,loss\nfive,train,1\n", b"step,split,loss\n5\n", b"a,b\n1,2\n", b"\xff\xfe\x00\n"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="not the curves of a run"):
            CurveLog(tmp_path, fields, 9)
