"""Shapes of what comes in."""

from __future__ import annotations

from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.schedulers import POSITION, ROTATION
from stvla_ros.policy.network.values import NetworkInput, Noise


def check_inputs(inputs: NetworkInput, config: NetworkConfig) -> None:
    """Raise a ValueError if an input's shape is not what the configuration says."""
    batch = len(inputs.rgb)
    image = (batch, config.cameras, 3, config.image_px, config.image_px)
    text = (batch, inputs.text.shape[1]) + ((512,) if config.text == "features" else ())
    wanted = {"rgb": image, "xyz_m": image, "text": text, "history": (batch, config.history, config.hands, 8)}
    for name, shape in wanted.items():
        found = tuple(getattr(inputs, name).shape)
        if found != shape:
            raise ValueError(f"NetworkInput.{name} has shape {found}; this network wants {shape}.")


def check_noise(noise: Noise, scenes: int, hands: int, steps: int) -> None:
    """Raise a ValueError if the noise is not for a multiple of ``scenes``, for ``hands`` and for ``steps``."""
    start, later = tuple(noise.start.shape), tuple(noise.steps.shape)
    fits = len(start) == 4 and start[0] > 0 and start[0] % scenes == 0 and start[2:] == (hands, POSITION + ROTATION)
    if not fits:
        wanted = f"(a multiple of {scenes}, L, {hands}, {POSITION + ROTATION})"
        raise ValueError(f"Noise.start has shape {start}; {scenes} scene(s) and {hands} hand(s) want {wanted}.")
    if later != (steps, *start):
        raise ValueError(f"Noise.steps has shape {later}; this sampler wants {(steps, *start)}.")
