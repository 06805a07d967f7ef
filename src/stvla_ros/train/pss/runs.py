"""The losses of the models that the project trains, at every checkpoint that a run has kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stvla_ros.config import ConfigError
from stvla_ros.data.episode import find_episodes
from stvla_ros.data.st_human.samples import Message, Sample
from stvla_ros.data.st_human.samples_json import read_samples
from stvla_ros.devices import Placement
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.files import read_json
from stvla_ros.planning.heatmap import weights_file
from stvla_ros.planning.qwen3_vl.adapter import merged
from stvla_ros.planning.qwen3_vl.checkpoint import load
from stvla_ros.policy.checkpoint.policy_file import is_policy_file, read_policy_file
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.text_input import for_policy
from stvla_ros.train.heatmap.batch import SceneBatch, make_batch
from stvla_ros.train.heatmap.run import losses as heatmap_losses
from stvla_ros.train.policy.experiments import EXPERIMENTS
from stvla_ros.train.policy.path_noise import NO_NOISE
from stvla_ros.train.policy.run import Batches, grouped
from stvla_ros.train.policy.samples import Samples, load_samples
from stvla_ros.train.pss.probe import ProbedLoss, cycle
from stvla_ros.train.run import KEPT
from stvla_ros.train.scenes.shards import Scenes
from stvla_ros.train.scenes.shards import load as load_scenes
from stvla_ros.train.sft.batches import collate
from stvla_ros.train.sft.encode import Encoder
from stvla_ros.train.sft.run import token_loss
from stvla_ros.train.sft.start import limit_images
from stvla_ros.weights import open_tensors

CPU = Placement(torch.device("cpu"), torch.float32)
ROWS = 8
"""Conversations per pass: memory, not the result, depends on it."""

POLICY_WEIGHT = "prediction_head.self_attn.attn_layers.{last}.attention.in_proj_weight[0:{width}]"
"""Queries of the last attention that position, rotation and opening share."""

HEATMAP_WEIGHTS = {
    frozenset(("heat", "dense")): "trunk.join.2.weight",
    frozenset(("heat", "meaning")): "words.layers.1.look.weight[0:{width}]",
}
"""The last matrix that both losses depend on; ``dense`` and ``meaning`` share none."""


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint is made of.

    Attributes:
        done: Steps, or scenes for the small planners.
        load: Reads its network and losses.
    """

    done: int
    load: Callable[[], tuple[nn.Module, Mapping[str, ProbedLoss]]]


@dataclass(frozen=True)
class ProbedRun:
    """A run of which losses are compared.

    Attributes:
        losses: Names of its losses.
        checkpoints: Oldest first.
        weight: The default weight for two of the losses; None: they share none.
    """

    losses: tuple[str, ...]
    checkpoints: tuple[Checkpoint, ...]
    weight: Callable[[nn.Module, str, str], str | None]


def open_run(folder: Path, data: Path, samples: int, settings: StackSettings, seed: int = 0) -> ProbedRun:
    """Recognise a run and read the samples on which its losses are compared.

    Args:
        folder: Of ``stvla train``, ``train-planner`` or ``sft``, or of a Qwen3-VL checkpoint.
        data: Episodes, scenes, or a file of conversations, as the run was trained on.
        samples: Per batch; each loss has two batches.
        settings: Of guidance, for policies; the mode is the policy's.
        seed: For the choice of samples, noise and permutations.

    Raises:
        ConfigError: The folder has no checkpoint, or the data are too few or of another kind.
    """
    files = [*sorted((folder / KEPT).glob("*.safetensors")), *sorted(folder.glob("*.safetensors"))]
    policies = [file for file in files if is_policy_file(file)]
    heatmaps = [file for file in files if _is_heatmap(file)]
    adapters = [path.parent for path in sorted(folder.glob("checkpoint-*/state.json")) if not path.parent.suffix]
    models = [path.parent for path in sorted((folder / KEPT).glob("*/config.json"))]
    if policies:
        return _policy_run(policies, folder, data, samples, settings, seed)
    if heatmaps:
        return _heatmap_run(heatmaps, data, samples, seed)
    if adapters:
        base, image_tokens = _trained(adapters[0] / "state.json")
        steps = {int(path.name.rpartition("-")[2]): str(path / "adapter") for path in adapters}
        parts = {0: (base, ""), **{step: (base, adapter) for step, adapter in steps.items()}}
        return _chat_run(parts, data, samples, seed, image_tokens)
    for model in models or [folder / "model", folder]:
        if (model / "config.json").is_file():
            parts = {int(path.name): (str(path), "") for path in models} or {0: (str(model), "")}
            return _chat_run(parts, data, samples, seed)
    raise ConfigError(f"{folder}: wanted a run of `stvla train`, `train-planner` or `sft`, found no checkpoint of one.")


