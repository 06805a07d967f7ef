"""Configuration of a keypose network: everything that is needed to rebuild it for a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, fields

CHOICES = {
    "visual": ("clip_rn50", "nano"),
    "text": ("clip", "features", "words"),
    "rotary": ("metric", "normalised"),
    "subsampler": ("density", "farthest"),
    "denoiser": ("flow", "ddpm"),
}
"""Field that names a variant -> its allowed values."""


@dataclass(frozen=True)
class NetworkConfig:
    """Shape and variant of a :class:`~stvla_ros.policy.network.network.KeyposeNetwork`.

    The defaults are 3D FlowMatch Actor (arXiv 2508.11002) with one camera and one hand.

    Raises:
        ValueError: A field is out of range, or two fields contradict each other; the message says which and why.
    """

    image_px: int = 256
    """Width and height of every image; a multiple of 32 (``clip_rn50``) or 16 (``nano``)."""
    cameras: int = 1
    """Number of cameras."""
    width: int = 120
    """Channels of every token; a multiple of 6 (x, y, z, each in pairs) and of ``heads``."""
    heads: int = 8
    """Attention heads."""
    history: int = 3
    """Number of past gripper poses in the input, including the current one."""
    hands: int = 1
    """Grippers, 1 or 2."""
    visual: str = "clip_rn50"
    """``clip_rn50``: CLIP's frozen RN50 and a feature pyramid; ``nano``: a small network trained with the rest."""
    visual_stride: int = 8
    """Pixels per image token along each side; 8 for ``clip_rn50``, 4 or 8 for ``nano``."""
    visual_cloud: bool = False
    """Whether ``nano`` sees each pixel's position in addition to its colour."""
    path_channels: bool = False
    """Whether ``nano`` sees the way from each pixel's position to the nearest point of the path; needs ``visual_cloud``."""
    text: str = "clip"
    """``clip``: CLIP's text tower, frozen, token ids in; ``features``: its output (B, n, 512) in; ``words``: a small
    encoder trained with the rest, word ids in."""
    vocabulary: int = 0
    """Number of word ids for ``words``; 0 otherwise."""
    vision_text_layers: int = 2
    """Layers by which image tokens attend to the text."""
    history_layers: int = 3
    """Layers by which the history attends to the image tokens."""
    cross_layers: int = 2
    """Layers by which the keypose tokens attend to all image tokens, per denoising step."""
    shared_layers: int = 4
    """Self-attention layers over keypose tokens and sampled image tokens, per denoising step."""
    branch_layers: int = 2
    """Further such layers for rotation and as many for position."""
    rotary: str = "metric"
    """Coordinates of the rotary encoding: metres, or normalised to -1..1 by the workspace bounds."""
    rotary_scale: float = 1.0
    """Highest frequency of the rotary encoding, radians per unit of its coordinates. The published networks have 1: a
    centimetre then rotates by only a hundredth of a radian, and distances take long to learn."""
    subsampler: str = "density"
    """How image tokens are subsampled: ``density`` keeps the rarest features, ``farthest`` the most different."""
    subsample_factor: int = 4
    """One image token in this many is kept for self-attention."""
    modulate_kv: bool = True
    """Whether self-attention modulates keys and values as well as queries."""
    shared_scene: bool = False
    """Whether the sampled image tokens see neither the noisy keypose nor its time. They are then computed once per scene,
    for all noise draws in training and all steps at inference (Mini-Diffuser, arXiv 2505.09430)."""
    text_ffn: bool = True
    """Whether a feed-forward layer follows the keypose tokens' attention to the text."""
    dropout: float = 0.1
    """Dropout of the attention to text, in training."""
    rotary_dropout: float = 0.1
    """Dropout of all attention with rotary encoding (history, cross, self), in training."""
    backbone_batch_statistics: bool = True
    """Whether CLIP's frozen RN50 uses batch statistics in training, which changes its running averages."""
    denoiser: str = "flow"
    """``flow``: rectified flow; ``ddpm``: predicted noise with the schedules of 3D Diffuser Actor."""
    steps: int = 5
    """Denoising steps; for ``ddpm`` also the number in training, because the schedule depends on it."""

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            _check(getattr(self, name) in allowed, f"{name} is {getattr(self, name)!r}; wanted one of {allowed}.")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and field.name != "vocabulary":
                _check(value >= 1, f"{field.name} is {value}; wanted 1 or more.")
        self._check_shapes()
        self._check_variants()

    def _check_shapes(self) -> None:
        _check(self.width % 6 == 0, f"width is {self.width}; wanted a multiple of 6: x, y and z in pairs of channels.")
        _check(self.width % self.heads == 0, f"width is {self.width}; wanted a multiple of heads, {self.heads}.")
        _check(self.hands <= 2, f"hands is {self.hands}; wanted 1 or 2.")
        multiple = 32 if self.visual == "clip_rn50" else 16
        fits = self.image_px % multiple == 0
        _check(fits, f"image_px is {self.image_px}; wanted a multiple of {multiple} for visual {self.visual!r}.")
        tokens = self.tokens
        fits = self.subsample_factor <= tokens
        _check(fits, f"subsample_factor is {self.subsample_factor}, but there are only {tokens} image tokens.")

    def _check_variants(self) -> None:
        strides = (8,) if self.visual == "clip_rn50" else (4, 8)
        fits = self.visual_stride in strides
        _check(fits, f"visual_stride is {self.visual_stride}; visual {self.visual!r} has {strides}.")
        fits = self.visual == "nano" or not self.visual_cloud
        _check(fits, f"visual_cloud is {self.visual_cloud} with visual {self.visual!r}; only 'nano' takes positions.")
        _check(self.rotary_scale > 0, f"rotary_scale is {self.rotary_scale}; wanted more than 0.")
        fits = (self.vocabulary > 0) == (self.text == "words")
        _check(fits, f"vocabulary is {self.vocabulary} with text {self.text!r}; 'words' needs one, the others none.")
        fits = self.visual_cloud or not self.path_channels
        _check(fits, "path_channels needs visual_cloud: the path is seen from each pixel's position.")
        fits = self.modulate_kv or not self.shared_scene
        _check(fits, "shared_scene needs modulate_kv: the tokens of a scene are modulated by its history.")
        for name in ("dropout", "rotary_dropout"):
            value = getattr(self, name)
            _check(0.0 <= value < 1.0, f"{name} is {value}; wanted 0 or more and less than 1.")

    @property
    def tokens(self) -> int:
        """Number of image tokens of all cameras."""
        return self.cameras * (self.image_px // self.visual_stride) ** 2

    @property
    def sampled(self) -> int:
        """Number of image tokens kept for self-attention."""
        return self.tokens // self.subsample_factor


def _check(fits: bool, message: str) -> None:
    if not fits:
        raise ValueError(f"NetworkConfig: {message}")


FLOWMATCH_ACTOR = NetworkConfig()
"""3D FlowMatch Actor, as trained on PerAct's tasks but with one camera (arXiv 2508.11002)."""

DIFFUSER_ACTOR = NetworkConfig(
    text="features",
    rotary="normalised",
    subsampler="farthest",
    subsample_factor=5,
    modulate_kv=False,
    text_ffn=False,
    rotary_dropout=0.0,
    denoiser="ddpm",
    steps=100,
)
"""3D Diffuser Actor as first published, with one camera (arXiv 2402.10885)."""
