"""Weights that training starts from: CLIP's, or another policy's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.names import flavour, renamed
from stvla_ros.policy.checkpoint.policy_file import BOUNDS
from stvla_ros.policy.checkpoint.torch_file import read_torch_file, weights_in
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.weights import check_finite

CLIP_PREFIXES = {"visual.": "encoder.backbone.", "text_model.": "encoder.text_encoder.model."}
"""Prefixes in CLIP's files -> ours: RN50's image network as in OpenAI's code and open_clip, ViT-B/32's text tower as in
transformers."""

PARTS = ("encoder.backbone.", "encoder.text_encoder.model.")
"""Parts that must be loaded completely if training does not change them."""

COUNTER = ".num_batches_tracked"
"""Missing in some files; nothing depends on it."""

HOW_TO_GET = (
    "CLIP RN50 as safetensors: hf download timm/resnet50_clip.openai open_clip_model.safetensors --local-dir DIR."
)


def initial_weights(network: KeyposeNetwork, path: Path) -> tuple[str, ...]:
    """Load those weights of a network that a file has.

    Args:
        network: Changed in place, unless an error is raised.
        path: safetensors, or a dictionary of tensors of ``torch.save``: CLIP RN50 (``visual.*``), CLIP ViT-B/32's text
            tower as transformers saves it (``text_model.*``), or a policy, released or ours. From a policy, weights
            of the same name and shape are taken, but never its workspace bounds.

    Returns:
        Names of the loaded weights, sorted. A frozen part is loaded completely or not at all, and at least one is
        loaded.

    Raises:
        ConfigError: The file cannot be read, no weight fits the network, or a frozen part is incomplete or has another
            shape; the message names the first weight.
    """
    found = _ours(weights_in(read_torch_file(path), str(path)), str(path))
    wanted = network.state_dict()
    wanted.pop(BOUNDS)
    chosen = {n: w for n, w in found.items() if n in wanted and w.shape == wanted[n].shape}
    check_finite(chosen, str(path))
    parts = frozen_parts(network)
    present = [part for part in parts if _is_complete(part, wanted, found, str(path))]
    if parts and not present:
        raise ConfigError(
            f"{path}: wanted weights of {' or '.join(part.rstrip('.') for part in parts)}, found '{min(found)}' and "
            f"{len(found) - 1} more. {HOW_TO_GET}"
        )
    if not chosen:
        raise ConfigError(f"{path}: none of its {len(found)} weights fits this network: give weights of the same one.")
    network.load_state_dict(chosen, strict=False)
    return tuple(sorted(chosen))


def frozen_parts(network: KeyposeNetwork) -> list[str]:
    """Prefixes of CLIP's parts that the network contains but does not train."""
    trained = dict.fromkeys(PARTS, False)
    has = set()
    for name, parameter in network.named_parameters():
        for part in PARTS:
            if name.startswith(part):
                has.add(part)
                trained[part] |= parameter.requires_grad
    return [part for part in PARTS if part in has and not trained[part]]


def _ours(weights: Mapping[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """Weights of a CLIP or policy file, under our names."""
    if not any(name.startswith(tuple(CLIP_PREFIXES)) for name in weights):
        return renamed(weights, flavour(weights, where), where)[0]
    ours = {}
    for name, weight in weights.items():
        prefix = next((p for p in CLIP_PREFIXES if name.startswith(p)), None)
        if prefix is not None:
            ours[CLIP_PREFIXES[prefix] + name.removeprefix(prefix)] = weight
    return ours


def _is_complete(part: str, wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], where: str) -> bool:
    """Whether a part is there; raises ConfigError if it is there incompletely or in another shape."""
    names = [name for name in wanted if name.startswith(part)]
    needed = [name for name in names if not name.endswith(COUNTER)]
    if not any(name in found for name in needed):
        return False
    lacking = [name for name in needed if name not in found]
    if lacking:
        raise ConfigError(
            f"{where}: {len(lacking)} of {len(needed)} weights of {part.rstrip('.')} are missing, the first is "
            f"'{min(lacking)}': this is another network, or part of one. {HOW_TO_GET}"
        )
    for name in names:
        if name in found and found[name].shape != wanted[name].shape:
            raise ConfigError(
                f"{where}: '{name}' has shape {tuple(found[name].shape)}, wanted {tuple(wanted[name].shape)}: "
                f"this is another network. {HOW_TO_GET}"
            )
    return True