def _trained(state: Path) -> tuple[str, int]:
    """The base model of a fine-tuning, and the most tokens of an image."""
    content = read_json(state)
    try:
        return str(content["identity"]["model"]), int(content["identity"]["image_tokens"])
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigError(f"{state}: not the state of a run of `stvla sft`.") from error


def _is_heatmap(file: Path) -> bool:
    try:
        with open_tensors(file) as tensors:
            return (tensors.metadata() or {}).get("format") == weights_file.FORMAT
    except ConfigError:
        return False


def _enough(found: int, samples: int, what: str) -> int:
    """Samples per batch, where ``found`` are in the smaller one."""
    if found < 2:
        raise ConfigError(f"pss: wanted at least 2 {what} in each of two disjoint batches, found {found}.")
    return min(found, samples)


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    """So many of the indices, evenly spaced."""
    return indices[np.linspace(0, len(indices) - 1, count).astype(int)]


# Policies


def _policy_run(
    files: Sequence[Path], folder: Path, data: Path, count: int, settings: StackSettings, seed: int
) -> ProbedRun:
    first = read_policy_file(files[0])
    noise = getattr(EXPERIMENTS.get(str(first.trained.get("experiment"))), "path_noise", NO_NOISE)
    guided = replace(settings, guide=replace(settings.guide, mode=first.guidance))
    samples = load_samples(find_episodes(data), guided, first.network.image_px, folder / "samples", 1, noise=noise)
    halves = policy_halves(samples, count)
    batches = Batches(samples, for_policy(first))
    names = ("position", "rotation", "open")

    def opened(file: Path) -> tuple[nn.Module, Mapping[str, ProbedLoss]]:
        network = read_policy_file(file).build()
        return network, {name: partial(_policy_loss, network, batches, halves, seed, name) for name in names}

    done = {int(read_policy_file(file).trained.get("step", 0)): file for file in files}
    checkpoints = tuple(Checkpoint(step, partial(opened, file)) for step, file in sorted(done.items()))
    weight = POLICY_WEIGHT.format(last=first.network.shared_layers - 1, width=first.network.width)
    return ProbedRun(names, checkpoints, lambda network, a, b: weight)


