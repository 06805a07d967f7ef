"""One denoising step: noisy keypose tokens attend to the scene and predict the denoising direction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stvla_ros.policy.network.attention import At, AttentionStack
from stvla_ros.policy.network.config import NetworkConfig
from stvla_ros.policy.network.rotary import Rotary, Sinusoidal, rotary_table
from stvla_ros.policy.network.values import SceneContext


class PredictionHead(nn.Module):
    """Attention to the text, to the whole image, then among keypose and sampled tokens, and two output branches."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.time_emb = nn.Sequential(Sinusoidal(width), *_two_layers(width, width, width))
        self.curr_gripper_emb = _two_layers(width * config.history * config.hands, width, width)
        self.traj_time_emb = Sinusoidal(width)
        self.hand_embed = nn.Embedding(2, width) if config.hands > 1 else None
        self.traj_lang_attention = AttentionStack(
            1, width, config.heads, hidden=4 * width, dropout=config.dropout, feed_forward=config.text_ffn
        )
        self.cross_attn = _conditioned(config, config.cross_layers)
        self.self_attn = _conditioned(config, config.shared_layers)
        self.rotation_self_attn = _conditioned(config, config.branch_layers)
        self.rotation_proj = nn.Linear(width, width)
        self.rotation_predictor = _two_layers(width, width, 6)
        self.position_self_attn = _conditioned(config, config.branch_layers)
        self.position_proj = nn.Linear(width, width)
        self.position_predictor = _two_layers(width, width, 3)
        self.openess_predictor = _two_layers(width, width, 1)

    def forward(self, context: SceneContext, tokens: Tensor, xyz: Tensor, times: Tensor) -> Tensor:
        """Prediction (m B, L, hands, 10): position (3), rotation (6), logit of an open gripper.

        Args:
            context: B scenes; m consecutive rows of the other arguments belong to one scene.
            tokens: Embedded noisy keyposes (m B, L, hands, width).
            xyz: Their positions (m B, L, hands, 3), in the coordinates of the rotary encoding.
            times: Denoising times (m B,).
        """
        count, length, hands, _ = tokens.shape
        repeats = count // len(context.image)
        tokens = self._with_text(context, tokens)
        at = rotary_table(xyz.flatten(1, 2), self.config.width, self.config.rotary_scale)
        history = self.curr_gripper_emb(context.history.flatten(1))
        condition = self.time_emb(times) + history.repeat_interleave(repeats, 0)
        tokens = self.cross_attn(tokens, context.image, at, context.image_rotary, condition)
        own = At(tokens, at, condition)
        rotation, position = (
            self._beside(context, own, history) if self.config.shared_scene else self._among(context, own)
        )
        position = self.position_proj(position)
        rotation = self.rotation_predictor(self.rotation_proj(rotation))
        predicted = (self.position_predictor(position), rotation, self.openess_predictor(position))
        return torch.cat(predicted, -1).unflatten(1, (length, hands))

    def _among(self, context: SceneContext, own: At) -> tuple[Tensor, Tensor]:
        """Keypose tokens (m B, n, width) of both branches, after self-attention together with the sampled tokens."""
        tokens, at, condition = own
        count, repeats = tokens.shape[1], len(tokens) // len(context.image)
        tokens = torch.cat((tokens, context.sampled.repeat_interleave(repeats, 0)), 1)
        at = Rotary(*(torch.cat((a, b.repeat_interleave(repeats, 0)), 1) for a, b in zip(at, context.sampled_rotary)))
        tokens = self.self_attn(tokens, None, at, condition=condition)
        rotation = self.rotation_self_attn(tokens, None, at, condition=condition)[:, :count]
        return rotation, self.position_self_attn(tokens, None, at, condition=condition)[:, :count]

    def _beside(self, context: SceneContext, own: At, history: Tensor) -> tuple[Tensor, Tensor]:
        """The same where the sampled tokens see neither keypose nor time, but are modulated by the history."""
        own, scene = self.self_attn.beside(own, At(context.sampled, context.sampled_rotary, history))
        branches = (self.rotation_self_attn, self.position_self_attn)
        rotation, position = (branch.beside(own, scene)[0].values for branch in branches)
        return rotation, position

    def _with_text(self, context: SceneContext, tokens: Tensor) -> Tensor:
        """Tokens (m B, L * hands, width) with the instruction, their place in the sequence and their hand."""
        _, length, hands, _ = tokens.shape
        if self.hand_embed is not None:
            tokens = tokens + self.hand_embed.weight
        # with two hands and length > 1 the places do not follow the order of the tokens, as in the published code
        place = self.traj_time_emb(torch.arange(length, device=tokens.device)).repeat(hands, 1)[None]
        return (
            self.traj_lang_attention(tokens.flatten(1, 2), context.text, query_offset=place, seen=context.text_seen)
            + place
        )


def _conditioned(config: NetworkConfig, layers: int) -> AttentionStack:
    return AttentionStack(
        layers,
        config.width,
        config.heads,
        hidden=config.width,
        dropout=config.rotary_dropout,
        conditioned=True,
        modulate_memory=config.modulate_kv,
    )


def _two_layers(channels_in: int, hidden: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels_in, hidden), nn.ReLU(), nn.Linear(hidden, channels))
