"""Bridge and action head together: everything of ST4VLA but the VLM and the second image encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stvla_ros.policy.st4vla.bridge import QueryingTransformer
from stvla_ros.policy.st4vla.config import ActionExpertConfig
from stvla_ros.policy.st4vla.heads import action_head


class ActionExpert(nn.Module):
    """Action chunks from hidden states of a VLM. Modules have the published names.

    In training, ``action_model.loss(expert.condition(...), ...)`` sends its gradient into the VLM, scaled by
    ``gradient_scale``.
    """

    def __init__(self, config: ActionExpertConfig) -> None:
        super().__init__()
        self.config = config
        self.layer_qformer = QueryingTransformer(config)
        self.dino_pro = nn.Linear(config.eye_width, config.vlm_width) if config.eye_width else None
        self.action_model = action_head(config)

    def condition(self, hidden: Sequence[Tensor], seen: Tensor, eye: Tensor | None = None) -> Tensor:
        """Condition tokens (B, queries, bridge_width).

        Args:
            hidden: ``layers`` hidden states (B, L, vlm_width), see :func:`hidden_states`.
            seen: (B, L) bool, False for padding.
            eye: Tokens (B, P, eye_width) of the second image encoder, if the configuration has one.

        Raises:
            ValueError: A shape does not fit, or the second encoder's tokens are missing or not expected.
        """
        if (self.dino_pro is None) != (eye is None):
            given = "none" if eye is None else str(tuple(eye.shape))
            raise ValueError(f"eye tokens: wanted {'none' if self.dino_pro is None else 'some'}, got {given}.")
        further = None if self.dino_pro is None or eye is None else self.dino_pro(eye)
        return self.layer_qformer(hidden, seen, further)

    def predict(self, hidden: Sequence[Tensor], seen: Tensor, noise: Tensor, eye: Tensor | None = None) -> Tensor:
        """Normalised action chunks (B, T, D), deterministic in the noise (B, T, D); see :meth:`condition`."""
        with torch.no_grad():
            return self.action_model.sample(self.condition(hidden, seen, eye), noise)


def hidden_states(model: Any, inputs: dict[str, Tensor], layers: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """The last hidden states of a Qwen-VL model of transformers, for :meth:`ActionExpert.condition`.

    The last one is that after the final norm, which the published model reads alone (``layers`` = 1).

    Args:
        model: The whole model (``...ForConditionalGeneration``); its language head is not computed.
        inputs: Of its processor, with ``attention_mask`` (B, L).
        layers: How many.

    Returns:
        States (B, L, width), earlier layers first, and (B, L) bool: False for padding.

    Raises:
        ValueError: The model has fewer layers.
    """
    states = model.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states
    if layers > len(states):
        raise ValueError(f"wanted {layers} hidden states, the model has {len(states)}.")
    return tuple(states[-layers:]), inputs["attention_mask"].bool()