def policy_halves(samples: Samples, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two batches. Steps of one episode, which look alike, are never in both.

    Raises:
        ConfigError: There are fewer than two steps in one of them.
    """
    told = list(zip(samples.tasks, samples.instructions, strict=True))
    episode = np.cumsum([a != b for a, b in zip(told, [told[0], *told], strict=False)])
    parts = [np.flatnonzero(episode % 2 == half) for half in (0, 1)]
    count = _enough(min(map(len, parts)), count, "steps of episodes with different instructions")
    return _spread(parts[0], count), _spread(parts[1], count)


def _policy_loss(
    network: KeyposeNetwork,
    batches: Batches,
    halves: tuple[np.ndarray, np.ndarray],
    seed: int,
    name: str,
    half: int,
    shuffled: bool,
) -> Iterator[Tensor]:
    """Instructions of one length at a time: networks with CLIP attend to padding."""
    chosen = halves[half]
    answers = chosen[cycle(len(chosen), np.random.default_rng([seed, half]))] if shuffled else chosen
    noise = torch.Generator().manual_seed(2 * seed + half)
    for group in grouped(batches.lengths[i] for i in chosen):
        inputs, _ = batches.take(chosen[group])
        _, target = batches.take(answers[group])
        loss = network.loss(network.encode(inputs), target, generator=noise)[name]
        yield loss * (len(group) / len(chosen))


# The heatmap planner


def _heatmap_run(files: Sequence[Path], data: Path, count: int, seed: int) -> ProbedRun:
    scenes = load_scenes(data, "val")
    count = _enough(len(scenes) // 2, count, "scenes of the split 'val'")
    names = ("heat", "meaning", "dense")
    grounders = {int(weights_file.load(file).trained.get("scenes_seen", 0)): file for file in files}

    def opened(file: Path) -> tuple[nn.Module, Mapping[str, ProbedLoss]]:
        grounder = weights_file.load(file)
        batches = [heatmap_batch(scenes, grounder.words, count, half, seed) for half in (0, 1)]

        def loss(name: str, half: int, shuffled: bool) -> Iterator[Tensor]:
            batch = batches[half]
            yield heatmap_losses(grounder.network, permuted(batch, seed) if shuffled else batch, bf16=False)[name]

        return grounder.network, {name: partial(loss, name) for name in names}

    def weight(network: nn.Module, first: str, second: str) -> str | None:
        width = int(network.config.words_width)
        found = HEATMAP_WEIGHTS.get(frozenset((first, second)))
        return None if found is None else found.format(width=width)

    checkpoints = tuple(Checkpoint(done, partial(opened, file)) for done, file in sorted(grounders.items()))
    return ProbedRun(names, checkpoints, weight)


def heatmap_batch(scenes: Scenes, words: tuple[str, ...], count: int, half: int, seed: int) -> SceneBatch:
    """A batch of every second scene, with the same questions every time."""
    chosen = _spread(np.arange(half, len(scenes), 2), count)
    return make_batch(scenes, chosen, words, np.random.default_rng([seed, half]))


def permuted(batch: SceneBatch, seed: int) -> SceneBatch:
    """The answers of other questions, and the cells of other scenes."""
    rng = np.random.default_rng(seed)
    image, question = (torch.from_numpy(cycle(len(part), rng)) for part in (batch.rgb, batch.words))
    scene = {name: getattr(batch, name)[image] for name in ("labels", "colours")}
    answer = {name: getattr(batch, name)[question] for name in ("uv", "counts", "action", "steps", "kind", "colour")}
    return replace(batch, **scene, **answer)


# Qwen3-VL


def _chat_run(
    parts: Mapping[int, tuple[str, str]], data: Path, count: int, seed: int, image_tokens: int | None = None
) -> ProbedRun:
    by_task = {
        task: [sample for sample in everything if sample.task == task]
        for everything in [read_samples(data)]
        for task in dict.fromkeys(sample.task for sample in everything)
    }
    usable = {task: found for task, found in by_task.items() if len(found) >= 4}
    if not usable:
        raise ConfigError(
            f"{data}: wanted at least 4 samples of a task, found { ({t: len(f) for t, f in by_task.items()}) }."
        )

    def opened(model: str, adapter: str) -> tuple[nn.Module, Mapping[str, ProbedLoss]]:
        checkpoint = load(model, CPU, "pss")
        if image_tokens is not None:
            limit_images(checkpoint, image_tokens)
        network = merged(checkpoint.model, adapter, "pss") if adapter else checkpoint.model
        encoder = Encoder(checkpoint)
        pad = checkpoint.processor.tokenizer.pad_token_id or 0
        return network, {
            task: partial(_chat_loss, network, encoder, pad, found, count, seed) for task, found in usable.items()
        }

    def weight(network: nn.Module, first: str, second: str) -> str | None:
        names = [name for name, _ in network.named_parameters() if name.endswith("self_attn.q_proj.weight")]
        return names[-1] if names else None

    checkpoints = tuple(Checkpoint(step, partial(opened, *part)) for step, part in sorted(parts.items()))
    return ProbedRun(tuple(usable), checkpoints, weight)


def _chat_loss(
    network: Any,
    encoder: Encoder,
    pad: int,
    samples: Sequence[Sample],
    count: int,
    seed: int,
    half: int,
    shuffled: bool,
) -> Iterator[Tensor]:
    """Cross entropy per answered token."""
    own = samples[half::2]
    indices = _spread(np.arange(len(own)), min(count, len(samples) // 2))
    chosen = [own[i] for i in indices]
    if shuffled:
        others = cycle(len(chosen), np.random.default_rng([seed, half]))
        chosen = [with_answers_of(sample, chosen[i]) for sample, i in zip(chosen, others, strict=True)]
    examples = [encoder(sample) for sample in chosen]
    batches = [collate([[e] for e in examples[i : i + ROWS]], pad) for i in range(0, len(examples), ROWS)]
    learned = sum(batch.learned for batch in batches)
    for batch in batches:
        yield token_loss(network, batch) / learned


def with_answers_of(sample: Sample, other: Sample) -> Sample:
    """A sample's questions and images with another one's answers, which are repeated if there are too few."""
    answers = [message.content for message in other.messages if message.role == "assistant"]
    messages, k = [], 0
    for message in sample.messages:
        if message.role == "assistant":
            message, k = Message(message.role, answers[k % len(answers)]), k + 1
        messages.append(message)
    return replace(sample, messages=tuple(messages))
