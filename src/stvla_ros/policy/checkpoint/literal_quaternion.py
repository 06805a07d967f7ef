"""Networks whose training took xyzw quaternions for wxyz.

The published weights of 3D Diffuser Actor were trained with its ``quaternion_format=wxyz`` on RLBench, whose quaternions
are xyzw. The four numbers (x, y, z, w) were taken for (r, i, j, k), a rotation was made of them and learned; read back
the same way, its (r, i, j, k) is the true (x, y, z, w). The map between the two rotations is no rotation of six numbers
(it transposes the matrix), so it cannot be moved into the last layer's weights and is applied to what comes out.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stvla_ros.policy.network.fast.network import FastKeyposeNetwork
from stvla_ros.policy.network.fast.scene import FastScene
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.network.values import Noise, SceneContext

READ = (0, 1, 2, 6, 3, 4, 5, 7)
"""Columns of a keypose as the network gives it: its w is the true x, its x the true y, and so on."""

WRITTEN = (0, 1, 2, 4, 5, 6, 3, 7)
"""The inverse of :data:`READ`."""


def read_literally(keyposes: Tensor) -> Tensor:
    """True keyposes (..., 8), quaternion xyzw, from those of a network that was trained so."""
    return keyposes[..., READ]


def written_literally(keyposes: Tensor) -> Tensor:
    """The inverse of :func:`read_literally`: what such a network is trained to give for true keyposes (..., 8)."""
    return keyposes[..., WRITTEN]


class LiteralQuaternionNetwork(KeyposeNetwork):
    """A keypose network with such weights; like any other, it gives and is trained on true xyzw quaternions."""

    def sample(self, context: SceneContext, noise: Noise | None = None) -> Tensor:
        return read_literally(super().sample(context, noise))

    def loss(self, context: SceneContext, target: Tensor, **how: Any) -> dict[str, Tensor]:
        return super().loss(context, written_literally(target), **how)


class FastLiteralQuaternionNetwork(FastKeyposeNetwork):
    """The same for inference: made of a :class:`LiteralQuaternionNetwork`, whose own reading it would not see."""

    def sample(self, scene: FastScene, noise: Noise | None = None) -> Tensor:
        return read_literally(super().sample(scene, noise))
