"""Our own checkpoints: one safetensors file with everything that is needed to run the policy, loaded strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from stvla_ros.config import ConfigError
from stvla_ros.policy.checkpoint.literal_quaternion import FastLiteralQuaternionNetwork, LiteralQuaternionNetwork
from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.fast.network import FastKeyposeNetwork
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.words import Vocabulary
from stvla_ros.types import GUIDANCE_MODES
from stvla_ros.weights import check_finite, is_safetensors, open_tensors, read_tensors, write_tensors

FORMAT = "stvla-policy-1"
BOUNDS = "workspace_normalizer"
QUATERNIONS = ("xyzw", "wxyz_literal")
FRAMES = ("base", "rlbench")


@dataclass(frozen=True, eq=False)
class PolicyFile:
    """A trained network and how to use it.

    Attributes:
        network: Its architecture, with denoiser and number of steps.
        weights: Name -> tensor, including the workspace bounds (2, 3) in metres.
        vocabulary: The words that it learned; empty if it uses CLIP's text model.
        guidance: What was done to its training images: ``full``, ``mask_only`` or ``off``.
        tokenizer: Id or folder of the text model's tokenizer; empty if it learned a vocabulary.
        trained: For people: experiment, steps, data, measured figures.
        cameras: Names of its cameras in the order of training; empty for the only one.
        quaternion: ``xyzw``, or ``wxyz_literal`` if training read xyzw as wxyz; the network of :meth:`build` uses true
            xyzw quaternions either way.
        frame: Frame of its positions: ``base`` of the robot, or ``rlbench``, that simulator's world frame.
    """

    network: NetworkConfig
    weights: Mapping[str, torch.Tensor]
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(()))
    guidance: str = "full"
    tokenizer: str = ""
    trained: Mapping[str, Any] = field(default_factory=dict)
    cameras: tuple[str, ...] = ()
    quaternion: str = "xyzw"
    frame: str = "base"

    def __post_init__(self) -> None:
        for name, valid in (("guidance", GUIDANCE_MODES), ("quaternion", QUATERNIONS), ("frame", FRAMES)):
            value = getattr(self, name)
            if value not in valid:
                raise ConfigError(f"policy checkpoint: {name} is {value!r}; wanted one of {', '.join(valid)}.")
        if self.cameras and len(self.cameras) != self.network.cameras:
            raise ConfigError(
                f"policy checkpoint: wanted names of {self.network.cameras} cameras, found {', '.join(self.cameras)}."
            )

    @property
    def bounds_m(self) -> np.ndarray:
        """(2, 3) smallest and largest tool position, metres in ``frame``."""
        return self.weights[BOUNDS].double().cpu().numpy()

    def save(self, path: Path) -> None:
        """Write the file, complete or not at all.

        Raises:
            ConfigError: It cannot be written.
        """
        header = {
            "network": asdict(self.network),
            "vocabulary": list(self.vocabulary.words),
            "guidance": self.guidance,
            "tokenizer": self.tokenizer,
            "cameras": list(self.cameras),
            "quaternion": self.quaternion,
            "frame": self.frame,
            "trained": dict(self.trained),
        }
        write_tensors(path, self.weights, {"format": FORMAT, "header": json.dumps(header)})

    def build(self) -> KeyposeNetwork:
        """The network with these weights, in eval mode on the CPU.

        Raises:
            ConfigError: A weight is missing, unknown or of another shape, or the bounds are invalid; the message names
                it.
        """
        if BOUNDS not in self.weights:
            raise ConfigError(f"policy checkpoint: '{BOUNDS}' is missing: without workspace bounds it cannot run.")
        kind = LiteralQuaternionNetwork if self.quaternion == "wxyz_literal" else KeyposeNetwork
        try:
            network = kind(self.network, self.bounds_m)
        except ValueError as error:
            raise ConfigError(f"policy checkpoint: '{BOUNDS}': {error}") from error
        check_weights(network.state_dict(), self.weights, "policy checkpoint")
        network.load_state_dict(dict(self.weights))
        return network.eval()

    def build_fast(self, device: torch.device | str = "cpu", **how: Any) -> FastKeyposeNetwork:
        """The network for fast inference, on a device.

        Args:
            device: Where it runs.
            how: ``steps``, ``dtype`` and ``graphs`` of :class:`FastKeyposeNetwork`.

        Raises:
            ConfigError: As for :meth:`build`.
        """
        literal = self.quaternion == "wxyz_literal"
        return (FastLiteralQuaternionNetwork if literal else FastKeyposeNetwork)(self.build().to(device), **how)


def weightless(network: NetworkConfig) -> dict[str, torch.Tensor]:
    """Name -> tensor of the right shape, without memory, for all weights of a network."""
    with torch.device("meta"):
        return KeyposeNetwork(network, ((0, 0, 0), (1, 1, 1))).state_dict()


def check_weights(
    wanted: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
    where: str,
    theirs: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Check that names and shapes agree.

    Args:
        wanted: Weights of the network.
        found: Weights of the file.
        where: The file, for messages.
        theirs: Our name of a weight -> its name in the file, where the two differ.

    Raises:
        ConfigError: Weights are missing, unknown or of another shape; the message has the first one and the number.
    """
    odd = {"missing": wanted.keys() - found.keys(), "unknown": found.keys() - wanted.keys()}
    if any(odd.values()):
        parts = [
            f"{len(names)} of {len(wanted)} weights {what}, the first is '{theirs.get(min(names), min(names))}'"
            for what, names in odd.items()
            if names
        ]
        raise ConfigError(f"{where}: {'; '.join(parts)}: the weights do not fit the architecture.")
    for name, tensor in wanted.items():
        if tensor.is_floating_point() and not found[name].is_floating_point():
            raise ConfigError(
                f"{where}: '{theirs.get(name, name)}' has the type {found[name].dtype}, wanted {tensor.dtype}: its "
                "numbers are not the weights themselves (quantized?)."
            )
        if tensor.shape != found[name].shape:
            raise ConfigError(
                f"{where}: '{theirs.get(name, name)}' has shape {tuple(found[name].shape)}, wanted "
                f"{tuple(tensor.shape)}: the weights do not fit the architecture."
            )


def is_policy_file(path: Path) -> bool:
    """Whether a file is in our format, by its header."""
    try:
        with path.open("rb") as file:
            if not is_safetensors(file.read(16)):
                return False
        with open_tensors(path) as tensors:
            return (tensors.metadata() or {}).get("format") == FORMAT
    except (ConfigError, OSError):
        return False


def read_policy_file(path: Path) -> PolicyFile:
    """Read one of our own checkpoints.

    Raises:
        ConfigError: The file is missing, damaged or of another format, or has weights that are not finite.
    """
    weights, metadata = read_tensors(path, "a safetensors file of a policy")
    if metadata.get("format") != FORMAT:
        raise ConfigError(f"{path}: wanted format '{FORMAT}', found '{metadata.get('format')}'.")
    check_finite(weights, str(path))
    try:
        header = json.loads(metadata["header"])
        header["network"] = NetworkConfig(**header["network"])
        header["vocabulary"] = Vocabulary(tuple(header["vocabulary"]))
        header["cameras"] = tuple(header.get("cameras", ()))
        return PolicyFile(weights=weights, **header)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: its header is damaged ({error}).") from error
