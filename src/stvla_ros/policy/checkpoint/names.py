"""Names in the released files: each is translated to ours, listed as unused, or unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from stvla_ros.config import ConfigError

DIFFUSER, FLOWMATCH = "3D Diffuser Actor", "3D FlowMatch Actor"
"""The two codes behind the released files: arXiv 2402.10885 and 2508.11002."""

_VISION_TEXT = r"^(encoder\.vl_attention|prediction_head\.traj_lang_attention)\.0\.layers\.(\d+)"

FROM_DIFFUSER = (
    (r"^prediction_head\.traj_encoder\.", r"traj_encoder."),
    (_VISION_TEXT + r"\.cross_12\.", r"\1.attn_layers.\2.attention."),
    (_VISION_TEXT + r"\.norm_12\.", r"\1.attn_layers.\2.norm_q."),
    (_VISION_TEXT + r"\.ffn_12\.", r"\1.ffw_layers.\2.ffn."),
    (_VISION_TEXT + r"\.norm_122\.", r"\1.ffw_layers.\2.norm."),
    (r"(\.attn_layers\.\d+)\.multihead_attn\.", r"\1.attention."),
    (r"(\.attn_layers\.\d+)\.norm\.", r"\1.norm_q."),
    (r"(\.ffw_layers\.\d+)\.linear1\.", r"\1.ffn.0."),
    (r"(\.ffw_layers\.\d+)\.linear2\.", r"\1.ffn.3."),
)
"""3D Diffuser Actor's names -> 3D FlowMatch Actor's, which are ours too."""

OLDER = (
    (r"^(encoder\.feature_pyramid\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
    (r"^(encoder\.text_encoder\.model)\.text_model\.", r"\1."),
)
"""Names of older libraries -> newer ones: torchvision before 0.13, transformers before 5."""

UNUSED = (
    r"encoder\.backbone\.attnpool\.(positional_embedding|[kqvc]_proj\.(weight|bias))",
    r"encoder\.feature_pyramid\.(inner_blocks\.[01]|layer_blocks\.[0134])\.0\.(weight|bias)",
)
"""Weights in both codes' files that no output depends on."""

UNUSED_DIFFUSER = (
    r"encoder\.goal_gripper_embed\.weight",
    r"prediction_head\.traj_lang_attention\.ffw_layers\.0\.(ffn\.[03]|norm)\.(weight|bias)",
)
"""... in 3D Diffuser Actor's only: no goal is ever given, and the feed-forward layer of the text attention is off."""

UNUSED_FLOWMATCH = (
    r"encoder\.(camera_ids\.weight|rgb2d_proj\.(weight|bias))",
    r"encoder\.text_encoder\.model\.embeddings\.position_ids",
)
"""... in 3D FlowMatch Actor's only: for cameras without depth, and indices stored by older transformers."""

UNUSED_ONE_HAND = (r"prediction_head\.hand_embed\.weight",)
"""... for one hand."""

FORK = ".rotation_predictors."


def flavour(weights: Mapping[str, torch.Tensor], where: str) -> str:
    """The code that wrote a file, told by the place of its encoder of noisy poses.

    Raises:
        ConfigError: It is neither code, both, or a fork with another network.
    """
    fork = [name for name in weights if FORK in f".{name}"]
    if fork:
        raise ConfigError(
            f"{where}: '{min(fork)}' belongs to a fork of 3D FlowMatch Actor with several rotation predictors, which "
            "is another network: only files of the published codes can be read."
        )
    signs = {"prediction_head.traj_encoder.weight": DIFFUSER, "traj_encoder.weight": FLOWMATCH}
    diffuser, flowmatch = signs
    found = [sign for sign in signs if sign in weights]
    if len(found) != 1:
        what = f"both '{found[0]}' and '{found[1]}'" if found else f"neither; its first name is '{min(weights)}'"
        raise ConfigError(
            f"{where}: wanted '{diffuser}' ({DIFFUSER}) or '{flowmatch}' ({FLOWMATCH}), found {what}: this is no "
            "keypose policy of these codes."
        )
    return signs[found[0]]


def translated(name: str, code: str) -> str:
    """Our name for a name in a file of ``code``."""
    for pattern, ours in (*(FROM_DIFFUSER if code == DIFFUSER else ()), *OLDER):
        name = re.sub(pattern, ours, name)
    return name


def is_unused(name: str, code: str, hands: int) -> bool:
    """Whether no output depends on a weight, given by our name."""
    one = UNUSED_ONE_HAND if code == FLOWMATCH and hands == 1 else ()
    patterns = (*UNUSED, *(UNUSED_DIFFUSER if code == DIFFUSER else UNUSED_FLOWMATCH), *one)
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def renamed(
    weights: Mapping[str, torch.Tensor], code: str, where: str
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """All weights under our names, and our name -> name in the file.

    Raises:
        ConfigError: Two names in the file mean the same weight.
    """
    theirs: dict[str, str] = {}
    for name in weights:
        ours = translated(name, code)
        if ours in theirs:
            raise ConfigError(f"{where}: '{theirs[ours]}' and '{name}' are two names of one weight.")
        theirs[ours] = name
    return {ours: weights[name] for ours, name in theirs.items()}, theirs
