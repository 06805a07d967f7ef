"""Published runs, by synthetic files with all their names and shapes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2_5_VLConfig

from stvla_ros.config import ConfigError
from stvla_ros.policy.st4vla.config import ActionExpertConfig
from stvla_ros.policy.st4vla.expert import ActionExpert
from stvla_ros.policy.st4vla.published import dinov2_shapes, read_run, vlm_shapes

VISION = {"hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048}
FULL_VLM = Qwen2_5_VLConfig(
    text_config={
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "vocab_size": 151936,
    },
    vision_config={**VISION, "depth": 32},
)  # fmt: skip
SMALL_VLM = Qwen2_5_VLConfig(
    text_config={
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 40,
    },
    vision_config={"hidden_size": 16, "intermediate_size": 20, "num_heads": 2, "out_hidden_size": 32, "depth": 2},
)  # fmt: skip
SMALL = ActionExpertConfig(vlm_width=32, eye_width=384, queries=4, bridge_width=16, width=24, depth=2, chunk=6)
PROMPT = "Your task is {instruction}. To identify the key objects for your task."


def statistics(size: int = 7) -> dict[str, Any]:
    low, high = [-0.1 * (i + 1) for i in range(size)], [0.2 * (i + 1) for i in range(size)]
    action = {"mean": [0.0] * size, "std": [1.0] * size, "mask": [True] * (size - 1) + [False]}
    action |= {"min": [2 * x for x in low], "max": [2 * x for x in high], "q01": low, "q99": high}
    return {"action": action, "state": {}, "num_transitions": 10, "num_trajectories": 1}


def settings(config: ActionExpertConfig) -> dict[str, Any]:
    bridge = {"qformer_start_layer": 36, "qformer_end_layer": 36 + config.layers, "num_query_tokens": config.queries}
    bridge |= {"input_dim": config.vlm_width, "ouptput_dim": config.bridge_width, "grad_scale": 0.5}
    action = {"action_model_type": "DiT-B", "action_dim": config.action_dim, "past_action_window_size": 0}
    action["future_action_window_size"] = config.chunk - 1
    return {
        "framework": {"layer_qformer": bridge, "action_model": action},
        "datasets": {"vla_data": {"CoT_prompt": PROMPT}},
    }


def weights(config: ActionExpertConfig, vlm: Qwen2_5_VLConfig, made: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """All names, in the published layout."""
    with torch.device("meta"):
        expert = ActionExpert(config).state_dict()
    embedder = "action_model.net.{}_embedder.linear."
    expert |= {embedder.format("history") + k: expert[embedder.format("x") + k] for k in ("weight", "bias")}
    parts = {"": expert, "qwen_vl_interface.model.": vlm_shapes(vlm), "dino_encoder.body.": dinov2_shapes()}
    return {prefix + name: made(tensor) for prefix, part in parts.items() for name, tensor in part.items()}


def random(tensor: Tensor) -> Tensor:
    return torch.randn(tensor.shape)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(content: Any, told: Any = None, numbers: Any = None, name: str = "steps_5_pytorch_model.pt") -> Path:
        path = tmp_path / "run" / "checkpoints" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (save_file if name.endswith("safetensors") else torch.save)(content, path)
        (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(settings(SMALL) if told is None else told))
        numbers = {"oxe_bridge": statistics()} if numbers is None else numbers
        (tmp_path / "run" / "dataset_statistics.json").write_text(json.dumps(numbers))
        return path

    return written


def test_all_names_and_shapes_of_full_size(write: Callable[..., Path]) -> None:
    """Each weight is one stored number, repeated: the file has all shapes of 3.9 billion parameters, but not the size."""
    config = ActionExpertConfig()
    content = weights(config, FULL_VLM, lambda tensor: torch.full((1,), 0.01).expand(tensor.shape))
    path = write(content, settings(config))
    assert path.stat().st_size < 3e6
    found = read_run(path, FULL_VLM)
    expected = ActionExpertConfig(spacing="leading", clip=None)
    assert found.config == expected
    sizes = [sum(t.numel() for t in part.values()) for part in (found.expert, found.eye, found.vlm)]
    assert sizes[0] == 8_710_656 + 788_480 + 86_524_423 - 6_144
    assert sizes[1] == pytest.approx(22.06e6, rel=0.01)
    assert sizes[2] == pytest.approx(3.75e9 + 151936 * 2048, rel=0.01)  # with the tied head, which the files have too
    assert found.prompt == PROMPT


@pytest.mark.parametrize("name", ["steps_5_pytorch_model.pt", "steps_5_model.safetensors"])
def test_the_expert_is_built_with_the_files_weights(name: str, write: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    content = weights(SMALL, SMALL_VLM, random)
    content["layer_qformer.query_tokens"] = content["layer_qformer.query_tokens"][None]
    run = read_run(write(content, name=name), SMALL_VLM)
    made = run.build()
    own = made.state_dict()
    assert torch.equal(own["layer_qformer.query_tokens"], content["layer_qformer.query_tokens"][0])
    assert all(torch.equal(own[n], content[n]) for n in own if n != "layer_qformer.query_tokens")
    assert not made.training
    states, eye = torch.randn(2, 9, 32), torch.randn(2, 5, 384)
    assert made.predict([states], torch.ones(2, 9).bool(), torch.randn(2, 6, 7), eye).shape == (2, 6, 7)
    assert run.eye.keys() == dinov2_shapes().keys()
    assert run.vlm["model.language_model.norm.weight"].shape == (32,)
    assert (run.config.spacing, run.config.clip) == ("leading", None)


def test_statistics_bring_actions_back_to_their_units(write: Callable[..., Path]) -> None:
    numbers = {"oxe_bridge": statistics(), "franka": statistics()}
    run = read_run(write(weights(SMALL, SMALL_VLM, random), numbers=numbers), SMALL_VLM)
    assert set(run.statistics) == {"oxe_bridge", "franka"}
    found = run.statistics["oxe_bridge"].raw([[-1, 1, 0, 0, 0, 3, 0.7], [0] * 7])
    np.testing.assert_allclose(found[0, [0, 1, 5, 6]], [-0.1, 0.4, 1.2, 0.7])  # clipped, gripper as it is
    np.testing.assert_allclose(found[1, :6], [0.05 * (i + 1) for i in range(6)])
    assert run.statistics["franka"].raw([1] * 7, quantiles=False)[0] == pytest.approx(0.4)


class Harmful:
    """Leaves a file if a pickle executes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_does_more_is_not_executed(write: Callable[..., Path], tmp_path: Path) -> None:
    content: dict[str, Any] = weights(SMALL, SMALL_VLM, random)
    content["dino_pro.bias"] = Harmful(tmp_path / "done")
    with pytest.raises(ConfigError, match="was not executed"):
        read_run(write(content), SMALL_VLM)
    assert not (tmp_path / "done").exists()


