"""The keypose network for inference: repacked weights, nothing computed twice, one graph on a GPU."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from stvla_ros.policy.network.fast.graph import GraphedFunction
from stvla_ros.policy.network.fast.head import FastHead
from stvla_ros.policy.network.fast.heads import HeadLayout, rotary_phases
from stvla_ros.policy.network.fast.scene import FastEncoder, FastScene, SceneTokens
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.network.rotations import quaternion_from_sixd
from stvla_ros.policy.network.schedulers import POSITION, Ddpm, Flow
from stvla_ros.policy.network.values import NetworkInput, Noise, SceneContext, check_inputs, check_noise

INSTRUCTIONS = 64
"""Batches of instructions that the cache holds; one takes about 25 kB."""


class FastKeyposeNetwork:
    """Samples like a :class:`~stvla_ros.policy.network.network.KeyposeNetwork` in evaluation mode, only faster.

    Results agree up to rounding: within 1e-5 after 100 steps in float32. It runs on the network's device with its own,
    repacked weights, so later changes of the network do not affect it: create a new one after training. Only the text
    encoder is shared with the network, and its output per instruction is cached.
    """

    def __init__(
        self,
        network: KeyposeNetwork,
        *,
        steps: int | None = None,
        dtype: torch.dtype = torch.float32,
        folded: bool | None = None,
        graphs: bool | None = None,
    ) -> None:
        """Repack a network's weights.

        Args:
            network: The plain network.
            steps: Number of denoising steps; None: as trained. Fewer are approximate: 10 of 100 diffusion steps skip
                times.
            dtype: Type of the denoising layers. Approximate unless float32; bfloat16 is for GPUs.
            folded: Whether to fold the batch norms of CLIP's RN50, 1.1 times faster; None: if the choice of tokens does
                not depend on rounding, see :mod:`~stvla_ros.policy.network.fast.vision`.
            graphs: Whether to use CUDA graphs; None: on a GPU. The first call of each shape then takes longer.

        Raises:
            ValueError: The network has fewer steps, or cannot be folded.
        """
        config = network.config
        self.device = network.workspace_normalizer.device
        self.config = config if steps is None else replace(config, steps=steps)
        self.steps = fast_steps(network.scheduler, self.config.steps)
        self.low, self.high = network.workspace_normalizer.detach().clone()
        layout = HeadLayout(config.width, config.heads, self.device)
        safe = config.visual == "clip_rn50" and config.subsampler == "farthest"
        self.encoder = FastEncoder(network.encoder, layout, safe if folded is None else folded)
        self.head = FastHead(network.prediction_head, network.traj_encoder, layout, self.steps.times, dtype)
        self.words = self.encoder.words if config.text == "features" else TextCache(self.encoder.words)
        recorded = self.device.type == "cuda" if graphs is None else graphs
        self.graphs = [GraphedFunction(self._encode), GraphedFunction(self._sample)] if recorded else []

    @torch.no_grad()
    def encode(self, inputs: NetworkInput) -> FastScene:
        """Everything that any number of samples needs of B observations.

        Raises:
            ValueError: A shape does not match the configuration, or an instruction is padded: padding is for training.
        """
        check_inputs(inputs, self.config)
        if self.config.text == "words" and (inputs.text < 0).any():
            raise ValueError("NetworkInput.text: wanted instructions without padding.")
        encode = self.graphs[0] if self.graphs else self._encode
        path_m = inputs.history.new_zeros(len(inputs.history), 0, 3) if inputs.path_m is None else inputs.path_m
        return FastScene(*encode(inputs.rgb, inputs.xyz_m, inputs.history, self.words(inputs.text), path_m))

    @torch.no_grad()
    def prepare(self, context: SceneContext) -> FastScene:
        """The same from scenes encoded by the plain network."""
        at, sampled_at = (
            rotary_phases(xyz, self.encoder.frequencies) for xyz in (context.image_xyz, context.sampled_xyz)
        )
        tokens = SceneTokens(context.image, at, context.sampled, sampled_at, context.text, context.history)
        return self.head.prepare(tokens)

    @torch.no_grad()
    def sample(self, scene: FastScene, noise: Noise | None = None) -> Tensor:
        """Keyposes (B, L, hands, 8): xyz in metres, quaternion xyzw, probability of open.

        Args:
            scene: B encoded scenes.
            noise: All randomness, for B or m B samples, of which m consecutive ones belong to one scene; drawn for B
                samples and L = 1 if not given. It has as many steps as this network.

        Raises:
            ValueError: The noise has the wrong shape.
        """
        scenes = len(scene.sampled)
        noise = Noise.draw(self.config, scenes, device=self.device) if noise is None else noise
        check_noise(noise, scenes, self.config.hands, self._noisy_steps)
        return (self.graphs[1] if self.graphs else self._sample)(*scene, noise.start, noise.steps)[0]

    def predict(self, inputs: NetworkInput, noise: Noise | None = None) -> Tensor:
        """:meth:`encode`, then :meth:`sample`."""
        return self.sample(self.encode(inputs), noise)

    def forget_text(self) -> None:
        """Clear the cached instructions: for measurements, or after a change of the text encoder."""
        if isinstance(self.words, TextCache):
            self.words.clear()

    @property
    def _noisy_steps(self) -> int:
        return 0 if self.config.denoiser == "flow" else self.config.steps

    def _encode(self, rgb: Tensor, xyz_m: Tensor, history: Tensor, words: Tensor, path_m: Tensor) -> FastScene:
        xyz, grippers, path = xyz_m, history[..., :3].flatten(1, 2), path_m
        if self.config.rotary == "normalised":
            xyz, grippers = self._normalised(xyz_m.movedim(2, -1)).movedim(-1, 2), self._normalised(grippers)
            path = self._normalised(path_m)
        return self.head.prepare(self.encoder(rgb, xyz, words, grippers, path))

    def _sample(self, *tensors: Tensor) -> tuple[Tensor]:
        scene, (start, fresh) = FastScene(*tensors[:-2]), tensors[-2:]
        _, length, hands, _ = start.shape
        scene = scene.repeated(len(start) // len(scene.sampled))
        places, fresh = self.head.embedding.places(length, hands), self.steps.scaled(fresh.flatten(2, 3))
        x = start.flatten(1, 2)
        predicted = x
        for index in range(self.config.steps):
            xyz = x[..., :POSITION]
            xyz = xyz if self.config.rotary == "normalised" else self._unnormalised(xyz)
            predicted = self.head.step(scene, places, x, xyz, index)
            x = self.steps.advance(index, x, predicted[..., :-1], fresh)
        position, rotation = self._unnormalised(x[..., :POSITION]), quaternion_from_sixd(x[..., POSITION:])
        keypose = torch.cat((position, rotation, predicted[..., -1:].sigmoid()), -1)
        return (keypose.unflatten(1, (length, hands)),)

    def _normalised(self, xyz_m: Tensor) -> Tensor:
        return (xyz_m - self.low) / (self.high - self.low) * 2.0 - 1.0

    def _unnormalised(self, xyz: Tensor) -> Tensor:
        return (xyz + 1.0) / 2.0 * (self.high - self.low) + self.low


class TextCache:
    """Caches the latest results of a text encoder by token ids.

    Callers must not write to the returned tensors.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], capacity: int = INSTRUCTIONS) -> None:
        self.encode, self.capacity = encode, capacity
        self._known: OrderedDict[tuple[tuple[int, ...], bytes], Tensor] = OrderedDict()

    def __call__(self, ids: Tensor) -> Tensor:
        """Features (B, n, channels) of ids (B, n); reading ids from a GPU synchronises with it."""
        key = (tuple(ids.shape), ids.cpu().numpy().tobytes())
        if key not in self._known:
            self._known[key] = self.encode(ids)
        self._known.move_to_end(key)
        while len(self._known) > self.capacity:
            self._known.popitem(last=False)
        return self._known[key]

    def clear(self) -> None:
        self._known.clear()

    def __len__(self) -> int:
        return len(self._known)


