"""Shape and settings of the action expert."""

from __future__ import annotations

from dataclasses import dataclass

HEADS = ("diffusion", "flow")
SPACINGS = ("trailing", "leading")


@dataclass(frozen=True)
class ActionExpertConfig:
    """One action expert; the defaults are the published one's on Qwen2.5-VL-3B.

    Attributes:
        vlm_width: Width of the VLM's hidden states.
        eye_width: Width of the tokens of a second image encoder (DINOv2 ViT-S/14); 0: there is none.
        layers: Hidden states that the bridge reads, one block each.
        queries: Tokens between VLM and action transformer.
        bridge_width: Their width.
        bridge_heads: Attention heads of the bridge.
        gradient_scale: Share of the action loss's gradient that reaches the VLM: 1 all, 0 none (knowledge insulation).
        width: Of the action transformer.
        depth: Its blocks.
        heads: Its attention heads.
        chunk: Most action steps in a chunk, T.
        action_dim: Numbers per step, D.
        head: ``diffusion`` or ``flow``.
        draws: Noises and times per sample in training.
        dropped: Share of training samples whose condition is replaced by the learned null tokens.
        guidance: Scale of classifier-free guidance; 1: none.
        sampling_steps: Evaluations of the network per chunk, twice as many with guidance.
        diffusion_steps: Of the diffusion process.
        spacing: ``trailing``: sampling starts at the last diffusion step, where pure noise belongs (arXiv 2305.08891).
            ``leading``: as in the published code, at an earlier one.
        clip: Largest absolute value of the clean action estimated in every diffusion step; None: not clipped, as in the
            published code. Trailing sampling needs it: see :mod:`stvla_ros.policy.st4vla.heads`.

    Raises:
        ValueError: Values do not fit together.
    """

    vlm_width: int = 2048
    eye_width: int = 384
    layers: int = 1
    queries: int = 64
    bridge_width: int = 768
    bridge_heads: int = 8
    gradient_scale: float = 0.5
    width: int = 768
    depth: int = 12
    heads: int = 12
    chunk: int = 16
    action_dim: int = 7
    head: str = "diffusion"
    draws: int = 4
    dropped: float = 0.1
    guidance: float = 1.5
    sampling_steps: int = 10
    diffusion_steps: int = 100
    spacing: str = "trailing"
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        if self.head not in HEADS or self.spacing not in SPACINGS:
            raise ValueError(f"head '{self.head}', spacing '{self.spacing}': wanted one of {HEADS}, one of {SPACINGS}.")
        if self.bridge_width % self.bridge_heads or self.width % self.heads:
            raise ValueError("bridge_width and width must be multiples of their numbers of heads.")
        if not 0.0 <= self.gradient_scale <= 1.0 or not 0.0 <= self.dropped <= 1.0:
            raise ValueError("gradient_scale and dropped are shares, 0 to 1.")
        if min(self.layers, self.queries, self.depth, self.chunk, self.action_dim, self.draws) < 1:
            raise ValueError("layers, queries, depth, chunk, action_dim and draws are at least 1.")
        if not 1 <= self.sampling_steps <= (self.diffusion_steps if self.head == "diffusion" else self.sampling_steps):
            raise ValueError(f"sampling_steps: wanted 1 to {self.diffusion_steps}, got {self.sampling_steps}.")
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip: wanted a positive number or None, got {self.clip}.")


NANO = ActionExpertConfig(
    vlm_width=192, eye_width=0, queries=16, bridge_width=192, bridge_heads=6, width=192, depth=4, heads=6, draws=8
)
"""For the nano Qwen3-VL, on a CPU."""
