"""Released files: every weight lands where it should, and nothing wrong passes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from policy.checkpoint.released_files import (
    Shapes,
    constants,
    diffuser_actor,
    flowmatch_actor,
    older_pyramid,
    older_text,
    save,
    two_hands,
)
from torch import Tensor

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.policy_file import PolicyFile, weightless
from stvla_ros.policy.checkpoint.reading import PRESETS, Reading
from stvla_ros.policy.checkpoint.released import open_released, read_released, reading_as

PERACT = PRESETS["diffuser_actor_peract"].reading
GNFACTOR = PRESETS["diffuser_actor_gnfactor"].reading
PERACT2 = PRESETS["3dfa_peract2"].reading
ONE_HAND = replace(PERACT2, hands=1, cameras=("front",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("released")


def read(folder: Path, weights: dict[str, Tensor], reading: Reading) -> PolicyFile:
    return read_released(save(folder / "file.pth", weights), reading)


def refused(folder: Path, weights: dict[str, Tensor], reading: Reading) -> str:
    with pytest.raises(ConfigError) as error:
        read(folder, weights, reading)
    message = str(error.value)
    assert str(folder / "file.pth") in message
    assert "\n" not in message
    return message


def value(weight: Tensor) -> float:
    assert weight.min() == weight.max()
    return float(weight.flatten()[0])


DIFFUSER_NAMES = {
    "traj_encoder.weight": "prediction_head.traj_encoder.weight",
    "encoder.vl_attention.attn_layers.1.attention.in_proj_weight": "encoder.vl_attention.0.layers.1.cross_12.in_proj_weight",
    "encoder.vl_attention.attn_layers.1.norm_q.bias": "encoder.vl_attention.0.layers.1.norm_12.bias",
    "encoder.vl_attention.ffw_layers.0.ffn.0.weight": "encoder.vl_attention.0.layers.0.ffn_12.0.weight",
    "encoder.vl_attention.ffw_layers.0.ffn.3.weight": "encoder.vl_attention.0.layers.0.ffn_12.3.weight",
    "encoder.vl_attention.ffw_layers.1.norm.weight": "encoder.vl_attention.0.layers.1.norm_122.weight",
    "prediction_head.traj_lang_attention.attn_layers.0.attention.out_proj.weight": (
        "prediction_head.traj_lang_attention.0.layers.0.cross_12.out_proj.weight"
    ),
    "prediction_head.traj_lang_attention.attn_layers.0.norm_q.weight": (
        "prediction_head.traj_lang_attention.0.layers.0.norm_12.weight"
    ),
    "encoder.gripper_context_head.attn_layers.2.attention.in_proj_bias": (
        "encoder.gripper_context_head.attn_layers.2.multihead_attn.in_proj_bias"
    ),
    "prediction_head.self_attn.attn_layers.3.attention.out_proj.bias": (
        "prediction_head.self_attn.attn_layers.3.multihead_attn.out_proj.bias"
    ),
    "prediction_head.self_attn.attn_layers.3.norm_q.weight": "prediction_head.self_attn.attn_layers.3.norm.weight",
    "prediction_head.self_attn.attn_layers.3.adaln.modulation.1.weight": (
        "prediction_head.self_attn.attn_layers.3.adaln.modulation.1.weight"
    ),
    "prediction_head.cross_attn.ffw_layers.1.ffn.0.bias": "prediction_head.cross_attn.ffw_layers.1.linear1.bias",
    "prediction_head.cross_attn.ffw_layers.1.ffn.3.bias": "prediction_head.cross_attn.ffw_layers.1.linear2.bias",
    "prediction_head.position_self_attn.ffw_layers.1.norm.bias": "prediction_head.position_self_attn.ffw_layers.1.norm.bias",
    "prediction_head.rotation_predictor.2.bias": "prediction_head.rotation_predictor.2.bias",
    "encoder.feature_pyramid.inner_blocks.4.0.weight": "encoder.feature_pyramid.inner_blocks.4.0.weight",
    "encoder.backbone.layer3.5.bn2.running_var": "encoder.backbone.layer3.5.bn2.running_var",
}


def test_lists_are_those_of_the_codes() -> None:
    assert len(diffuser_actor()) == 621
    assert len(flowmatch_actor()) == 823


def test_diffuser_actor_lands_where_it_should(folder: Path) -> None:
    weights = constants(diffuser_actor())
    policy = read(folder, weights, GNFACTOR)
    assert policy.weights.keys() == weightless(policy.network).keys()
    for ours, theirs in DIFFUSER_NAMES.items():
        assert value(policy.weights[ours]) == value(weights[theirs]), ours
    ours_only = {"workspace_normalizer", "encoder.normalize.mean", "encoder.normalize.std"}
    landed = [value(w) for name, w in policy.weights.items() if name not in ours_only]
    assert len(set(landed)) == len(landed) == 593  # none twice
    assert policy.weights["encoder.normalize.mean"].flatten().tolist() == pytest.approx(
        [0.48145466, 0.4578275, 0.40821073]
    )


def test_what_is_inferred_and_what_a_published_file_is(folder: Path) -> None:
    policy = read(folder, constants(diffuser_actor()), GNFACTOR)
    n = policy.network
    assert (n.width, n.history, n.hands, n.heads, n.cameras, n.subsample_factor) == (120, 3, 1, 8, 1, 5)
    assert (n.vision_text_layers, n.history_layers, n.cross_layers, n.shared_layers, n.branch_layers) == (2, 3, 2, 4, 2)
    assert (n.rotary, n.subsampler, n.modulate_kv, n.text_ffn, n.text) == (
        "normalised",
        "farthest",
        False,
        False,
        "features",
    )
    assert (n.denoiser, n.steps) == ("ddpm", 100)
    assert (policy.quaternion, policy.frame, policy.guidance, policy.cameras) == (
        "wxyz_literal",
        "rlbench",
        "off",
        ("front",),
    )
    assert policy.trained["steps"] == 600_000
    low, high = policy.bounds_m  # union of all tasks, 8 cm around it
    assert low == pytest.approx([-0.1501031, -0.5957904, 0.672871], abs=1e-6)
    assert high == pytest.approx([0.6881327, 0.5583595, 1.5516035], abs=1e-6)
    assert read(folder, constants(diffuser_actor()), PERACT).network.cameras == 4


@pytest.mark.parametrize("variant", [dict, older_text, older_pyramid], ids=["newer", "older text", "older pyramid"])
def test_flowmatch_actor_lands_where_it_should(folder: Path, variant: type) -> None:
    shapes: Shapes = variant(flowmatch_actor())
    weights = constants(shapes)
    policy = read(folder, weights, ONE_HAND)
    assert policy.weights.keys() == weightless(policy.network).keys()
    newer = {
        re.sub(r"(_blocks\.\d)\.(?=[wb])", r"\1.0.", name.replace("text_model.", "")): w for name, w in weights.items()
    }
    for name, weight in policy.weights.items():
        assert torch.equal(weight.flatten()[:1], newer[name].flatten()[:1]), name
    assert np.array_equal(policy.bounds_m, weights["workspace_normalizer"].double().numpy())
    assert (policy.network.denoiser, policy.network.steps, policy.network.text) == ("flow", 5, "clip")
    assert policy.quaternion == "xyzw"


def test_two_hands(folder: Path) -> None:
    policy = read(folder, constants(two_hands(flowmatch_actor())), PERACT2)
    n = policy.network
    assert (n.hands, n.history, n.vision_text_layers, n.cameras, n.subsample_factor) == (2, 3, 3, 3, 4)
    assert "prediction_head.hand_embed.weight" in policy.weights
    assert policy.cameras == ("front", "wrist_left", "wrist_right")


def test_without_the_prefix_too(folder: Path) -> None:
    weights = constants(diffuser_actor())
    torch.save({"weight": weights}, folder / "bare.pth")
    policy = read_released(folder / "bare.pth", GNFACTOR)
    assert policy.trained["steps"] == 0
    mixed = {f"module.{n}" if n.startswith("encoder") else n: w for n, w in weights.items()}
    torch.save({"weight": mixed}, folder / "mixed.pth")
    with pytest.raises(ConfigError, match=r"lacks the prefix 'module\.'"):
        read_released(folder / "mixed.pth", GNFACTOR)


def test_moving_average_has_the_buffers_of_the_weights(folder: Path) -> None:
    weights = constants(flowmatch_actor())
    averaged = {
        name: (weight.flatten()[:1] + 0.5).expand(weight.shape) for name, weight in weights.items() if weight.ndim
    }
    averaged["workspace_normalizer"] = weights["workspace_normalizer"]
    path = save(folder / "ema.pth", weights, ema_weight={f"module.{n}": w for n, w in averaged.items()})
    policy = read_released(path, ONE_HAND, average=True)
    plain = read_released(path, ONE_HAND)
    for name, shift in (("traj_encoder.weight", 0.5), ("encoder.backbone.bn1.running_var", 0.0)):
        assert value(policy.weights[name]) == value(plain.weights[name]) + shift
    with pytest.raises(ConfigError, match="no moving average"):
        read_released(save(folder / "ema.pth", weights, ema_weight=None), ONE_HAND, average=True)


@pytest.mark.parametrize("name", ["encoder.curr_gripper_embed.weight", "prediction_head.time_emb.3.bias"])
def test_a_missing_weight_is_named(folder: Path, name: str) -> None:
    weights = constants(diffuser_actor())
    del weights[name]
    assert f"'{name}'" in refused(folder, weights, GNFACTOR)


def test_a_wrong_name_is_named(folder: Path) -> None:
    weights = constants(diffuser_actor())
    weights["prediction_head.openness_predictor.0.bias"] = weights.pop("prediction_head.openess_predictor.0.bias")
    message = refused(folder, weights, GNFACTOR)
    assert "'prediction_head.openess_predictor.0.bias'" in message
    assert "'prediction_head.openness_predictor.0.bias'" in message


@pytest.mark.parametrize(
    ("shapes", "reading", "extra"),
    [
        (diffuser_actor, GNFACTOR, "encoder.camera_ids.weight"),  # the other code's unused ones are not ours to ignore
        (diffuser_actor, GNFACTOR, "prediction_head.hand_embed.weight"),
        (diffuser_actor, GNFACTOR, "encoder.backbone.attnpool.k_proj.scale"),
        (flowmatch_actor, ONE_HAND, "encoder.goal_gripper_embed.weight"),
        (flowmatch_actor, ONE_HAND, "encoder.feature_pyramid.inner_blocks.5.0.weight"),
    ],
)
def test_nothing_is_ignored_that_is_not_on_the_list(folder: Path, shapes: type, reading: Reading, extra: str) -> None:
    weights = constants(shapes())
    weights[extra] = torch.zeros(2)
    message = refused(folder, weights, reading)
    assert "1 of" in message
    assert f"unknown, the first is '{extra}'" in message


def test_a_wrong_shape_is_named_as_in_the_file(folder: Path) -> None:
    weights = constants(diffuser_actor())
    name = "encoder.vl_attention.0.layers.0.cross_12.in_proj_bias"
    weights[name] = torch.zeros(359)
    message = refused(folder, weights, GNFACTOR)
    assert name in message
    assert "(359,), wanted (360,)" in message


def test_values_that_are_not_finite_are_named(folder: Path) -> None:
    weights = constants(diffuser_actor())
    weights["encoder.instruction_encoder.bias"] = torch.full((120,), float("nan"))
    assert "'encoder.instruction_encoder.bias' has values that are not finite" in refused(folder, weights, GNFACTOR)


def test_two_names_of_one_weight(folder: Path) -> None:
    weights = constants(older_pyramid(diffuser_actor()))
    weights["encoder.feature_pyramid.inner_blocks.2.0.bias"] = torch.zeros(120)
    assert "two names of one weight" in refused(folder, weights, GNFACTOR)


def test_the_fork_with_lists_of_predictors(folder: Path) -> None:
    weights = constants(flowmatch_actor())
    for i, end in ((i, end) for i in (0, 1) for end in ("weight", "bias")):
        weights[f"prediction_head.rotation_predictors.{i}.{end}"] = torch.zeros(6)
    assert "a fork of 3D FlowMatch Actor" in refused(folder, weights, ONE_HAND)


@pytest.mark.parametrize(
    ("lacking", "wanted"),
    [
        ("bounds_m", "--bounds FILE --task"),
        ("buffer_m", "--buffer M"),
        ("quaternion", "--quaternion xyzw|wxyz_literal"),
        ("steps", "--steps N"),
        ("heads", "--heads N"),
        ("subsample_factor", "--subsample-factor N"),
        ("cameras", "--cameras NAME"),
        ("frame", "--frame base|rlbench"),
        ("image_px", "--image-px N"),
    ],
)
def test_what_the_file_does_not_say_must_be_given(folder: Path, lacking: str, wanted: str) -> None:
    weights = constants(diffuser_actor())
    message = refused(folder, weights, replace(GNFACTOR, **{lacking: None}))
    assert wanted in message
    assert message.count("--") == 1 + wanted.count(" --task") + 1  # that one and --as, nothing else
    assert "--as diffuser_actor_peract or diffuser_actor_gnfactor" in message


@pytest.mark.parametrize(("lacking", "wanted"), [("denoiser", "--denoiser flow|ddpm"), ("hands", "--hands 1|2")])
def test_flowmatch_actor_does_not_say_either(folder: Path, lacking: str, wanted: str) -> None:
    assert wanted in refused(folder, constants(flowmatch_actor()), replace(ONE_HAND, **{lacking: None}))


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (replace(ONE_HAND, bounds_m=GNFACTOR.bounds_m), "contains its own bounds_m: leave --bounds out"),
        (replace(ONE_HAND, quaternion="wxyz_literal"), "always has quaternion 'xyzw'"),
        (replace(ONE_HAND, quaternion="wxyz"), "quaternion 'wxyz' is not known; wanted --quaternion xyzw|wxyz_literal"),
        (replace(ONE_HAND, hands=2), "3 past poses cannot be divided among 2 hands"),
        (replace(ONE_HAND, heads=7), "wanted a multiple of heads, 7"),
    ],
)
def test_contradictions(folder: Path, reading: Reading, message: str) -> None:
    assert message in refused(folder, constants(flowmatch_actor()), reading)


def test_bounds_in_the_wrong_order(folder: Path) -> None:
    weights = constants(flowmatch_actor())
    weights["workspace_normalizer"] = weights["workspace_normalizer"].flip(0)
    assert "'workspace_normalizer': wanted bounds" in refused(folder, weights, ONE_HAND)
    (low, high) = GNFACTOR.bounds_m or ((0, 0, 0), (0, 0, 0))
    assert "lower corner first" in refused(folder, constants(diffuser_actor()), replace(GNFACTOR, bounds_m=(high, low)))


def test_flowmatch_actor_without_its_bounds(folder: Path) -> None:
    weights = constants(flowmatch_actor())
    del weights["workspace_normalizer"]
    assert "missing, the first is 'workspace_normalizer'" in refused(folder, weights, ONE_HAND)


def test_a_published_name_of_the_other_code(folder: Path) -> None:
    released = open_released(save(folder / "file.pth", constants(diffuser_actor())))
    with pytest.raises(
        ConfigError, match="'3dfa_peract2' is one of 3D FlowMatch Actor: give --as diffuser_actor_peract or"
    ):
        reading_as(released, "3dfa_peract2", Reading())
    with pytest.raises(ConfigError, match="Did you mean 'diffuser_actor_peract'"):
        reading_as(released, "diffuser_actor_perac", Reading())
    given = reading_as(released, "diffuser_actor_peract", Reading(buffer_m=0.1, cameras=("front",)))
    assert (given.buffer_m, given.cameras, given.heads) == (0.1, ("front",), 8)