class FlowSteps:
    """The flow's Euler steps. Fewer or more steps than in training approximate the flow more coarsely or finely."""

    def __init__(self, steps: int) -> None:
        self.times = torch.tensor([(steps - index) / steps for index in range(steps)])

    def scaled(self, noise: Tensor) -> Tensor:
        """Nothing is added between steps."""
        return noise

    def advance(self, index: int, noisy: Tensor, predicted: Tensor, noise: Tensor) -> Tensor:
        return noisy - predicted / len(self.times)


class DdpmSteps:
    """Diffusion steps with the coefficients of every visited time in tables (steps, 9).

    With fewer steps than the schedule has, times are evenly spaced down to 0 ("leading" spacing), and each step covers
    the whole stride: 10 of 100 visit 90, 80, ..., 0. The result is close to that of all steps, but not the same.
    """

    def __init__(self, plain: Ddpm, steps: int) -> None:
        stride = len(plain.times) // steps
        self.times = torch.arange(steps - 1, -1, -1, device=plain.kept.device) * stride
        kept = plain.kept[self.times]
        before = torch.cat((plain.kept[self.times[:-1] - stride], torch.ones_like(kept[:1])))
        beta = 1 - kept / before
        self.signal, self.noise = kept.sqrt(), (1 - kept).sqrt()
        self.of_clean = before.sqrt() * beta / (1 - kept)
        self.of_noisy = (1 - beta).sqrt() * (1 - before) / (1 - kept)
        deviation = ((1 - before) / (1 - kept) * beta).clamp(min=1e-20).sqrt()
        self.deviation = torch.cat((deviation[:-1], torch.zeros_like(deviation[:1])))

    def scaled(self, noise: Tensor) -> Tensor:
        """Noise (steps, ..., 9) times its deviation, 0 for the last step: one product instead of one per step."""
        return noise * self.deviation.view(len(noise), *[1] * (noise.ndim - 2), -1)

    def advance(self, index: int, noisy: Tensor, predicted: Tensor, noise: Tensor) -> Tensor:
        """``noisy`` (..., 9) after step ``index``, where ``noise`` (steps, ..., 9) is from :meth:`scaled`."""
        clean = ((noisy - self.noise[index] * predicted) / self.signal[index]).clamp_(-1.0, 1.0)
        return self.of_clean[index] * clean + self.of_noisy[index] * noisy + noise[index]


def fast_steps(plain: Flow | Ddpm, steps: int) -> FlowSteps | DdpmSteps:
    """``steps`` denoising steps of a plain scheduler.

    Raises:
        ValueError: The schedule has fewer steps.
    """
    if steps < 1 or (isinstance(plain, Ddpm) and steps > len(plain.times)):
        raise ValueError(f"wanted 1 to {len(plain.times)} steps, as many as the network was trained for, got {steps}.")
    return FlowSteps(steps) if isinstance(plain, Flow) else DdpmSteps(plain, steps)
