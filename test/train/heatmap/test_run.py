"""The heatmap network learns, is saved, and a run resumes as if it had never stopped."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stvla_ros.config import ConfigError
from stvla_ros.planning.heatmap.network import HeatmapNetwork, HeatmapNetworkConfig
from stvla_ros.planning.heatmap.weights_file import load
from stvla_ros.planning.heatmap.words import KINDS, vocabulary
from stvla_ros.train.heatmap.batch import make_batch, make_text_batch
from stvla_ros.train.heatmap.run import HeatmapExperiment, HeatmapRun, losses, meaning_loss
from stvla_ros.train.run import TrainingProgress
from stvla_ros.train.scenes.shards import Scenes

WORDS = vocabulary()


class StopError(Exception):
    """As Ctrl-C would."""


SHORT = HeatmapExperiment(scenes=16, batch=4, warmup=1, validate_every=8, drill=8)


def test_a_batch_is_overfitted(scenes: Scenes) -> None:
    torch.manual_seed(0)
    network = HeatmapNetwork(HeatmapNetworkConfig(len(WORDS) + 1)).train()
    batch = make_batch(scenes, np.arange(4), WORDS, np.random.default_rng(0))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    seen = []
    for _ in range(25):
        parts = losses(network, batch, bf16=False)
        optimizer.zero_grad()
        parts["total"].backward()
        optimizer.step()
        seen.append({name: float(value.detach()) for name, value in parts.items()})
    assert seen[-1]["heat"] < 0.75 * seen[0]["heat"]
    assert seen[-1]["meaning"] < 0.5 * seen[0]["meaning"]


def test_mirrored_images_and_answers_stay_together(scenes: Scenes) -> None:
    """Where an answer is certain, the cell there shows the kind that is asked for, mirrored or not, or what is screwed on
    it."""
    on = {KINDS.index("jar"): KINDS.index("lid"), KINDS.index("lamp"): KINDS.index("bulb")}
    agreed = asked = 0
    for seed in range(4):
        batch = make_batch(scenes, np.arange(8), WORDS, np.random.default_rng(seed))
        there = torch.isfinite(batch.uv).all(-1) & batch.counts
        for t, end in torch.nonzero(there).tolist():
            u, v = (batch.uv[t, end] * 64 / 1000).long().clamp(0, 63).tolist()
            around = batch.labels[batch.image[t], max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2]
            kind = int(batch.kind[t, end])
            agreed += bool(((around == kind + 2) | (around == on.get(kind, kind) + 2)).any())
            asked += 1
    assert asked > 80
    assert agreed == asked


def test_words_alone_teach_what_words_mean() -> None:
    torch.manual_seed(0)
    network, rng = HeatmapNetwork(HeatmapNetworkConfig(len(WORDS) + 1)), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.words.parameters(), lr=3e-3)
    for _ in range(60):
        texts = make_text_batch(64, WORDS, rng)
        loss = meaning_loss(network.words(texts.words, texts.step), texts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new = make_text_batch(200, WORDS, rng)
    with torch.no_grad():
        right = network.words(new.words, new.step).action.argmax(-1) == new.action
    assert float(right.float().mean()) > 0.85


def test_a_resumed_run_ends_as_an_uninterrupted_one(scenes: Scenes, tmp_path: Path) -> None:
    def train(folder: Path, stop: int | None) -> HeatmapRun:
        run = HeatmapRun(SHORT, lambda: scenes, {"val": scenes}, folder)

        def report(progress: TrainingProgress) -> None:
            if progress.done == stop:
                raise StopError

        with contextlib.suppress(StopError):
            run.run(report)
        return run

    whole = train(tmp_path / "whole", None)
    train(tmp_path / "parts", 8)
    again = train(tmp_path / "parts", None)
    assert again.step == whole.step == SHORT.steps
    ours, theirs = whole.network.state_dict(), again.network.state_dict()
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-6) for name in ours)
    rows = [(row["scenes"], row["split"]) for row in again.curves.rows]
    assert rows.count(("8", "val")) == rows.count(("16", "val")) == 1
    assert (tmp_path / "parts" / "curves.png").stat().st_size > 10_000
    file = load(tmp_path / "parts" / "last.safetensors")
    assert file.trained["scenes_seen"] == 16
    with pytest.raises(ConfigError, match="other settings"):
        HeatmapRun(replace(SHORT, lr=1e-4), lambda: scenes, {}, tmp_path / "parts")
