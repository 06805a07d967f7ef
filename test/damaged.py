"""A good file of every kind that is read, and what reads it; and what may come of files on their way."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import test_episode, test_flowmatch_zarr, test_peract_dat
from policy.test_learned import BOUNDS, TINY, WORDS

from stvla_ros.data.episode import Episode
from stvla_ros.data.flowmatch_zarr import FlowmatchZarr
from stvla_ros.data.keypose_sample import read_sentences
from stvla_ros.data.peract_dat import read_dat
from stvla_ros.data.recording import Recording, RecordingWriter
from stvla_ros.data.st_human.samples import conversation, read_image, write_image
from stvla_ros.data.st_human.samples_json import read_samples
from stvla_ros.evaluate.episode import EpisodeRecord, read_record
from stvla_ros.files import keep_settings, read_arrays
from stvla_ros.planning.heatmap import weights_file
from stvla_ros.planning.heatmap.network import HeatmapNetwork, HeatmapNetworkConfig
from stvla_ros.policy.checkpoint.bounds import ALL, read_bounds
from stvla_ros.policy.checkpoint.inspection import inspect
from stvla_ros.policy.checkpoint.policy_file import PolicyFile, read_policy_file
from stvla_ros.policy.checkpoint.torch_file import read_torch_file, weights_in
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.train.curves import CurveLog
from stvla_ros.train.run import read_state, write_state

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 52428800\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>" + b"<p>words</p>" * 200 + b"</body></html>"


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        write: Makes a good one in an empty folder; its path.
        read: All of what reads it does.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], object]


def _recording(folder: Path, compress: bool = False) -> Path:
    writer = RecordingWriter(folder / "recording", compress)
    writer.append(test_episode.frame(0))
    return folder / "recording"


def _episode(folder: Path) -> Path:
    from stvla_ros.data.episode import EpisodeWriter, Verdict
    from stvla_ros.errors import OutcomeCode
    from stvla_ros.types import RobotState

    writer = EpisodeWriter(folder / "task-1")
    frame = test_episode.frame(0)
    plan = test_episode.plan(0)
    writer.add_plan(plan, frame)
    writer.add_frame(plan, frame, RobotState(np.zeros(7), np.zeros(7), np.eye(4), 0.04, 1))
    writer.add_keypose(test_episode.keypose(0), 2)
    writer.close("task", 1, "Do it.", Verdict(OutcomeCode.OK, "Done.", True))
    return folder / "task-1"


def _policy(folder: Path) -> Path:
    PolicyFile(TINY, KeyposeNetwork(TINY, np.array(BOUNDS)).state_dict(), WORDS).save(folder / "p.safetensors")
    return folder / "p.safetensors"


def _heatmap(folder: Path) -> Path:
    path = folder / "h.safetensors"
    weights_file.save(path, HeatmapNetwork(HeatmapNetworkConfig(3)).state_dict(), ("red", "block"), {})
    return path


def _torch(folder: Path, **how: Any) -> Path:
    content = {"weight": {f"module.{n}": torch.randn(3, 4) for n in "abc"}, "best_loss": np.float64(0.5), "iter": 7}
    torch.save(content | {"mean": np.arange(4.0), "optimizer": {"state": {0: torch.ones(3)}}}, folder / "c.pth", **how)
    return folder / "c.pth"


def _dat(folder: Path) -> Path:
    path = folder / "close_jar+3" / "ep0.dat"
    return test_peract_dat.pack(path, test_peract_dat.episode(np.random.default_rng(0))[0])


def _text(name: str, content: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return folder / name

    return write


def _arrays(folder: Path) -> Path:
    np.savez(folder / "a.npz", a=np.arange(5), words=np.array("words"))
    return folder / "a.npz"


def _record(folder: Path) -> Path:
    record = EpisodeRecord("task", 1, "Do it.", "OK", "Done.", True, "there")
    return _text("record.json", asdict(record))(folder)


def _state(folder: Path) -> Path:
    write_state(folder / "state.pt", {"step": 3, "network": {"a": torch.ones(3)}})
    return folder / "state.pt"


def _zarr(folder: Path) -> Path:
    return test_flowmatch_zarr.write(folder / "train.zarr", test_flowmatch_zarr.arrays())


def _sample() -> dict[str, Any]:
    messages = [vars(m) for m in conversation("<image>Where is it?", "There.")]
    return {"id": "a", "messages": messages, "images": ["images/a.png"]}


def _image(folder: Path) -> Path:
    return folder / write_image(folder, "a", np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8))


def inside(write: Callable[[Path], Path], name: str) -> Callable[[Path], Path]:
    """The file ``name`` of a folder that ``write`` makes."""
    return lambda folder: write(folder) / name


KINDS: Mapping[str, Kind] = {
    "torch zip": Kind(_torch, lambda path: weights_in(read_torch_file(path), "x")),
    "torch legacy": Kind(
        lambda folder: _torch(folder, _use_new_zipfile_serialization=False),
        lambda path: weights_in(read_torch_file(path), "x"),
    ),
    "policy": Kind(_policy, lambda path: read_policy_file(path).build()),
    "policy inspect": Kind(_policy, inspect),
    "heatmap": Kind(_heatmap, weights_file.load),
    "bounds": Kind(_text("b.json", {"t": [[0, 0, 0], [1, 1, 1]]}), lambda path: read_bounds(path, ALL)),
    "dat": Kind(_dat, read_dat),
    "zarr chunk": Kind(inside(_zarr, "rgb/0.0.0.0.0"), lambda path: list(FlowmatchZarr(path.parents[1]))),
    "zarr index": Kind(inside(_zarr, "action/.zarray"), lambda path: list(FlowmatchZarr(path.parents[1]))),
    "sentences": Kind(_text("s.json", {"t": {"0": ["Do it."]}}), read_sentences),
    "samples": Kind(_text("s.json", [_sample()]), read_samples),
    "samples by line": Kind(_text("s.jsonl", json.dumps(_sample()) + "\n"), read_samples),
    "image": Kind(_image, read_image),
    "recording index": Kind(inside(_recording, "recording.json"), lambda path: list(Recording(path.parent))),
    "recording colour": Kind(inside(_recording, "000000.png"), lambda path: list(Recording(path.parent))),
    "recording depth": Kind(inside(_recording, "000000.npy"), lambda path: list(Recording(path.parent))),
    "recording depth npz": Kind(
        inside(lambda folder: _recording(folder, True), "000000.npz"), lambda path: list(Recording(path.parent))
    ),
    "episode index": Kind(inside(_episode, "episode.json"), lambda path: list(Episode(path.parent))),
    "arrays": Kind(_arrays, read_arrays),
    "record": Kind(_record, read_record),
    "settings": Kind(_text("settings.json", {"a": 1}), lambda path: keep_settings(path, {"a": 1}, "episodes run")),
    "state": Kind(_state, read_state),
    "curves": Kind(
        _text("curves.csv", "step,split\n1,val\n"), lambda path: CurveLog(path.parent, ("step", "split"), 9)
    ),
}


def mutated(data: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """What may come of a file: cut off, bits and bytes changed, parts lost, doubled, zeroed, or of another file."""
    others = (LFS, PAGE, b"", b"\x00" * 300, b"\xff" * 300, b"PK\x03\x04" + data, data + data, b"\xef\xbb\xbf" + data)
    for _ in range(count):
        changed = bytearray(data)
        at = rng.randrange(len(data))
        end = min(len(data), at + rng.choice([1, 2, 4, 16, 512]))
        match rng.randrange(8):
            case 0:
                del changed[at:]
            case 1:
                changed[at] ^= 1 << rng.randrange(8)
            case 2:  # where headers are
                changed[rng.randrange(min(200, len(data)))] = rng.randrange(256)
            case 3:
                del changed[at:end]
            case 4:
                changed[at:at] = data[at:end]
            case 5:
                changed[at:end] = bytes(end - at)
            case 6:
                changed[at:end] = rng.randbytes(end - at)
            case _:
                changed = bytearray(rng.choice(others))
        yield bytes(changed)
