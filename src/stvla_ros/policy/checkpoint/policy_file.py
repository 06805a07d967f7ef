"""Our own checkpoints: one safetensors file that says all that is needed to run it, loaded strictly."""

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
        network: Its architecture, with sampler and number of steps.
        weights: Name -> tensor; the workspace bounds (2, 3) in metres are among them.
        vocabulary: Words that it knows; empty where it has a text model of its own.
        guidance: What its training images were: ``full``, ``mask_only`` or ``off``.
        tokenizer: Id or folder of the text model's tokenizer; empty for words of our own.
        trained: For people: experiment, steps, data, measured figures.
        cameras: Names of its cameras in the order of training; empty for the one there is.
        quaternion: ``xyzw``, or ``wxyz_literal`` for weights whose training took xyzw for wxyz; the network that
            :meth:`build` gives has true xyzw quaternions either way.
        frame: What its positions refer to: ``base`` of the robot, or ``rlbench``, that simulator's world frame.
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
                f"policy checkpoint: names cameras {', '.join(self.cameras)} for a network of {self.network.cameras}."
            )

    @property
    def bounds_m(self) -> np.ndarray:
        """(2, 3) least and largest tool position, metres in ``frame``."""
        return self.weights[BOUNDS].double().cpu().numpy()

    def save(self, path: Path) -> None:
        """Write the file; a reader never sees half of it.

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
            ConfigError: A weight is missing, unknown or of another shape, or the bounds are none; the message names it.
        """
        if BOUNDS not in self.weights:
            raise ConfigError(f"policy checkpoint: '{BOUNDS}' is missing: without workspace bounds it cannot be run.")
        kind = LiteralQuaternionNetwork if self.quaternion == "wxyz_literal" else KeyposeNetwork
        try:
            network = kind(self.network, self.bounds_m)
        except ValueError as error:
            raise ConfigError(f"policy checkpoint: '{BOUNDS}': {error}") from error
        check_weights(network.state_dict(), self.weights, "policy checkpoint")
        network.load_state_dict(dict(self.weights))
        return network.eval()

    def build_fast(self, device: torch.device | str = "cpu", **how: Any) -> FastKeyposeNetwork:
        """The same for inference, on a device.

        Args:
            device: Where to.
            how: ``steps``, ``dtype`` and ``graphs`` of :class:`FastKeyposeNetwork`.

        Raises:
            ConfigError: As for :meth:`build`.
        """
        literal = self.quaternion == "wxyz_literal"
        return (FastLiteralQuaternionNetwork if literal else FastKeyposeNetwork)(self.build().to(device), **how)


def weightless(network: NetworkConfig) -> dict[str, torch.Tensor]:
    """Name -> tensor of the right shape and no memory, for all weights of a network."""
    with torch.device("meta"):
        return KeyposeNetwork(network, ((0, 0, 0), (1, 1, 1))).state_dict()


def check_weights(
    wanted: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
    where: str,
    theirs: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Names and shapes must be the same.

    Args:
        wanted: What the network has.
        found: What the file has.
        where: The file, for messages.
        theirs: Name of a weight -> its name in the file, where that is another one.

    Raises:
        ConfigError: Names the first that is missing, the first unknown, or one of another shape, and how many there are.
    """
    odd = {"missing": wanted.keys() - found.keys(), "unknown": found.keys() - wanted.keys()}
    if any(odd.values()):
        parts = [
            f"{len(names)} of {len(wanted)} weights {what}, the first is '{theirs.get(min(names), min(names))}'"
            for what, names in odd.items()
            if names
        ]
        raise ConfigError(f"{where}: {'; '.join(parts)}: weights and architecture do not belong together.")
    for name, tensor in wanted.items():
        if tensor.is_floating_point() and not found[name].is_floating_point():
            raise ConfigError(
                f"{where}: '{theirs.get(name, name)}' is of {found[name].dtype}, wanted {tensor.dtype}: its numbers are not the "
                "weights themselves (quantized?)."
            )
        if tensor.shape != found[name].shape:
            raise ConfigError(
                f"{where}: '{theirs.get(name, name)}' has shape {tuple(found[name].shape)}, wanted {tuple(tensor.shape)}: "
                "weights and architecture do not belong together."
            )


def is_policy_file(path: Path) -> bool:
    """Whether a file is one of ours, by its header."""
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
        ConfigError: Missing, damaged, not of this format, or with weights that are not finite.
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
