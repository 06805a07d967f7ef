"""Text encoders: features (B, n, channels) of token ids (B, n)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLIP_CHANNELS = 512
"""Channels of CLIP's text features."""

PADDING = -1
"""Id that fills up an instruction where a batch needs one length; for :class:`Words` only."""

LONGEST_INSTRUCTION = 77
"""Largest number of tokens of an instruction, as in CLIP."""


class ClipText(nn.Module):
    """The text tower of CLIP ViT-B/32 (arXiv 2103.00020): frozen, and random until a checkpoint is loaded.

    It attends to padding like to any token, as the published networks do: pad no more than in training.
    """

    channels = CLIP_CHANNELS

    def __init__(self) -> None:
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModel  # slow to import, and not needed for other encoders

        self.model = CLIPTextModel(CLIPTextConfig())
        self.requires_grad_(False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(ids).last_hidden_state


class Words(nn.Module):
    """Word and position embeddings and one transformer layer, trained with the rest of the network."""

    def __init__(self, vocabulary: int, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.channels = channels
        self.word = nn.Embedding(vocabulary, channels)
        self.position = nn.Embedding(LONGEST_INSTRUCTION, channels)
        self.layer = nn.TransformerEncoderLayer(channels, heads, 2 * channels, dropout, batch_first=True)

    def forward(self, ids: Tensor, padding: Tensor | None = None) -> Tensor:
        """Features of ids (B, n); no word attends to where ``padding`` (B, n) is true. None: all ids are words."""
        places = torch.arange(ids.shape[1], device=ids.device)
        words = ids if padding is None else ids.masked_fill(padding, 0)
        return self.layer(self.word(words) + self.position(places), src_key_padding_mask=padding)