def renamed(content: dict[str, Tensor], old: str, new: str) -> None:
    content[new] = content.pop(old)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda w: w.pop("layer_qformer.layers.0.norm2.bias"),
            "missing, the first is 'layer_qformer.layers.0.norm2.bias'",
        ),
        (lambda w: renamed(w, "dino_pro.bias", "dino_pro.bia"), "unknown, the first is 'dino_pro.bia'"),
        (lambda w: w.update({"lm_head.weight": torch.ones(1)}), "'lm_head.weight' belongs to no part"),
        (
            lambda w: w.update({"action_model.net.blocks.1.mlp.fc1.bias": torch.ones(5)}),
            r"'action_model.net.blocks.1.mlp.fc1.bias' has shape \(5,\)",
        ),
        (lambda w: w.pop("qwen_vl_interface.model.lm_head.weight"), "missing"),
        (lambda w: w.pop("dino_encoder.body.blocks.11.ls2.gamma"), "missing"),
        (
            lambda w: w.update({"action_model.net.history_embedder.linear.weight": torch.ones(2, 2)}),
            "history_embedder.linear.weight' has shape",
        ),
        (lambda w: w["action_model.net.final_layer.linear.bias"].fill_(torch.nan), "not finite"),
        (lambda w: w.pop("layer_qformer.proj.weight"), "'layer_qformer.proj.weight' is missing or no matrix"),
    ],
)
def test_other_weights_are_refused(
    change: Callable[[dict[str, Tensor]], object], words: str, write: Callable[..., Path]
) -> None:
    content = weights(SMALL, SMALL_VLM, random)
    change(content)
    with pytest.raises(ConfigError, match=words):
        read_run(write(content), SMALL_VLM)


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("framework.layer_qformer.num_query_tokens", 64, "the weights show 4, but config.yaml says 64"),
        ("framework.layer_qformer.qformer_end_layer", 38, "the weights show 1, but config.yaml says 2"),
        ("framework.action_model.future_action_window_size", 15, "the weights show 6, but config.yaml says 16"),
        ("framework.action_model.action_dim", 8, "the weights show 7, but config.yaml says 8"),
        ("framework.action_model.action_model_type", "DiT-X", "'DiT-X' is not known"),
        ("framework.action_model", None, "config.yaml has no 'framework.action_model.action_model_type'"),
        ("datasets.vla_data.CoT_prompt", "Do it.", "no place for the instruction"),
    ],
)
def test_contradicting_settings_are_refused(where: str, value: Any, words: str, write: Callable[..., Path]) -> None:
    told = settings(SMALL)
    *above, last = where.split(".")
    place = told
    for key in above:
        place = place[key]
    place[last] = value
    with pytest.raises(ConfigError, match=words):
        read_run(write(weights(SMALL, SMALL_VLM, random), told), SMALL_VLM)


def test_settings_that_published_files_leave_out_are_not_needed(write: Callable[..., Path]) -> None:
    told = settings(SMALL)
    for name in ("input_dim", "ouptput_dim", "qformer_start_layer"):
        del told["framework"]["layer_qformer"][name]
    told["framework"]["action_model"]["action_horizon"] = (
        told["framework"]["action_model"].pop("future_action_window_size") + 1
    )
    assert read_run(write(weights(SMALL, SMALL_VLM, random), told), SMALL_VLM).config.chunk == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("q99"), "wanted 'action' with mask"),
        (lambda a: a.update(q01=[0.0] * 8), r"'q01' is \(8,\)"),
        (lambda a: a.update(mask=[1] * 7), "'mask' is"),
        (lambda a: a.update(max=[float("nan")] * 7), "not finite"),
        (lambda a: a.update(q01=[9.0] * 7), "a lower bound is above"),
    ],
)
def test_wrong_statistics_are_refused(
    change: Callable[[dict[str, Any]], object], words: str, write: Callable[..., Path]
) -> None:
    numbers = {"oxe_bridge": statistics()}
    change(numbers["oxe_bridge"]["action"])
    with pytest.raises(ConfigError, match=words):
        read_run(write(weights(SMALL, SMALL_VLM, random), numbers=numbers), SMALL_VLM)


def test_a_run_without_its_other_files_is_refused(write: Callable[..., Path]) -> None:
    path = write(weights(SMALL, SMALL_VLM, random))
    (path.parent.parent / "dataset_statistics.json").unlink()
    with pytest.raises(ConfigError, match=r"dataset_statistics\.json"):
        read_run(path, SMALL_VLM)
    (path.parent.parent / "config.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_run(path, SMALL_VLM)
    (path.parent.parent / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_run(path, SMALL_VLM)
