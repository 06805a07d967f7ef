"""Reads a published run of InternVLA-M1's code: weights, configuration and statistics of the actions.

Layout: ``RUN/checkpoints/steps_N_pytorch_model.pt`` (or ``steps_N_model.safetensors``), ``RUN/config.yaml``,
``RUN/dataset_statistics.json``. The weights have four parts; every name and shape is checked:

=========================================  =========================================================================
``qwen_vl_interface.model.``               the VLM, under the names of transformers' Qwen2.5-VL
``dino_encoder.body.``                     DINOv2 ViT-S/14, under the names of its hub
``dino_pro.``, ``layer_qformer.``          :class:`~stvla_ros.policy.st4vla.expert.ActionExpert`
``action_model.``                          the same, besides ``history_embedder``, on which no output depends
=========================================  =========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from stvla_ros.config import ConfigError
from stvla_ros.files import check_file, read_json, said
from stvla_ros.policy.checkpoint.policy_file import check_weights
from stvla_ros.policy.checkpoint.torch_file import read_torch_file, tensors
from stvla_ros.policy.st4vla.actions import INSTRUCTION, ActionStatistics, statistics_from
from stvla_ros.policy.st4vla.config import ActionExpertConfig
from stvla_ros.policy.st4vla.expert import ActionExpert
from stvla_ros.weights import check_finite

VLM, EYE = "qwen_vl_interface.model.", "dino_encoder.body."
EXPERT = ("dino_pro.", "layer_qformer.", "action_model.")
UNUSED = "action_model.net.history_embedder.linear."

HEADS = {"DiT-S": 4, "DiT-B": 12, "DiT-L": 16}
"""Attention heads of the action transformer by ``action_model_type``; the weights do not show them."""

BRIDGE_HEADS = 8
SINGLE_QUERY_BATCH = "layer_qformer.query_tokens"
"""May have a leading dimension of 1."""


@dataclass(frozen=True, eq=False)
class PublishedRun:
    """What a run holds.

    Attributes:
        config: Of the action expert, which samples as the published code does.
        expert: Weights for :class:`ActionExpert`.
        vlm: Weights for transformers' ``Qwen2_5_VLForConditionalGeneration``; their values are not looked at, because
            the file is memory-mapped.
        eye: Weights of DINOv2, under the names of its hub; empty without a second eye.
        statistics: By embodiment.
        prompt: Template of an action sample's text, with ``{instruction}``; inference must use the same.
    """

    config: ActionExpertConfig
    expert: Mapping[str, Tensor]
    vlm: Mapping[str, Tensor]
    eye: Mapping[str, Tensor]
    statistics: Mapping[str, ActionStatistics]
    prompt: str

    def build(self) -> ActionExpert:
        """The action expert with its weights, in evaluation mode."""
        with torch.device("meta"):
            made = ActionExpert(self.config)
        made.load_state_dict(dict(self.expert), assign=True)
        return made.eval()


def read_run(weights: Path, vlm: Any) -> PublishedRun:
    """Read a run.

    Args:
        weights: Its file ``steps_N_...``.
        vlm: Configuration of the VLM (``Qwen2_5_VLConfig``), from the folder of its base model.

    Raises:
        ConfigError: A file is missing, damaged or of another layout, or a pickle would execute code; a name or shape is
            not the expected one; weights are not finite; or the three files contradict each other.
    """
    folder = weights.absolute().parent.parent
    settings = _yaml(folder / "config.yaml")
    found = tensors(read_torch_file(weights), str(weights))
    parts = _parts(found, str(weights))
    config = _config(parts["expert"], settings, str(weights))
    with torch.device("meta"):
        wanted = ActionExpert(config).state_dict()
    check_weights(wanted, parts["expert"], str(weights))
    check_weights(vlm_shapes(vlm), parts["vlm"], str(weights), {n: VLM + n for n in parts["vlm"]})
    if config.eye_width:
        check_weights(dinov2_shapes(), parts["eye"], str(weights), {n: EYE + n for n in parts["eye"]})
    for part in ("expert", "eye"):
        check_finite(parts[part], str(weights))
    prompt = _at(settings, "datasets.vla_data.CoT_prompt", str, folder / "config.yaml")
    if INSTRUCTION not in prompt:
        raise ConfigError(f"{folder / 'config.yaml'}: CoT_prompt has no place for the instruction: '{prompt[:80]}'.")
    statistics = read_statistics(folder / "dataset_statistics.json", config.action_dim)
    return PublishedRun(config, parts["expert"], parts["vlm"], parts["eye"], statistics, prompt)


def vlm_shapes(config: Any) -> dict[str, Tensor]:
    """Names and shapes of a Qwen2.5-VL model, on the device ``meta``."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    with torch.device("meta"):
        return dict(Qwen2_5_VLForConditionalGeneration(config).state_dict())


