"""What training starts from: a frozen part is set completely or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from policy.checkpoint.released_files import constants, diffuser_actor, flowmatch_actor, older_text, save
from safetensors.torch import save_file
from torch import Tensor

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.initial import initial_weights
from stvla_ros.policy.checkpoint.policy_file import PolicyFile
from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.network import KeyposeNetwork

WITHOUT_TEXT = NetworkConfig(text="words", vocabulary=9, width=24, heads=2, vision_text_layers=1, history_layers=1)
NANO = NetworkConfig(image_px=32, visual="nano", text="words", vocabulary=5, width=24, heads=2, subsample_factor=2)
BOUNDS = [[-1, -1, -1], [1, 1, 1]]


@pytest.fixture
def network() -> KeyposeNetwork:
    return KeyposeNetwork(WITHOUT_TEXT, BOUNDS)


def clip() -> dict[str, Tensor]:
    """CLIP RN50 as OpenAI and open_clip name it, in half precision, with parts that are of no use here."""
    backbone = "encoder.backbone."
    image = {
        n.replace(backbone, "visual."): w for n, w in constants(diffuser_actor()).items() if n.startswith(backbone)
    }
    halves = {n: w.half() if w.is_floating_point() else w for n, w in image.items() if not n.endswith("tracked")}
    return {**halves, "transformer.resblocks.0.ln_1.weight": torch.zeros(512), "logit_scale": torch.tensor(4.6)}


def as_torch(path: Path, weights: dict[str, Tensor]) -> Path:
    torch.save(weights, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def as_safetensors(path: Path, weights: dict[str, Tensor]) -> Path:
    save_file({name: weight.contiguous() for name, weight in weights.items()}, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


@pytest.mark.parametrize("write", [as_torch, as_safetensors])
def test_clip(network: KeyposeNetwork, write: Callable[[Path, dict[str, Tensor]], Path], tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = clip()
    names = initial_weights(network, write(tmp_path / "clip", weights))
    wanted = {n for n in before if n.startswith("encoder.backbone.") and not n.endswith("tracked")}
    assert set(names) == wanted
    for name, value in network.state_dict().items():
        found = weights[name.replace("encoder.backbone.", "visual.")].float() if name in wanted else before[name]
        assert torch.equal(value, found), name


def test_part_of_a_backbone(network: KeyposeNetwork, tmp_path: Path) -> None:
    weights = clip()
    del weights["visual.layer4.2.conv3.weight"]
    before = network.encoder.backbone.conv1.weight.clone()
    with pytest.raises(ConfigError, match=r"1 of \d+ weights of encoder.backbone are missing.*layer4.2.conv3.weight"):
        initial_weights(network, as_torch(tmp_path / "clip", weights))
    assert torch.equal(network.encoder.backbone.conv1.weight, before)


def test_another_backbone(network: KeyposeNetwork, tmp_path: Path) -> None:
    weights = clip() | {"visual.conv1.weight": torch.zeros(40, 3, 3, 3)}
    with pytest.raises(ConfigError, match=r"conv1.weight' has shape \(40, 3, 3, 3\), wanted \(32, 3, 3, 3\)"):
        initial_weights(network, as_torch(tmp_path / "clip", weights))


def test_no_backbone(network: KeyposeNetwork, tmp_path: Path) -> None:
    weights = {"text_model.final_layer_norm.weight": torch.zeros(512)}
    with pytest.raises(ConfigError, match=r"wanted weights of encoder\.backbone, found"):
        initial_weights(network, as_torch(tmp_path / "text", weights))
    with pytest.raises(ConfigError, match="no keypose policy"):
        initial_weights(network, as_torch(tmp_path / "other", {"fc.weight": torch.zeros(3)}))


def test_a_released_policy_of_another_width(network: KeyposeNetwork, tmp_path: Path) -> None:
    names = initial_weights(network, save(tmp_path / "released.pth", constants(diffuser_actor())))
    assert "encoder.backbone.layer4.2.bn3.running_mean" in names
    assert "traj_encoder.weight" not in names  # 120 wide
    assert "prediction_head.rotation_predictor.2.bias" in names  # 6 numbers at any width
    assert network.workspace_normalizer.tolist() == BOUNDS


def test_our_own_policy(tmp_path: Path) -> None:
    first, second = KeyposeNetwork(NANO, BOUNDS), KeyposeNetwork(NANO, [[0, 0, 0], [1, 1, 1]])
    PolicyFile(NANO, first.state_dict()).save(tmp_path / "first.safetensors")
    names = initial_weights(second, tmp_path / "first.safetensors")
    assert set(names) == first.state_dict().keys() - {"workspace_normalizer"}
    assert torch.equal(second.traj_encoder.weight, first.traj_encoder.weight)
    assert second.workspace_normalizer.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_text_tower(tmp_path: Path) -> None:
    """CLIP ViT-B/32 as transformers 4 saves it, with an image network that is of no use here."""
    with torch.device("meta"):  # 63 million random numbers would take seconds
        network = KeyposeNetwork(replace(NANO, text="clip", vocabulary=0), BOUNDS)
    network.to_empty(device="cpu")
    model = "encoder.text_encoder.model."
    shapes = {n: s for n, s in older_text(flowmatch_actor()).items() if n.startswith(model)}
    weights = {name.removeprefix(model): weight for name, weight in constants(shapes).items()}
    names = initial_weights(
        network, as_torch(tmp_path / "clip", weights | {"vision_model.pre_layrnorm.bias": torch.zeros(768)})
    )
    assert set(names) == {n for n in network.state_dict() if n.startswith(model)}
    for name, value in network.encoder.text_encoder.model.named_parameters():
        constant = weights[f"text_model.{name.removeprefix('text_model.')}"].flatten()[0]
        assert value.min() == value.max() == constant, name


@pytest.mark.parametrize("name", ["none.safetensors", "none.pt"])
def test_nothing_there(network: KeyposeNetwork, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="found nothing"):
        initial_weights(network, tmp_path / name)
