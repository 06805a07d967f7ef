"""The ``st4vla`` backend: from an observation to checked keyposes, or a typed outcome and no motion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from policy.seen import observation, with_depth
from policy.st4vla.test_model import TINY, image_processor
from tiny_qwen3_vl import TEMPLATE, byte_tokenizer, tiny_config
from transformers import Qwen3VLForConditionalGeneration

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.doctor.finding import State
from stvla_ros.doctor.workspace import Box, check_checkpoint
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.se3 import pose
from stvla_ros.policy.st4vla import policy as backend
from stvla_ros.policy.st4vla.actions import DELTA, DIMENSIONS, KEYPOSE, ActionStatistics, ToolPose, rows
from stvla_ros.policy.st4vla.checkpoint import St4VlaSpec, save
from stvla_ros.policy.st4vla.inputs import VlmProcessor
from stvla_ros.policy.st4vla.model import St4Vla
from stvla_ros.policy.st4vla.policy import St4VlaPolicy
from stvla_ros.types import Keypose, Observation

LOW, HIGH = np.array([0.3, -0.3, 0.05]), np.array([0.6, 0.3, 0.4])
DOWN = np.diag([1.0, -1.0, -1.0])


def poses(count: int = 200) -> list[ToolPose]:
    """Of tools that point down, all over a workspace."""
    rng = np.random.default_rng(0)
    found = []
    for k in range(count):
        c, s = np.cos(a := rng.uniform(-1, 1)), np.sin(a)
        turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ DOWN
        found.append(ToolPose(pose(turned, rng.uniform(LOW, HIGH)), bool(k % 2)))
    return found


def checkpoint(folder: Path, guidance: str = "off", actions: str = KEYPOSE) -> Path:
    """A folder with random weights."""
    torch.manual_seed(1)
    words = byte_tokenizer()
    vlm = Qwen3VLForConditionalGeneration(tiny_config(words))
    expert = replace(TINY, vlm_width=64, chunk=4, action_dim=DIMENSIONS[actions])
    model = St4Vla(vlm, expert)
    torch.nn.init.normal_(model.expert.action_model.net.final_layer.linear.weight, std=0.3)
    statistics = ActionStatistics.of(rows(poses(), actions))
    spec = St4VlaSpec(expert, actions, statistics, "Your task is to {instruction}.", guidance)
    save(folder, spec, model, VlmProcessor(words, image_processor(16), TEMPLATE))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("st4vla") / "it")


@pytest.fixture(scope="module")
def seen() -> Observation:
    return observation(mode="off")


def made(folder: Path, **settings: Any) -> St4VlaPolicy:
    found: St4VlaPolicy = registry.create("policy", "st4vla", {"checkpoint": str(folder), "device": "cpu", **settings})
    return found


def chunk_of(poses: list[ToolPose]) -> np.ndarray:
    return rows(poses, KEYPOSE)


def test_a_keypose_is_proper_inside_and_repeats(folder: Path, seen: Observation) -> None:
    policy = made(folder)
    first, again = policy.predict(seen), policy.predict(seen)
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.T_base_tcp, again.T_base_tcp)
    R, xyz = first.T_base_tcp[:3, :3], first.T_base_tcp[:3, 3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
    assert ((xyz >= LOW) & (xyz <= HIGH)).all()
    chunk = policy._sample(seen, seen.instruction)
    frame = seen.guidance.frame
    later = replace(seen, guidance=replace(seen.guidance, frame=replace(frame, stamp_ns=frame.stamp_ns + 1)))
    assert not np.allclose(policy._sample(later, seen.instruction), chunk)
    assert not np.allclose(policy._sample(seen, "Push the button."), chunk)
    assert not np.allclose(made(folder, seed=7)._sample(seen, seen.instruction), chunk)


def test_a_chunk_goes_on_only_where_it_was_followed(
    folder: Path, seen: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, sampled = poses(4), []

    def sample(self: St4VlaPolicy, observation: Observation, words: str) -> np.ndarray:
        sampled.append(words)
        return chunk_of(wanted)

    monkeypatch.setattr(St4VlaPolicy, "_sample", sample)
    policy = made(folder, execute=3)

    def answers(pose_: ToolPose, observation: Observation, chunks: int) -> Keypose:
        keypose = policy.predict(observation)
        assert keypose is not None
        np.testing.assert_allclose(keypose.T_base_tcp, pose_.T_base_tcp, atol=1e-9)
        assert (keypose.gripper_open, len(sampled)) == (pose_.gripper_open, chunks)
        return keypose

    first = answers(wanted[0], seen, 1)
    second = answers(wanted[1], replace(seen, history=(first,)), 1)
    third = answers(wanted[2], replace(seen, history=(first, second)), 1)
    first = answers(wanted[0], replace(seen, history=(first, second, third)), 2)  # three of four, then anew
    answers(wanted[0], seen, 3)  # a new step
    first = answers(wanted[0], replace(seen, history=(second,)), 4)  # the first was not executed
    trace = replace(seen.guidance.trace, plan_id="another")
    answers(wanted[0], replace(seen, history=(first,), guidance=replace(seen.guidance, trace=trace)), 5)
    first = answers(wanted[0], seen, 6)
    answers(wanted[0], replace(seen, history=(first,), instruction="Push it."), 7)
    assert sampled[-1] == "Push it."


def test_each_keypose_comes_from_a_new_image_by_default(folder: Path, seen: Observation) -> None:
    policy = made(folder)
    first = policy.predict(seen)
    assert first is not None
    assert policy._next == []


def test_a_complete_path_is_reported(folder: Path, seen: Observation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "done_there", lambda observation, keypose: True)
    assert made(folder).predict(seen) is None


@pytest.mark.parametrize(
    ("columns", "value", "words"), [(slice(0, 1), np.nan, "not finite"), (slice(3, 9), 0.0, "not two columns")]
)
def test_broken_answers_are_a_typed_outcome(
    folder: Path, seen: Observation, monkeypatch: pytest.MonkeyPatch, columns: slice, value: float, words: str
) -> None:
    chunk = chunk_of(poses(4))
    chunk[:, columns] = value
    monkeypatch.setattr(St4VlaPolicy, "_sample", lambda *_: chunk)
    with pytest.raises(StageError, match=words) as caught:
        made(folder).predict(seen)
    assert caught.value.code is OutcomeCode.KEYPOSE_OUT_OF_BOUNDS


def test_inputs_that_say_nothing_are_a_typed_outcome(folder: Path, seen: Observation) -> None:
    policy = made(folder)
    blind = with_depth(seen, np.full(seen.guidance.frame.depth_m.shape, np.nan))
    for odd, code in ((replace(seen, instruction=" "), OutcomeCode.INVALID_GOAL), (blind, OutcomeCode.NO_DEPTH)):
        with pytest.raises(StageError) as caught:
            policy.predict(odd)
        assert caught.value.code is code


@pytest.mark.parametrize(("trained", "mode"), [("off", "full"), ("full", "mask_only")])
def test_images_unlike_those_of_the_training_are_a_typed_outcome(tmp_path: Path, trained: str, mode: str) -> None:
    policy = made(checkpoint(tmp_path / "it", trained))
    with pytest.raises(StageError) as caught:
        policy.predict(observation(mode=mode))
    assert caught.value.code is OutcomeCode.WRONG_GUIDANCE


def test_deltas_begin_where_the_tool_is(tmp_path: Path, seen: Observation) -> None:
    policy = made(checkpoint(tmp_path / "it", actions=DELTA))
    chunk = policy._sample(seen, seen.instruction)
    keypose = policy.predict(seen)
    assert keypose is not None
    is_open = chunk[:, -1] > 0.5
    last = next((k for k in range(3) if is_open[k] != is_open[k + 1]), 3)
    wanted = seen.robot.T_base_tcp[:3, 3] + chunk[: last + 1, :3].sum(0)
    np.testing.assert_allclose(keypose.T_base_tcp[:3, 3], wanted, atol=1e-6)


def test_settings(folder: Path, tmp_path: Path) -> None:
    assert "st4vla" in registry.names("policy")
    for settings, words in (
        ({"checkpoint": ""}, r"policy\.st4vla\.checkpoint: wanted the folder of a checkpoint, got nothing"),
        ({"checkpoint": str(tmp_path)}, r"config\.json"),
        ({"steps": 101}, r"policy\.st4vla\.steps: sampling_steps"),
        ({"execute": 0}, "execute"),
        ({"device": "cuda:99"}, "cannot be used here"),
    ):
        with pytest.raises(ConfigError, match=words):
            made(folder, **settings)
    assert len(made(folder, steps=3)._model.expert.action_model.times) == 3


def test_the_doctor_says_that_it_cannot_compare_bounds(folder: Path) -> None:
    workspace = Box(LOW, HIGH)
    assert check_checkpoint("st4vla", str(folder), workspace, None).state is State.UNSEEN
    assert check_checkpoint("st4vla", "", workspace, None).state is State.WRONG
