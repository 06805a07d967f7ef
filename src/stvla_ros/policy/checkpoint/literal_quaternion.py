"""Networks whose training read xyzw quaternions as wxyz.

The published weights of 3D Diffuser Actor were trained with its ``quaternion_format=wxyz`` on RLBench, whose
quaternions are xyzw. So (x, y, z, w) was read as (r, i, j, k), and the resulting rotation was learned; read back the
same way, its (r, i, j, k) is the true (x, y, z, w). The map between the two rotations is not linear in the six numbers
(it transposes the matrix), so it cannot be merged into the last layer's weights and is applied to the output.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stvla_ros.policy.network.fast.network import FastKeyposeNetwork
from stvla_ros.policy.network.fast.scene import FastScene
from stvla_ros.policy.network.network import KeyposeNetwork
from stvla_ros.policy.network.values import Noise, SceneContext

READ = (0, 1, 2, 6, 3, 4, 5, 7)
"""Columns of a predicted keypose: its w is the true x, its x the true y, and so on."""

WRITTEN = (0, 1, 2, 4, 5, 6, 3, 7)
"""The inverse of :data:`READ`."""


def read_literally(keyposes: Tensor) -> Tensor:
    """True keyposes (..., 8), quaternion xyzw, from the output of such a network."""
    return keyposes[..., READ]


def written_literally(keyposes: Tensor) -> Tensor:
    """The inverse of :func:`read_literally`: the training targets of such a network for true keyposes (..., 8)."""
    return keyposes[..., WRITTEN]


class LiteralQuaternionNetwork(KeyposeNetwork):
    """A keypose network with such weights. Like any other, it predicts and learns true xyzw quaternions."""

    def sample(self, context: SceneContext, noise: Noise | None = None) -> Tensor:
        return read_literally(super().sample(context, noise))

    def loss(self, context: SceneContext, target: Tensor, **how: Any) -> dict[str, Tensor]:
        return super().loss(context, written_literally(target), **how)


class FastLiteralQuaternionNetwork(FastKeyposeNetwork):
    """The same for inference, made from a :class:`LiteralQuaternionNetwork`; repeats its conversion of the output."""

    def sample(self, scene: FastScene, noise: Noise | None = None) -> Tensor:
        return read_literally(super().sample(scene, noise))
