"""The learned backends: from an observation to a checked keypose, or a typed outcome and no motion."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from policy.seen import observation, with_depth

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.perception.geometric import GeometricConfig, GeometricSegmenter
from stvla_ros.perception.guide import GuideConfig, SpatialGuide
from stvla_ros.policy.checkpoint.policy_file import PolicyFile
from stvla_ros.policy.learned import FlowmatchActorPolicy, KeyposePolicyConfig
from stvla_ros.policy.network.fast.network import FastKeyposeNetwork
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.observation import check_guidance
from stvla_ros.policy.words import Vocabulary
from stvla_ros.train.policy.experiments import NANO
from stvla_ros.types import Observation

BOUNDS = [[0.2, -0.5, 0.0], [0.8, 0.5, 0.6]]
WORDS = Vocabulary.of(["Put the red block in the plate."])
TINY = replace(
    NANO, image_px=64, width=24, heads=2, shared_layers=1, branch_layers=1, history_layers=1, subsample_factor=2,
    vocabulary=len(WORDS),
)  # fmt: skip


def checkpoint(path: Path, network=TINY, bounds=BOUNDS) -> Path:  # type: ignore[no-untyped-def]
    """A file with random weights whose keyposes stay inside: the position branch says nothing."""
    torch.manual_seed(0)
    weights = KeyposeNetwork(network, np.array(bounds)).state_dict()
    PolicyFile(network, weights, WORDS).save(path)
    return path


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> FlowmatchActorPolicy:
    path = checkpoint(tmp_path_factory.mktemp("policy") / "tiny.safetensors")
    made: FlowmatchActorPolicy = registry.create("policy", "3dfa", {"checkpoint": str(path)})
    return made


@pytest.fixture(scope="module")
def seen() -> Observation:
    return observation()


def answer(policy: FlowmatchActorPolicy, monkeypatch: pytest.MonkeyPatch, **change: float) -> None:
    """Put values into the network's answer."""
    plain = FastKeyposeNetwork.sample

    def sample(self: FastKeyposeNetwork, context, noise=None):  # type: ignore[no-untyped-def]
        out = plain(self, context, noise).clone()
        out[..., :3] = torch.tensor([0.5, 0.1, 0.2])
        for name, value in change.items():
            out[..., ["x", "y", "z", "qx", "qy", "qz", "qw", "open"].index(name)] = value
        return out

    monkeypatch.setattr(FastKeyposeNetwork, "sample", sample)


