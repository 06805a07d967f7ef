"""Training of policies: it learns, it resumes, and it saves the weights that it has."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.policy_file import read_policy_file
from stvla_ros.policy.network.network import Noise
from stvla_ros.policy.network.text import PADDING
from stvla_ros.policy.text_input import WordIds, for_policy
from stvla_ros.policy.words import Vocabulary
from stvla_ros.train.policy.experiments import EXPERIMENTS, NANO, Augmentation, Experiment, experiment
from stvla_ros.train.policy.run import Batches, PolicyRun, learning_rate, make_optimizer
from stvla_ros.train.policy.samples import Samples
from stvla_ros.train.policy.start import WORDS, untrained
from stvla_ros.train.run import TrainingProgress
from stvla_ros.weights import open_tensors, write_tensors

SIZE_PX = 64
TINY = replace(
    NANO, image_px=SIZE_PX, width=24, heads=2, shared_layers=1, branch_layers=1, history_layers=1, subsample_factor=2
)
QUICK = Experiment("quick", TINY, batch=8, draws=2, lr=2e-3, weight_decay=0.0, validate_every=10, ema=True)
EVERYTHING = replace(
    QUICK,
    network=replace(TINY, dropout=0.1, rotary_dropout=0.1),
    augment=Augmentation((0.75, 1.25), shift_m=0.03, turn_rad=0.1, jitter_m=0.01, unknown_words=0.1),
)


def run(
    e: Experiment, samples: Samples, folder: Path, steps: int, seed: int = 0
) -> tuple[PolicyRun, list[TrainingProgress]]:
    e = replace(e, steps=steps)
    file = untrained(e, samples)
    made = PolicyRun(e, file, for_policy(file), samples, samples, folder, torch.device("cpu"), seed)
    reports: list[TrainingProgress] = []
    made.run(reports.append)
    return made, reports


def test_twenty_steps_lower_the_loss(samples: Samples, tmp_path: Path) -> None:
    quick = replace(QUICK, ema=False)
    made, reports = run(quick, samples, tmp_path, 20)
    rows = list(csv.DictReader((tmp_path / "curves.csv").open()))
    val = [float(row["total"]) for row in rows if row["split"] == "val"]
    untrained = replace(quick, lr=0.0)
    run(untrained, samples, tmp_path / "untrained", 10)
    before = list(csv.DictReader((tmp_path / "untrained" / "curves.csv").open()))
    first = next(float(row["total"]) for row in before if row["split"] == "val")
    assert val[-1] < first  # the same samples and noise each time
    assert made.step == reports[-1].done == 20
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_what_is_saved_gives_the_same_answer(samples: Samples, tmp_path: Path) -> None:
    made, _ = run(replace(QUICK, ema=False), samples, tmp_path, 10)
    file = read_policy_file(tmp_path / "last.safetensors")
    assert file.trained["step"] == 10
    network = file.build()
    inputs, _ = Batches(samples, for_policy(file)).take(np.arange(4))
    noise = Noise.draw(network.config, 4, torch.Generator().manual_seed(0))
    assert torch.equal(network.predict(inputs, noise), made.network.eval().predict(inputs, noise))
    np.testing.assert_allclose(file.bounds_m, samples.bounds_m(0.04), atol=1e-6)


def test_a_resumed_run_ends_as_an_uninterrupted_one(samples: Samples, tmp_path: Path) -> None:
    """Random choices of all kinds included: batches, augmentation, noise and dropout."""
    e = replace(EVERYTHING, steps=20)
    run(e, samples, tmp_path / "whole", 20)

    class StopError(Exception):
        pass

    def stop(progress: TrainingProgress) -> None:
        if progress.done == 10:
            raise StopError

    file = untrained(e, samples)
    arguments = (e, file, for_policy(file), samples, samples, tmp_path / "parts", torch.device("cpu"))
    with pytest.raises(StopError):
        PolicyRun(*arguments).run(stop)
    resumed = PolicyRun(*arguments)
    assert resumed.step == 10
    resumed.run()
    whole, parts = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "parts"))
    for kind in ("network", "average"):
        for name, value in whole[kind].items():
            assert torch.equal(value, parts[kind][name]), (kind, name)
    assert not torch.equal(whole["network"]["traj_encoder.weight"], whole["average"]["traj_encoder.weight"])
    rows = list(csv.DictReader((tmp_path / "parts" / "curves.csv").open()))
    assert [row["step"] for row in rows if row["split"] == "val"] == ["10", "20"]


def test_equal_seeds_give_equal_files(samples: Samples, tmp_path: Path) -> None:
    """On one thread, to the last bit, with everything random switched on."""
    torch.set_num_threads(1)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(replace(EVERYTHING, even_tasks=True), samples, tmp_path / name, 10, seed)
    for file in ("last.safetensors", "best.safetensors"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b
        assert a != c


def test_older_files_still_load(samples: Samples, tmp_path: Path) -> None:
    """Files of before scenes were shared say nothing about it: their network is the one that it was."""
    older = replace(QUICK, network=replace(TINY, shared_scene=False, path_channels=False))
    made, _ = run(older, samples, tmp_path, 10)
    path = tmp_path / "last.safetensors"
    with open_tensors(path) as tensors:
        metadata = tensors.metadata()
    header = json.loads(metadata["header"])
    for name in ("shared_scene", "path_channels"):
        assert header["network"].pop(name) is False
    write_tensors(path, read_policy_file(path).weights, metadata | {"header": json.dumps(header)})
    file = read_policy_file(path)
    assert file.network == replace(older.network, vocabulary=file.network.vocabulary)
    inputs, _ = Batches(samples, for_policy(file)).take(np.arange(4))
    noise = Noise.draw(file.network, 4, torch.Generator().manual_seed(0))
    assert torch.equal(file.build().predict(inputs, noise), made._result().build().predict(inputs, noise))


def test_a_folder_never_mixes_two_runs(samples: Samples, tmp_path: Path) -> None:
    run(QUICK, samples, tmp_path, 10)
    with pytest.raises(ConfigError, match="other settings"):
        run(replace(QUICK, lr=1e-3), samples, tmp_path, 10)
    with pytest.raises(ConfigError, match="other settings"):
        run(QUICK, samples, tmp_path, 10, seed=1)
    turned = replace(samples, rgb=samples.rgb[:, ::-1])
    with pytest.raises(ConfigError, match=r"other settings \(data\)"):
        run(QUICK, turned, tmp_path, 10)
    run(QUICK, samples, tmp_path, 10)
    (tmp_path / "state.pt").write_bytes(b"half a file")
    with pytest.raises(
        ConfigError, match=r"state\.pt: text, not a checkpoint; it begins 'half a file'\. Delete it to begin anew\."
    ):
        run(QUICK, samples, tmp_path, 10)


def test_a_loss_that_is_not_finite_ends_the_run(samples: Samples, tmp_path: Path) -> None:
    broken = replace(samples, target=np.full_like(samples.target, np.nan))
    file = untrained(QUICK, samples)
    with pytest.raises(ConfigError, match="loss is nan at step 0"):
        PolicyRun(QUICK, file, for_policy(file), broken, samples, tmp_path, torch.device("cpu")).run()


def test_learning_rates() -> None:
    e = replace(QUICK, lr=1.0, warmup=10, cosine=True, steps=100)
    rates = [learning_rate(e, step) for step in range(101)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.505, abs=1e-6)
    assert rates[100] == pytest.approx(0.01)
    assert learning_rate(replace(QUICK, lr=1.0), 12345) == 1.0


def test_norms_and_biases_do_not_decay(samples: Samples) -> None:
    decays, free = make_optimizer(untrained(QUICK, samples).build(), replace(QUICK, weight_decay=0.1)).param_groups
    assert decays["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert all(p.dim() > 1 for p in decays["params"])
    assert all(p.dim() <= 1 for p in free["params"])


def test_batches_have_one_length_of_words() -> None:
    texts = ("put it down", "push", "put it down", "push") * 4
    n = len(texts)
    samples = Samples(
        np.zeros((n, 3, 16, 16), np.uint8), np.zeros((n, 3, 16, 16), np.float32), np.zeros((n, 3, 8), np.float32),
        np.arange(n * 8, dtype=np.float32).reshape(n, 8), texts, ("",) * n,
    )  # fmt: skip
    batches = Batches(samples, WordIds(Vocabulary.of(texts)))
    seen = set()
    for step in range(30):
        inputs, target = batches.draw(6, torch.Generator().manual_seed(step))
        rows = (target[:, 0, 0, 0] / 8).int().tolist()
        assert {len(texts[i].split()) for i in rows} == {inputs.text.shape[1]}
        seen |= set(rows)
    assert seen == set(range(n))
    assert sum(len(target) for _, target in batches.evenly(3, 10_000)) == n


def test_tasks_are_drawn_equally_often_and_mixed() -> None:
    texts = ("put it down now",) * 30 + ("push",) * 2
    n = len(texts)
    samples = Samples(
        np.zeros((n, 3, 16, 16), np.uint8), np.zeros((n, 3, 16, 16), np.float16), np.zeros((n, 3, 8), np.float32),
        np.arange(n * 8, dtype=np.float32).reshape(n, 8), texts, ("place",) * 30 + ("press",) * 2,
    )  # fmt: skip
    batches = Batches(samples, WordIds(Vocabulary.of(texts)), even_tasks=True)
    rows = []
    for step in range(20):
        inputs, target = batches.draw(16, torch.Generator().manual_seed(step))
        drawn = (target[:, 0, 0, 0] / 8).int().tolist()
        for row, ids in zip(drawn, inputs.text.tolist(), strict=True):
            assert [i for i in ids if i != PADDING] == batches._tokens[row].tolist()
        rows += drawn
    presses = np.mean(np.array(rows) >= 30)
    assert 0.4 < presses < 0.6
    assert set(rows) == set(range(n))


def test_the_table_has_the_papers_values() -> None:
    """Table 8: batch 64, constant rate, 300,000 steps, FPS factor 4, 2 and 4 layers, prediction length 1."""
    for name, denoiser, steps in (("3dda", "ddpm", 100), ("3dfa", "flow", 5)):
        e = experiment(name)
        assert (e.batch, e.steps, e.cosine, e.lr, e.clip_norm) == (64, 300_000, False, 1e-4, 10.0)
        n = e.network
        assert (n.denoiser, n.steps, n.subsample_factor, n.vision_text_layers) == (denoiser, steps, 4, 2)
        assert (n.shared_layers, n.image_px, n.cameras, n.width, n.heads, n.history) == (4, 256, 1, 120, 8, 3)
        assert EXPERIMENTS[f"{name}-baseline"] == replace(e, name=f"{name}-baseline", guidance="off")


@pytest.mark.parametrize("name", ["nano-3dfa", "nano-3dda", "nano-3dfa-path"])
def test_baselines_have_the_same_budget(name: str) -> None:
    """Network, steps, draws and augmentation: they differ in the images, and in noise on paths that they do not see."""
    tuned, plain = experiment(name), experiment(f"{name}-baseline")
    assert (tuned.guidance, plain.guidance) == ("full", "off")
    assert replace(plain, name=name, guidance="full", path_noise=tuned.path_noise) == tuned
    assert tuned.network.shared_scene
    assert tuned.even_tasks


def test_networks_that_attend_to_padding_mix_no_tasks() -> None:
    with pytest.raises(ValueError, match="3dfa: even_tasks needs words"):
        replace(experiment("3dfa"), even_tasks=True)


def test_an_unknown_experiment_names_the_closest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'nano-3dfa'"):
        experiment("nano-3dfaa")


def test_frozen_encoders_are_never_left_random(samples: Samples) -> None:
    clip = replace(QUICK, network=replace(TINY, visual="clip_rn50", visual_cloud=False, path_channels=False))
    with pytest.raises(ConfigError, match=r"'encoder\.backbone' is not trained and would stay random"):
        untrained(clip, samples)


def test_words_of_another_policy_keep_their_meaning(samples: Samples, tmp_path: Path) -> None:
    """Also where the other policy knows as many words, but others."""
    words = Vocabulary.of(samples.instructions).words
    other = Vocabulary(("aardvark", *words[1:]))  # sorted as before, and of the same number
    file = untrained(QUICK, samples, seed=1)
    replace(file, vocabulary=other).save(tmp_path / "other.safetensors")
    ours, fresh = (untrained(QUICK, samples, given).weights[WORDS] for given in ([tmp_path / "other.safetensors"], []))
    for i in range(len(words) + 1):
        assert torch.equal(ours[i], (fresh if i == 1 else file.weights[WORDS])[i]), i
