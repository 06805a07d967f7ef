"""`stvla train pss` on real runs of the small planners and of fine-tuning, as it is typed."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_qwen3_vl import save_tiny

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import USAGE
from stvla_ros.data.st_human.samples import Objects, Sample, conversation, write_image
from stvla_ros.data.st_human.samples_json import read_samples, write_samples
from stvla_ros.planning.heatmap.words import vocabulary
from stvla_ros.planning.nano.architecture import network, save
from stvla_ros.planning.nano.tokens import tokenizer
from stvla_ros.train.heatmap.run import HeatmapExperiment, HeatmapRun
from stvla_ros.train.pss.runs import heatmap_batch, permuted, with_answers_of
from stvla_ros.train.scenes.export import export
from stvla_ros.train.scenes.shards import Scenes


def pss(*words: object) -> int:
    return main(["train", "pss", *map(str, words)])


def result(folder: Path, first: str, second: str) -> dict[str, Any]:
    assert (folder / f"pss-{first}-{second}.png").stat().st_size > 5000
    return json.loads((folder / f"pss-{first}-{second}.json").read_text())


def check(found: dict[str, Any]) -> None:
    """What holds for any losses: shares, and ranks that grow with the energy."""
    for checkpoint in found["checkpoints"]:
        assert [(row["space"], row["energy"]) for row in checkpoint["pss"]] == [
            (space, energy) for space in ("column", "row") for energy in (0.5, 0.9, 0.99)
        ]
        for name in ("between", "ceiling_first", "ceiling_second", "shuffled"):
            rows = [row[name] for row in checkpoint["pss"]]
            assert all(0 <= row["value"] <= 1 and 0 < row["chance"] <= 1 for row in rows)
            assert all(a["ranks"][0] <= b["ranks"][0] for part in (rows[:3], rows[3:]) for a, b in pairwise(part))
            assert -1 <= checkpoint["cosine"][name] <= 1


@pytest.fixture(scope="module")
def heatmap(folder: Path, scenes: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heatmap")
    short = HeatmapExperiment(scenes=16, batch=4, warmup=1, validate_every=8, drill=8)
    run = HeatmapRun(short, lambda: scenes, {"val": scenes}, out)
    run.keep = True
    run.run()
    return out


def test_the_heatmap_planner_over_its_checkpoints(
    heatmap: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sorted(path.name for path in (heatmap / "checkpoints").iterdir()) == [
        "00000008.safetensors",
        "00000016.safetensors",
    ]
    command = (heatmap, "--data", folder, "--samples", "6")
    assert pss(*command, "--losses", "heat,dense") == 0
    assert "PSS of heat and dense" in capsys.readouterr().out
    found = result(heatmap, "heat", "dense")
    check(found)
    assert [checkpoint["done"] for checkpoint in found["checkpoints"]] == [8, 16]
    assert found["weight"] == "trunk.join.2.weight"
    assert {row["size"] for row in found["checkpoints"][0]["pss"]} == {64, 64 * 9}
    assert pss(*command, "--losses", "heat,dense") == 0
    assert result(heatmap, "heat", "dense") == found  # fixed samples: the same figures every time
    assert pss(*command, "--losses", "heat,meaning", "--output", heatmap / "other") == 0
    assert result(heatmap / "other", "heat", "meaning")["weight"] == "words.layers.1.look.weight[0:64]"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--losses", "dense,meaning"], "'dense' and 'meaning' have no default weight"),
        (["--losses", "dense,meaning", "--weight", "trunk.join.2.weight"], "both losses must depend on it"),
        (["--losses", "heat,dens"], "Did you mean 'dense'"),
        (["--losses", "heat"], "wanted two names"),
        (["--energy", "0.5,2"], "wanted shares above 0, at most 1"),
        (["--weight", "trunk.join.2"], "the model has no weight 'trunk.join.2'"),
        (["--data", "/nowhere"], "no scenes of the split 'val'"),
    ],
)
def test_wrong_use_ends_in_one_sentence(
    more: list[str], words: str, heatmap: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pss(heatmap, "--data", folder, "--samples", "2", *more) == USAGE
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pss(tmp_path, "--data", tmp_path) == USAGE
    assert "found no checkpoint of one" in capsys.readouterr().err


def test_permuted_answers_belong_to_other_questions(scenes: Scenes) -> None:
    batch = heatmap_batch(scenes, vocabulary(), 6, 0, 0)
    other = permuted(batch, 0)
    assert torch.equal(batch.words, other.words)
    assert torch.equal(batch.rgb, other.rgb)
    assert not torch.equal(batch.kind, other.kind)
    assert sorted(batch.kind.tolist()) == sorted(other.kind.tolist())
    assert sorted(batch.labels.flatten(1).tolist()) == sorted(other.labels.flatten(1).tolist())
    assert all(not torch.equal(a, b) for a, b in zip(batch.labels, other.labels, strict=True))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and eight samples of each of two tasks."""
    root = tmp_path_factory.mktemp("samples")
    save_tiny(root / "model")
    rng = np.random.default_rng(0)
    made = []
    for k in range(8):
        image = write_image(root, str(k), rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
        points = [(int(x), int(y)) for x, y in rng.integers(0, 1000, (8, 2))]
        words = conversation(f"<image>Point to thing {k}.", f"[{points[0]}]")
        made.append(Sample(f"p{k}", "pointing", words, (image,), Objects(point_2d=points[0])))
        words = conversation("<image>Draw a path.", str(points))
        made.append(Sample(f"t{k}", "trajectory", words, (image,), Objects(traj_2d=tuple(points))))
    write_samples(root / "samples.json", made)
    return root


def test_fine_tuning_from_the_base_model_on(samples: Path, tmp_path: Path) -> None:
    data, out = samples / "samples.json", tmp_path / "run"
    other = samples / "train.json"
    command = ["sft", "nano-st-human", "--model", str(samples / "model"), "--data", str(other), "--val", str(data)]
    write_samples(other, [Sample(f"x{k}", "general", conversation("Say yes.", "yes")) for k in range(2)])
    more = [
        "--steps",
        "1",
        "--lr",
        "0.1",
        "--validate-every",
        "1",
        "--keep",
        "9",
        "--accumulate",
        "1",
        "--threads",
        "1",
    ]
    assert main([*command, "--output", str(out), *more]) == 0
    assert pss(out, "--data", data, "--losses", "pointing,trajectory", "--samples", "2") == 0
    found = result(out, "pointing", "trajectory")
    check(found)
    assert [checkpoint["done"] for checkpoint in found["checkpoints"]] == [0, 1]
    assert found["weight"].endswith("language_model.layers.1.self_attn.q_proj.weight")
    first, last = found["checkpoints"][0], found["checkpoints"][-1]
    assert first["pss"] != last["pss"]  # the adapters are merged into what is measured


def test_a_model_alone_and_one_loss_against_itself(scenes: Scenes, tmp_path: Path) -> None:
    words = tokenizer()
    save(network(words), words, tmp_path / "run" / "model")
    export(scenes, tmp_path / "scenes.json", 0)
    how = ("--data", tmp_path / "scenes.json", "--samples", "8", "--output", tmp_path)
    assert pss(tmp_path / "run", *how, "--losses", "pointing,pointing") == 0
    for row in result(tmp_path, "pointing", "pointing")["checkpoints"][0]["pss"]:
        assert row["between"]["value"] == pytest.approx(row["ceiling_first"]["value"], abs=1e-6)
    assert pss(tmp_path / "run", *how, "--losses", "pointing,trajectory") == 0
    found = result(tmp_path, "pointing", "trajectory")
    check(found)
    assert {row["size"] for row in found["checkpoints"][0]["pss"]} == {192}


def test_answers_are_exchanged_turn_by_turn(samples: Path) -> None:
    first, second = read_samples(samples / "samples.json")[:2]
    long = Sample("l", "general", conversation("a?", "1", "b?", "2", "c?", "3"))
    mixed = with_answers_of(long, Sample("o", "general", conversation("x?", "8", "y?", "9")))
    assert [message.content for message in mixed.messages] == ["a?", "8", "b?", "9", "c?", "8"]
    assert with_answers_of(first, second).images == first.images
    assert with_answers_of(first, second).answer == second.answer