def dinov2_shapes(width: int = 384, depth: int = 12, patch_px: int = 14, places: int = 37 * 37) -> dict[str, Tensor]:
    """Names and shapes of a DINOv2 vision transformer (facebookresearch/dinov2), on the device ``meta``."""
    norm: dict[str, tuple[int, ...]] = {"weight": (width,), "bias": (width,)}

    def linear(out: int, channels: int) -> dict[str, tuple[int, ...]]:
        return {"weight": (out, channels), "bias": (out,)}

    inside: dict[str, dict[str, tuple[int, ...]]] = {
        "norm1": norm, "attn.qkv": linear(3 * width, width), "attn.proj": linear(width, width),
        "ls1": {"gamma": (width,)}, "norm2": norm, "mlp.fc1": linear(4 * width, width),
        "mlp.fc2": linear(width, 4 * width), "ls2": {"gamma": (width,)},
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width), "pos_embed": (1, 1 + places, width), "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, patch_px, patch_px), "patch_embed.proj.bias": (width,),
    }  # fmt: skip
    for k in range(depth):
        shapes |= {f"blocks.{k}.{part}.{name}": s for part, names in inside.items() for name, s in names.items()}
    shapes |= {f"norm.{name}": shape for name, shape in norm.items()}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def read_statistics(path: Path, action_dim: int) -> dict[str, ActionStatistics]:
    """Statistics of the actions by embodiment.

    Raises:
        ConfigError: The file is missing or damaged, an entry is missing, has another number of dimensions, is not
            finite, or a lower bound is above the upper one.
    """
    content = read_json(path)
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"{path}: wanted statistics by embodiment, found none.")
    return {str(name): statistics_from(entry, action_dim, f"{path}: {name}") for name, entry in content.items()}


def _parts(found: Mapping[str, Tensor], where: str) -> dict[str, dict[str, Tensor]]:
    """Weights of expert, VLM and eye under their own names."""
    parts: dict[str, dict[str, Tensor]] = {"expert": {}, "vlm": {}, "eye": {}}
    for name, tensor in found.items():
        if name.startswith(VLM):
            parts["vlm"][name.removeprefix(VLM)] = tensor
        elif name.startswith(EYE):
            parts["eye"][name.removeprefix(EYE)] = tensor
        elif name.startswith(EXPERT):
            parts["expert"][name] = tensor
        else:
            raise ConfigError(f"{where}: '{name}' belongs to no part of InternVLA-M1: this is another model.")
    expert = parts["expert"]
    unused = [expert.pop(UNUSED + kind, None) for kind in ("weight", "bias")]
    embedder = expert.get("action_model.net.x_embedder.linear.weight")
    if unused[0] is not None and embedder is not None and unused[0].shape != embedder.shape:
        raise ConfigError(
            f"{where}: '{UNUSED}weight' has shape {tuple(unused[0].shape)}, wanted {tuple(embedder.shape)}."
        )
    queries = expert.get(SINGLE_QUERY_BATCH)
    if queries is not None and queries.ndim == 3 and len(queries) == 1:
        expert[SINGLE_QUERY_BATCH] = queries[0]
    return parts


