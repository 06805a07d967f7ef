"""Names and shapes of the parameters are those of the released files."""

import re
from dataclasses import replace
from pathlib import Path

import torch

from stvla_ros.policy.network.config import DIFFUSER_ACTOR, FLOWMATCH_ACTOR, NetworkConfig
from stvla_ros.policy.network.network import KeyposeNetwork

RELEASED = Path(__file__).parents[2] / "golden" / "flowmatch_actor_names.txt"

NEVER_USED = re.compile(
    r"prediction_head\.hand_embed|encoder\.(rgb2d_proj|camera_ids|backbone\.attnpool)"
    r"|encoder\.feature_pyramid\.(inner_blocks\.[01]|layer_blocks\.[0134])\."
)
"""What the released files hold for one hand although no output depends on it."""


def shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = KeyposeNetwork(config, [[0, 0, 0], [1, 1, 1]])
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def released() -> dict[str, tuple[int, ...]]:
    found = {}
    for line in RELEASED.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, shape = line.split()
        numbers = re.search(r"\{(\d+)-(\d+)\}", name)
        first, last = map(int, numbers.groups()) if numbers else (0, 0)
        for index in range(first, last + 1):
            full = re.sub(r"\{.*\}", str(index), name)
            found[full] = () if shape == "-" else tuple(map(int, shape.split("x")))
    return found


def test_one_hand() -> None:
    names = released()
    assert len(names) == 823
    used = {name: shape for name, shape in names.items() if not NEVER_USED.match(name)}
    assert shapes(FLOWMATCH_ACTOR) == used


def test_two_hands() -> None:
    one, two = shapes(FLOWMATCH_ACTOR), shapes(replace(FLOWMATCH_ACTOR, hands=2, vision_text_layers=3))
    assert two["prediction_head.hand_embed.weight"] == (2, 120)
    assert two["encoder.curr_gripper_embed.weight"] == (6, 120)
    assert two["prediction_head.curr_gripper_emb.0.weight"] == (120, 720)
    new = {name for name in two.keys() - one.keys() if not name.startswith("encoder.vl_attention")}
    assert new == {"prediction_head.hand_embed.weight"}


def test_diffuser_actor_lacks_text_tower_and_one_layer() -> None:
    lacking = shapes(FLOWMATCH_ACTOR).keys() - shapes(DIFFUSER_ACTOR).keys()
    prefixes = ("encoder.text_encoder.", "prediction_head.traj_lang_attention.ffw_layers.0.")
    assert lacking == {name for name in shapes(FLOWMATCH_ACTOR) if name.startswith(prefixes)}
