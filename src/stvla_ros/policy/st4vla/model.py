"""ST4VLA whole: a Qwen-VL model whose hidden states the action expert reads."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from stvla_ros.policy.st4vla.config import ActionExpertConfig
from stvla_ros.policy.st4vla.expert import ActionExpert, hidden_states
from stvla_ros.policy.st4vla.heads import Randomness
from stvla_ros.policy.st4vla.inputs import VlmBatch


class St4Vla(nn.Module):
    """VLM and action expert.

    Args:
        vlm: ``Qwen3VLForConditionalGeneration`` or ``Qwen2_5_VLForConditionalGeneration`` of transformers, of any size.
        config: Of the expert; ``vlm_width`` is the VLM's, and there is no second eye.

    Raises:
        ValueError: The two do not fit.
    """

    def __init__(self, vlm: nn.Module, config: ActionExpertConfig) -> None:
        super().__init__()
        text = cast(Any, vlm).config.get_text_config()
        if config.vlm_width != text.hidden_size or config.layers > text.num_hidden_layers + 1:
            raise ValueError(
                f"the VLM has {text.num_hidden_layers} layers of width {text.hidden_size}, the expert reads "
                f"{config.layers} hidden states of width {config.vlm_width}."
            )
        if config.eye_width:
            raise ValueError(f"a second image encoder (eye_width {config.eye_width}) is not part of this model.")
        self.vlm = vlm
        self.expert = ActionExpert(config)

    def condition(self, batch: VlmBatch) -> Tensor:
        """Condition tokens (B, queries, bridge_width) of the action head."""
        hidden, seen = hidden_states(self.vlm, batch.arguments(), self.expert.config.layers)
        return self.expert.condition(hidden, seen)

    def loss(self, batch: VlmBatch, actions: Tensor, randomness: Randomness, counted: Tensor | None = None) -> Tensor:
        """Action loss; its gradient into the VLM is scaled by ``gradient_scale``.

        Args:
            batch: B observations.
            actions: (B, T, D) normalised.
            randomness: Of the head's ``draw``.
            counted: (B, T) bool, False for steps that do not count.
        """
        return self.expert.action_model.loss(self.condition(batch), actions, randomness, counted)

    @torch.no_grad()
    def predict(self, batch: VlmBatch, noise: Tensor) -> Tensor:
        """Normalised action chunks (B, T, D), deterministic in the noise (B, T, D)."""
        return self.expert.action_model.sample(self.condition(batch), noise)