def _config(weights: Mapping[str, Tensor], settings: Mapping[str, Any], where: str) -> ActionExpertConfig:
    """The architecture that the weights show; what the settings say must agree."""
    sizes = {
        "layer_qformer.proj.weight": 2, "layer_qformer.query_tokens": 2, "action_model.net.x_embedder.linear.weight": 2,
        "action_model.net.positional_embedding": 2,
    }  # fmt: skip
    for name, dimensions in sizes.items():
        if name not in weights or weights[name].ndim != dimensions:
            raise ConfigError(f"{where}: '{name}' is missing or no matrix: this is no action expert of InternVLA-M1.")
    bridge_width, vlm_width = weights["layer_qformer.proj.weight"].shape
    queries = len(weights["layer_qformer.query_tokens"])
    width, action_dim = weights["action_model.net.x_embedder.linear.weight"].shape
    chunk = len(weights["action_model.net.positional_embedding"]) - queries
    kind = _at(settings, "framework.action_model.action_model_type", str, where)
    if kind not in HEADS:
        raise ConfigError(f"{where}: action_model_type '{kind}' is not known: wanted {', '.join(HEADS)}.")
    eye = weights.get("dino_pro.weight")
    try:
        config = ActionExpertConfig(
            vlm_width=vlm_width, eye_width=0 if eye is None else int(eye.shape[-1]),
            layers=_blocks(weights, r"layer_qformer\.layers\.(\d+)\."), queries=queries, bridge_width=bridge_width,
            bridge_heads=BRIDGE_HEADS, width=width, depth=_blocks(weights, r"action_model\.net\.blocks\.(\d+)\."),
            heads=HEADS[kind], chunk=chunk, action_dim=action_dim, spacing="leading", clip=None,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"{where}: {said(error)}.") from error
    _check_told(config, settings, where)
    return config


def _check_told(config: ActionExpertConfig, settings: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError where the settings contradict the weights. Published files leave some of them out."""
    bridge, action = "framework.layer_qformer.", "framework.action_model."
    future = _told(settings, action + "future_action_window_size")
    first, after = (_told(settings, f"{bridge}qformer_{end}_layer") for end in ("start", "end"))
    told = {
        bridge + "num_query_tokens": (_told(settings, bridge + "num_query_tokens"), config.queries),
        bridge + "input_dim": (_told(settings, bridge + "input_dim"), config.vlm_width),
        bridge + "ouptput_dim": (_told(settings, bridge + "ouptput_dim"), config.bridge_width),
        bridge + "qformer_end_layer - qformer_start_layer": (
            None if first is None or after is None else after - first, config.layers
        ),
        action + "action_dim": (_told(settings, action + "action_dim"), config.action_dim),
        action + "action_horizon": (_told(settings, action + "action_horizon"), config.chunk),
        action + "future_action_window_size": (None if future is None else future + 1, config.chunk),
    }  # fmt: skip
    for name, (said_, shown) in told.items():
        if said_ is not None and said_ != shown:
            raise ConfigError(f"{where}: the weights show {shown}, but config.yaml says {said_} ({name}).")


def _blocks(weights: Mapping[str, Tensor], pattern: str) -> int:
    numbers = {int(found[1]) for found in map(re.compile(pattern).match, weights) if found}
    return max(numbers, default=-1) + 1


def _told(settings: Mapping[str, Any], name: str) -> int | None:
    value: Any = settings
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) else None


def _at(settings: Mapping[str, Any], name: str, kind: type, where: object) -> Any:
    value: Any = settings
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(value, kind):
        raise ConfigError(f"{where}: config.yaml has no '{name}'.")
    return value


def _yaml(path: Path) -> Mapping[str, Any]:
    check_file(path, "the configuration of a run", text=True)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not valid YAML ({said(error)}).") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: wanted the configuration of a run, found {type(content).__name__}.")
    return content
