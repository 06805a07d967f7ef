"""Files as the published codes write them, from the names and shapes in test/golden; values are ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[2] / "golden"
Shapes = dict[str, tuple[int, ...]]


def diffuser_actor() -> Shapes:
    """3D Diffuser Actor."""
    return _read("diffuser_actor_names.txt")


def flowmatch_actor() -> Shapes:
    """3D FlowMatch Actor with one hand, saved with transformers 5."""
    return _read("flowmatch_actor_names.txt")


def older_text(shapes: Shapes) -> Shapes:
    """... saved with transformers 4, which says ``text_model`` and, before 4.31, stored positions."""
    model = "encoder.text_encoder.model."
    renamed = {n.replace(model, f"{model}text_model."): s for n, s in shapes.items()}
    return {**renamed, f"{model}text_model.embeddings.position_ids": (1, 77)}


def older_pyramid(shapes: Shapes) -> Shapes:
    """... with torchvision before 0.13."""
    return {re.sub(r"(_blocks\.\d)\.0\.", r"\1.", n): s for n, s in shapes.items()}


def two_hands(shapes: Shapes) -> Shapes:
    """... of ``3dfa_peract2``: two hands, a third vision-text layer."""
    layer = "encoder.vl_attention."
    third = {
        n.replace("layers.1.", "layers.2."): s for n, s in shapes.items() if n.startswith(layer) and "layers.1." in n
    }
    rows = {"encoder.curr_gripper_embed.weight": (6, 120), "prediction_head.curr_gripper_emb.0.weight": (120, 720)}
    return {**shapes, **third, **rows}


def constants(shapes: Shapes) -> dict[str, Tensor]:
    """Weights without memory, each of one value that no other has; workspace bounds are bounds."""
    weights = {name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(shapes.items(), 1)}
    if "workspace_normalizer" in weights:
        weights["workspace_normalizer"] = torch.tensor([[-0.3, -0.5, 0.6], [0.7, 0.5, 1.6]])
    return weights


def random_values(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Weights of a network that gives something sensible: small, and batch norms that do not blow up."""
    generator = torch.Generator().manual_seed(seed)

    def value(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith("num_batches_tracked"):
            return torch.tensor(7)
        if name.endswith("running_var") or re.search(r"(norm\w*|bn\d|downsample\.1)\.weight$", name):
            return torch.ones(shape)
        fan_in = max(1, torch.Size(shape[1:]).numel())
        return torch.randn(shape, generator=generator) * (0.02 if len(shape) < 2 else 0.7 * fan_in**-0.5)

    weights = {name: value(name, shape) for name, shape in shapes.items()}
    if "workspace_normalizer" in weights:
        weights["workspace_normalizer"] = torch.tensor([[-0.3, -0.5, 0.6], [0.7, 0.5, 1.6]])
    return weights


def checkpoint(weights: dict[str, Tensor], **more: Any) -> dict[str, Any]:
    """The dictionary that training saves."""
    return {"weight": {f"module.{n}": w for n, w in weights.items()}, "iter": 600_000, "best_loss": None, **more}


def save(path: Path, weights: dict[str, Tensor], **more: Any) -> Path:
    """The file, each weight one number on the disk if it is one in memory."""
    torch.save(checkpoint(weights, **more), path)
    return path


def _read(name: str) -> Shapes:
    shapes: Shapes = {}
    for line in (GOLDEN / name).read_text().splitlines():
        if not line.startswith("#"):
            pattern, sizes = line.split()
            shape = () if sizes == "-" else tuple(map(int, sizes.split("x")))
            shapes.update(dict.fromkeys(_expanded(pattern), shape))
    return shapes


def _expanded(pattern: str) -> list[str]:
    """``a.{0-2}.b`` as three names."""
    numbers = re.search(r"\{(\d+)-(\d+)\}", pattern)
    if numbers is None:
        return [pattern]
    return [pattern.replace(numbers[0], str(i)) for i in range(int(numbers[1]), int(numbers[2]) + 1)]
