"""The published code of both networks, from clones outside the project, with our weights in it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.policy import cases, stand_ins
from benchmarks.policy.clock import Rows
from stvla_ros.policy.checkpoint import names
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.network.values import NetworkInput

PROBES = {cases.DIFFUSER: "diffuser_actor/__init__.py", cases.FLOWMATCH: "modeling/__init__.py"}
"""A file of every clone."""


class Flowmatch:
    """3D FlowMatch Actor's policy (arXiv 2508.11002)."""

    def __init__(self, network: KeyposeNetwork) -> None:
        config = network.config
        module = importlib.import_module("modeling.policy.denoise_actor_3d")
        self.model: Any = module.DenoiseActor(
            backbone="clip",
            num_vis_instr_attn_layers=config.vision_text_layers,
            fps_subsampling_factor=config.subsample_factor,
            embedding_dim=config.width,
            num_attn_heads=config.heads,
            nhist=config.history,
            nhand=config.hands,
            num_shared_attn_layers=config.shared_layers,
            rotation_format="quat_xyzw",
            denoise_timesteps=config.steps,
            denoise_model="ddpm" if config.denoiser == "ddpm" else "rectified_flow",
        )
        load(self.model, network, names.FLOWMATCH)

    def rows(self, inputs: NetworkInput, seed: int) -> Rows:
        """Calls to time, at random numbers like :func:`~.cases.seeded_noise` of the same seed."""
        model, device = self.model, inputs.rgb.device
        given = inputs.rgb, None, inputs.xyz_m, inputs.text, inputs.history[..., :7]
        mask = torch.zeros(len(inputs.rgb), 1, inputs.history.shape[2], dtype=torch.bool, device=device)
        scene, start = model.encode_inputs(*given), torch.randn(*mask.shape, 9, device=device)
        model.position_scheduler.set_timesteps(model.n_steps, device=device)
        time = model.position_scheduler.timesteps[0] * torch.ones(len(start), device=device).long()
        return {
            "encode": lambda: model.encode_inputs(*given),
            "encode, new text": lambda: model.encode_inputs(*given),
            "step": lambda: model.policy_forward_pass(start, time, scene),
            "loop": lambda: model.conditional_sample(start, device, scene),
            "prediction": lambda: seeded(seed, lambda: model.compute_trajectory(mask, *given)),
        }

    def loss(self, inputs: NetworkInput, target: Tensor) -> Tensor:
        return self.model.compute_loss(target, inputs.rgb, None, inputs.xyz_m, inputs.text, inputs.history[..., :7])


class Diffuser:
    """3D Diffuser Actor's policy (arXiv 2402.10885)."""

    def __init__(self, network: KeyposeNetwork) -> None:
        config = network.config
        self.model: Any = importlib.import_module("diffuser_actor").DiffuserActor(
            backbone="clip",
            image_size=(config.image_px, config.image_px),
            embedding_dim=config.width,
            num_vis_ins_attn_layers=config.vision_text_layers,
            use_instruction=True,
            fps_subsampling_factor=config.subsample_factor,
            gripper_loc_bounds=network.workspace_normalizer.tolist(),
            diffusion_timesteps=config.steps,
            nhist=config.history,
        )
        load(self.model, network, names.DIFFUSER)

    def rows(self, inputs: NetworkInput, seed: int) -> Rows:
        """As :meth:`Flowmatch.rows`."""
        model, device = self.model, inputs.rgb.device
        mask = torch.zeros(len(inputs.rgb), 1, dtype=torch.bool, device=device)
        given = inputs.rgb, inputs.xyz_m, inputs.text, inputs.history[:, :, 0, :7]

        def encode() -> Any:
            xyz = model.normalize_pos(inputs.xyz_m.movedim(2, -1)).movedim(-1, 2)
            grippers = torch.cat((model.normalize_pos(given[3][..., :3]), given[3][..., 3:]), -1)
            return model.encode_inputs(inputs.rgb, xyz, inputs.text, model.convert_rot(grippers))

        scene, start = encode(), torch.zeros(*mask.shape, 9, device=device)
        time = torch.full((len(start),), model.n_steps - 1, device=device)
        return {
            "encode": encode,
            "encode, new text": encode,
            "step": lambda: model.policy_forward_pass(start, time, scene),
            "loop": lambda: model.conditional_sample(start, start.bool(), scene),
            "prediction": lambda: seeded(seed, lambda: model.compute_trajectory(mask, *given)).unsqueeze(2),
        }

    def loss(self, inputs: NetworkInput, target: Tensor) -> Tensor:
        mask = torch.zeros(target.shape[:2], dtype=torch.bool, device=target.device)
        return self.model(target[:, :, 0], mask, inputs.rgb, inputs.xyz_m, inputs.text, inputs.history[:, :, 0])


def reference(name: str, clone: Path, network: KeyposeNetwork) -> Flowmatch | Diffuser:
    """The code of a clone with a network's weights, in evaluation mode.

    Raises:
        SystemExit: It is not such a clone, or a package is missing.
    """
    if not (clone / PROBES[name]).is_file():
        raise SystemExit(f"{clone} has no {PROBES[name]}: wanted a clone of https://github.com/nickgkan/{name}.")
    make = {cases.DIFFUSER: Diffuser, cases.FLOWMATCH: Flowmatch}[name]
    with importable(clone), stand_ins.in_place(), untrained_text():
        return make(network)


def load(model: nn.Module, network: KeyposeNetwork, code: str) -> None:
    """Our weights under their names; every one of theirs must be ours or unused. CLIP's mean and deviation are theirs.

    Raises:
        KeyError: A weight is neither.
    """
    ours, theirs = network.state_dict(), model.state_dict()
    for name, value in theirs.items():
        translated = names.translated(name, code)
        if not names.is_unused(translated, code, network.config.hands) and not name.startswith("encoder.normalize"):
            value.copy_(ours[translated])
    model.load_state_dict(theirs)
    model.eval().to(network.workspace_normalizer.device)


def seeded(seed: int, work: Callable[[], Tensor]) -> Tensor:
    torch.manual_seed(seed)
    return work()


@contextmanager
def importable(clone: Path) -> Iterator[None]:
    """Within it the clone's modules can be imported."""
    sys.path.insert(0, str(clone))
    try:
        yield
    finally:
        sys.path.remove(str(clone))


@contextmanager
def untrained_text() -> Iterator[None]:
    """CLIP's text tower is made, not downloaded; its weights are replaced afterwards."""
    transformers = importlib.import_module("transformers")
    made = mock.Mock(side_effect=lambda name: transformers.CLIPTextModel(transformers.CLIPTextConfig()))
    with mock.patch.object(transformers.CLIPTextModel, "from_pretrained", made):
        yield
