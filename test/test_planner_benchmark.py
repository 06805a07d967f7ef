"""The planner's benchmark runs as it is typed, and counts what it says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from tiny_qwen3_vl import save_tiny

from benchmarks.planner import __main__ as program
from benchmarks.planner import measure, models
from stvla_ros.devices import Placement

CPU = Placement(torch.device("cpu"), torch.float32)


def test_a_checkpoint_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, threads = save_tiny(tmp_path / "tiny"), torch.get_num_threads()
    monkeypatch.setattr(measure, "copy_bytes_per_s", lambda device: 1e9)
    words = [
        "benchmark",
        "--models",
        str(folder),
        "--runs",
        "1",
        "--size",
        "96x64",
        "--tokens",
        "5x4",
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", words)
    try:
        program.main()
    finally:
        torch.set_num_threads(threads)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["models"][str(folder)]
    for kind in ("plan", "plan, nothing kept"):
        assert [found[kind][stage]["reply_tokens"] for stage in ("path", "offsets")] == [5, 4]
        assert all(
            found[kind][stage][part] > 0 for stage in ("path", "offsets") for part in ("prefill_ms", "decode_ms")
        )
    kept, fresh = found["plan"]["offsets"], found["plan, nothing kept"]["offsets"]
    assert kept["reused_tokens"] >= found["plan"]["path"]["prompt_tokens"]
    assert fresh["reused_tokens"] == 0
    assert found["limit_tokens_per_s"] == pytest.approx(1e9 / found["decoder_bytes"], rel=0.01)


def test_bytes_read_per_token_are_those_of_language_model_and_output() -> None:
    shapes = models.nano()
    model = models.checkpoint(shapes, CPU).model
    language = sum(p.numel() for p in model.model.language_model.parameters())
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight
    assert models.decoder_bytes(model) == 4 * language
    assert language < sum(p.numel() for p in model.parameters())


def test_4b_has_the_published_size() -> None:
    with torch.device("meta"):
        model = models.Qwen3VLForConditionalGeneration(models.qwen3_vl_4b().config)
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(4.44, abs=0.01)
    assert models.decoder_bytes(model) / 4e9 == pytest.approx(4.02, abs=0.02)


def test_bandwidth_is_a_copy_read_and_written() -> None:
    assert 1e8 < measure.copy_bytes_per_s(torch.device("cpu"), 8 << 20, 3) < 1e12