def test_a_keypose_is_proper_and_repeats(
    policy: FlowmatchActorPolicy, seen: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(policy, monkeypatch)
    first, again = policy.predict(seen), policy.predict(seen)
    np.testing.assert_array_equal(first.T_base_tcp, again.T_base_tcp)
    R = first.T_base_tcp[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)


def test_other_noise_gives_another_keypose(policy: FlowmatchActorPolicy, seen: Observation) -> None:
    frame = seen.guidance.frame
    later = replace(seen, guidance=replace(seen.guidance, frame=replace(frame, stamp_ns=frame.stamp_ns + 1)))
    a, b = (policy._sample(o)[0] for o in (seen, later))
    assert np.abs(a - b).max() > 1e-3


def test_a_sample_from_the_tail_does_not_count(
    policy: FlowmatchActorPolicy, seen: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network lets go 15 cm too high in one of many samples; that one is the first here."""
    answer(policy, monkeypatch)
    usual, drawn = FastKeyposeNetwork.sample, []

    def sample(self: FastKeyposeNetwork, context, noise=None):  # type: ignore[no-untyped-def]
        out = usual(self, context, noise)
        out[0, ..., 2] += 0.15
        drawn.append(len(out))
        return out

    monkeypatch.setattr(FastKeyposeNetwork, "sample", sample)
    assert policy._sample(seen)[0][2] == pytest.approx(0.2)
    one = FlowmatchActorPolicy(KeyposePolicyConfig(checkpoint=policy._config.checkpoint, samples=1))
    assert one._sample(seen)[0][2] == pytest.approx(0.35)
    assert drawn == [8, 1]


def test_the_measured_grasp_refines_a_prediction_unless_that_is_off(
    policy: FlowmatchActorPolicy, seen: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(policy, monkeypatch, x=0.52, y=0.11, z=0.12, qx=1.0, qy=0.0, qz=0.0, qw=0.0, open=1.0)
    file = policy._config.checkpoint
    plain = FlowmatchActorPolicy(KeyposePolicyConfig(checkpoint=file, refine_m=0.0))
    for made, place in ((policy, [0.5, 0.1, 0.12]), (plain, [0.52, 0.11, 0.12])):
        keypose = made.predict(seen)
        assert keypose is not None
        np.testing.assert_allclose(keypose.T_base_tcp[:3, 3], place, atol=0.003)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.nan}, "not finite"),
        ({"qw": np.inf}, "not finite"),
        ({"open": np.nan}, "not finite"),
        ({"qx": 0.0, "qy": 0.0, "qz": 0.0, "qw": 0.0}, "not finite"),
        ({"z": -0.1}, "is outside"),
        ({"x": 1.5}, "is outside"),
    ],
)
def test_broken_answers_are_a_typed_outcome(
    policy: FlowmatchActorPolicy, seen: Observation, monkeypatch: pytest.MonkeyPatch, change: dict, words: str
) -> None:
    answer(policy, monkeypatch, **change)
    with pytest.raises(StageError, match=words) as caught:
        policy.predict(seen)
    assert caught.value.code is OutcomeCode.KEYPOSE_OUT_OF_BOUNDS


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    path, name = tmp_path / "nan.safetensors", "prediction_head.position_predictor.2.bias"
    for value in (float("nan"), float("inf")):
        weights = KeyposeNetwork(TINY, np.array(BOUNDS)).state_dict()
        weights[name] = torch.full((3,), value)
        PolicyFile(TINY, weights, WORDS).save(path)
        with pytest.raises(ConfigError, match=f"'{name}' has values that are not finite"):
            FlowmatchActorPolicy(KeyposePolicyConfig(checkpoint=str(path)))


def test_weights_that_overflow_are_a_typed_outcome(tmp_path: Path, seen: Observation) -> None:
    path = tmp_path / "huge.safetensors"
    weights = KeyposeNetwork(TINY, np.array(BOUNDS)).state_dict()
    weights["prediction_head.position_predictor.2.bias"] = torch.full((3,), 3e38)
    PolicyFile(TINY, weights, WORDS).save(path)
    with pytest.raises(StageError) as caught:
        FlowmatchActorPolicy(KeyposePolicyConfig(checkpoint=str(path))).predict(seen)
    assert caught.value.code is OutcomeCode.KEYPOSE_OUT_OF_BOUNDS


@pytest.mark.parametrize(("value", "code"), [(np.nan, OutcomeCode.NO_DEPTH), (0.0, OutcomeCode.NO_DEPTH)])
def test_no_depth_is_a_typed_outcome(
    policy: FlowmatchActorPolicy, seen: Observation, value: float, code: OutcomeCode
) -> None:
    with pytest.raises(StageError) as caught:
        policy.predict(with_depth(seen, np.full(seen.guidance.frame.depth_m.shape, value)))
    assert caught.value.code is code


def test_some_invalid_depth_is_no_problem(policy: FlowmatchActorPolicy, seen: Observation) -> None:
    depth = seen.guidance.frame.depth_m.copy()
    depth[::2] = np.nan
    xyz, quaternion, p_open = policy._sample(with_depth(seen, depth))
    assert np.isfinite([*xyz, *quaternion, p_open]).all()


def test_empty_words_are_a_typed_outcome(policy: FlowmatchActorPolicy, seen: Observation) -> None:
    with pytest.raises(StageError) as caught:
        policy.predict(replace(seen, instruction="  "))
    assert caught.value.code is OutcomeCode.INVALID_GOAL


@pytest.mark.parametrize(("trained", "mode"), [("off", "full"), ("mask_only", "full"), ("full", "mask_only")])
def test_images_unlike_those_of_the_training_are_a_typed_outcome(tmp_path: Path, trained: str, mode: str) -> None:
    path = tmp_path / "other.safetensors"
    PolicyFile(TINY, KeyposeNetwork(TINY, np.array(BOUNDS)).state_dict(), WORDS, trained).save(path)
    with pytest.raises(StageError) as caught:
        FlowmatchActorPolicy(KeyposePolicyConfig(checkpoint=str(path))).predict(observation(mode=mode))
    assert caught.value.code is OutcomeCode.WRONG_GUIDANCE


def test_a_path_outside_the_image_is_not_taken_for_a_drawn_one() -> None:
    """The mode is a word in the guidance: pixels cannot tell whether a path was drawn that nobody sees."""
    seen = observation(mode="off")
    trace = seen.guidance.trace
    elsewhere = replace(trace, xyz_m=trace.xyz_m + np.float32([0.0, 5.0, 0.0]))
    guide = SpatialGuide(GeometricSegmenter(GeometricConfig()), GuideConfig(mode="off"))
    check_guidance(guide.guide(elsewhere, seen.guidance.frame, seen.robot), "off")


def test_a_frozen_policy_takes_masked_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained on the camera's images, used with the mask alone (paper 4.2)."""
    path = tmp_path / "frozen.safetensors"
    PolicyFile(TINY, KeyposeNetwork(TINY, np.array(BOUNDS)).state_dict(), WORDS, "off").save(path)
    policy = FlowmatchActorPolicy(KeyposePolicyConfig(checkpoint=str(path)))
    answer(policy, monkeypatch)
    assert np.isfinite(policy.predict(observation(mode="mask_only")).T_base_tcp).all()


def test_wrong_checkpoints_are_refused(tmp_path: Path) -> None:
    def refused(words: str, name: str = "3dfa", **settings: object) -> None:
        with pytest.raises(ConfigError, match=words):
            registry.create("policy", name, settings)

    refused("wanted a policy checkpoint, got nothing", "3dda")
    refused("found nothing", checkpoint=str(tmp_path / "none.safetensors"))
    (tmp_path / "text.safetensors").write_text("hello")
    refused("not a safetensors file", checkpoint=str(tmp_path / "text.safetensors"))
    flow = str(checkpoint(tmp_path / "flow.safetensors"))
    refused("use the policy '3dfa' for it", "3dda", checkpoint=flow)
    refused("cannot be used here", checkpoint=flow, device="cuda:99")
    two = str(checkpoint(tmp_path / "two.safetensors", replace(TINY, cameras=2)))
    refused("needs 2 cameras", checkpoint=two)
    cut = Path(flow).read_bytes()[:-100]
    (tmp_path / "cut.safetensors").write_bytes(cut)
    refused("cut off; it has", checkpoint=str(tmp_path / "cut.safetensors"))


def test_a_checkpoint_of_another_frame_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = KeyposeNetwork(TINY, np.array(BOUNDS)).state_dict()
    PolicyFile(TINY, weights, WORDS, frame="rlbench").save(tmp_path / "world.safetensors")
    with pytest.raises(ConfigError, match="trained in the frame 'rlbench'"):
        registry.create("policy", "3dfa", {"checkpoint": str(tmp_path / "world.safetensors")})


def test_more_steps_than_a_diffusion_has_are_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "ddpm.safetensors", replace(TINY, denoiser="ddpm", steps=10))
    registry.create("policy", "3dda", {"checkpoint": str(path), "steps": 5})
    with pytest.raises(ConfigError, match=r"policy\.3dda\.steps"):
        registry.create("policy", "3dda", {"checkpoint": str(path), "steps": 11})


def test_a_missing_weight_or_bound_is_named(tmp_path: Path) -> None:
    for name in ("traj_encoder.weight", "workspace_normalizer"):
        weights = dict(KeyposeNetwork(TINY, np.array(BOUNDS)).state_dict())
        del weights[name]
        PolicyFile(TINY, weights, WORDS).save(tmp_path / "lacks.safetensors")
        with pytest.raises(ConfigError, match=name):
            registry.create("policy", "3dfa", {"checkpoint": str(tmp_path / "lacks.safetensors")})
    weights = dict(KeyposeNetwork(TINY, np.array(BOUNDS)).state_dict())
    weights["traj_encoder.bias"] = torch.zeros(7)
    PolicyFile(TINY, weights, WORDS).save(tmp_path / "shape.safetensors")
    with pytest.raises(ConfigError, match=r"'traj_encoder.bias' has shape \(7,\), wanted \(24,\)"):
        registry.create("policy", "3dfa", {"checkpoint": str(tmp_path / "shape.safetensors")})
