"""The policy benchmark itself: it times what it says, compares the same keypose, and says what is missing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.policy import __main__ as program
from benchmarks.policy import cases, inference, recipe, reference, stand_ins, training
from benchmarks.policy.clock import Clock, interleaved
from stvla_ros.train.policy.experiments import experiment

SMALL = replace(cases.NANO, image_px=32, visual_stride=4, width=30, heads=2)
CASE = cases.Case(SMALL, 5)
CLOCK = Clock(torch.device("cpu"), 1)


def test_times_and_difference_of_both_paths() -> None:
    found = inference.measure(CASE, {}, 1, CLOCK)
    assert set(found["ms"]) == {"plain", "fast"}
    assert all(tuple(rows) == inference.ROWS for rows in found["ms"].values())
    assert all(ms > 0 for rows in found["ms"].values() for ms in rows.values())
    assert 0 <= found["difference"]["fast"] < 1e-5
    assert program.inference_table("small", CLOCK.name, found).row_count == len(inference.ROWS)


def test_training_is_measured_on_what_is_trained() -> None:
    found = training.measure(CASE, {}, 1, 2, CLOCK)
    assert found["samples_per_s"]["plain"] > 0
    assert "plain / reference" not in program.training_line("small", found)
    network = cases.random_network(SMALL, 0, torch.device("cpu"))
    before = network.traj_encoder.weight.clone()
    inputs, target = cases.random_inputs(CASE, 2, 0, CLOCK.device), cases.random_poses(torch.Generator(), 2, 1, 1)
    training.trainer(network, lambda: training.plain_loss(network, inputs, target))()
    assert not torch.equal(network.traj_encoder.weight, before)


def test_the_recipe_is_measured_beside_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = replace(experiment("nano-3dfa"), network=SMALL, batch=2, draws=8)
    monkeypatch.setattr(recipe, "experiment", lambda name: now)
    found = recipe.measure("nano-3dfa", 1, CLOCK)
    for side, draws in (("before", 4), ("now", 8)):
        assert found[side]["draws_per_s"] == pytest.approx(draws * found[side]["samples_per_s"], rel=0.05)
    assert found["ratio"] == pytest.approx(found["now"]["draws_per_s"] / found["before"]["draws_per_s"], rel=0.05)
    assert "draws now / before" in program.recipe_line(found)
    assert not recipe.before(now).network.shared_scene


def test_sides_take_turns_and_the_first_call_does_not_count() -> None:
    calls: list[str] = []
    sides = {side: {"row": lambda side=side: calls.append(side)} for side in ("a", "b")}
    found = interleaved(sides, CLOCK, 2)
    assert calls == ["a", "b"] * 3
    assert set(found) == {"a", "b"}


def test_same_rotation_with_another_sign_is_no_difference() -> None:
    pose = cases.random_poses(torch.Generator().manual_seed(0), 1, 1, 1)
    other = pose.clone()
    other[..., 3:7] *= -1
    assert inference.difference(other, pose) == 0
    other[..., 0] += 0.5
    assert inference.difference(other, pose) == pytest.approx(0.5, abs=1e-6)


def test_noise_is_what_the_seed_gives_everybody() -> None:
    noise = cases.seeded_noise(replace(SMALL, denoiser="ddpm", steps=4), 7, torch.device("cpu"))
    torch.manual_seed(7)
    assert torch.equal(noise.start, torch.randn(1, 1, 1, 9))
    assert torch.equal(noise.steps[0, ..., :3], torch.randn(1, 1, 1, 3))
    assert torch.equal(noise.steps[0, ..., 3:], torch.randn(1, 1, 1, 6))


def test_folder_that_is_no_clone(tmp_path: Path) -> None:
    network = cases.random_network(SMALL, 0, torch.device("cpu"))
    with pytest.raises(SystemExit, match=r"wanted a clone of .*3d_flowmatch_actor"):
        reference.reference(cases.FLOWMATCH, tmp_path, network)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_ins, "WANTED", ("no_such_package",))
    with pytest.raises(SystemExit, match="needs no_such_package, which is not installed"), stand_ins.in_place():
        pass


def test_stand_in_pyramid_computes_all_levels() -> None:
    pyramid = stand_ins.FeaturePyramidNetwork([4, 8], 6)
    found = pyramid({"fine": torch.rand(1, 4, 8, 8), "coarse": torch.rand(1, 8, 4, 4)})
    assert {name: tuple(level.shape) for name, level in found.items()} == {"fine": (1, 6, 8, 8), "coarse": (1, 6, 4, 4)}


def test_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["policy", "--parts", "inference,training", "--cases", "nano", "--device", "cpu"])
    assert program.parse().parts == ("inference", "training")
    monkeypatch.setattr("sys.argv", ["policy", "--cases", "none"])
    with pytest.raises(SystemExit):
        program.parse()
