"""Stand-ins for packages of which the reference code needs little; equal in function and cost.

They exist only while that code is imported. ``einops`` and ``diffusers`` are not
replaced, because the reference spends time in them. DGL's sampler is used where DGL is installed.
"""

from __future__ import annotations

import importlib
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from unittest import mock

from torch import Tensor, nn
from torch.nn import functional

from stvla_ros.policy.network.clip_resnet import BLOCKS, ClipResnet
from stvla_ros.policy.network.encoder import Normalize
from stvla_ros.policy.network.subsample import farthest_point

WANTED = ("einops", "diffusers")


class ModifiedResNet(ClipResnet):
    """CLIP's class with the attributes that subclasses use."""

    def __init__(self, layers: tuple[int, ...], output_dim: int, heads: int, resolution: int = 224, width: int = 64):
        super().__init__()
        assert tuple(layers) == BLOCKS
        self.relu1, self.relu2, self.relu3 = (nn.ReLU(inplace=True) for _ in range(3))
        self.avgpool = nn.AvgPool2d(2)


class Clip(nn.Module):
    """The part of ``clip.load``'s result that the backbone needs; its weights are replaced afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = ModifiedResNet(BLOCKS, 1024, 32)
        self.text_projection = nn.Linear(1024, 512, bias=False).weight


class FeaturePyramidNetwork(nn.Module):
    """torchvision's: all levels are computed, from the coarsest down."""

    def __init__(
        self, in_channels_list: list[int], out_channels: int, extra_blocks: None = None, norm_layer: None = None
    ):
        super().__init__()
        laterals = [nn.Sequential(nn.Conv2d(channels, out_channels, 1)) for channels in in_channels_list]
        self.inner_blocks, self.extra_blocks = nn.ModuleList(laterals), extra_blocks
        smooth = [nn.Sequential(nn.Conv2d(out_channels, out_channels, 3, padding=1)) for _ in in_channels_list]
        self.layer_blocks = nn.ModuleList(smooth)

    def get_result_from_inner_blocks(self, x: Tensor, idx: int) -> Tensor:
        return self.inner_blocks[idx](x)

    def get_result_from_layer_blocks(self, x: Tensor, idx: int) -> Tensor:
        return self.layer_blocks[idx](x)

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        names, maps = list(x), list(x.values())
        last = self.inner_blocks[-1](maps[-1])
        found = [self.layer_blocks[-1](last)]
        for index in range(len(maps) - 2, -1, -1):
            lateral = self.inner_blocks[index](maps[index])
            last = lateral + functional.interpolate(last, size=lateral.shape[-2:], mode="nearest")
            found.insert(0, self.layer_blocks[index](last))
        return OrderedDict(zip(names, found))


def modules() -> dict[str, ModuleType]:
    """Stand-ins by the name they are imported by."""
    nothing = dict.fromkeys(("_resnet", "BasicBlock", "Bottleneck", "ResNet"), object)
    clip = {"load": lambda name: (Clip(), SimpleNamespace(transforms=[Normalize()]))}
    pyramid = {"FeaturePyramidNetwork": FeaturePyramidNetwork, "Conv2dNormActivation": nn.Identity}
    made = {
        "clip": clip,
        "clip.model": {"ModifiedResNet": ModifiedResNet},
        "torchvision": {},
        "torchvision.ops": pyramid,
        "torchvision.transforms": {"Normalize": Normalize},
        "torchvision.models": {},
        "torchvision.models.resnet": nothing,
    }
    if not _imports("dgl.geometry"):
        sampler = {"farthest_point_sampler": lambda points, count, start: farthest_point(points, count)}
        made |= {"dgl": {}, "dgl.geometry": sampler}
    found = {}
    for name, contents in made.items():
        found[name] = ModuleType(name)
        vars(found[name]).update(contents, __path__=[])
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(found[parent], child, found[name])
    return found


@contextmanager
def in_place() -> Iterator[None]:
    """Within it the stand-ins can be imported.

    Raises:
        SystemExit: A package without a stand-in is missing; the message says how to install it.
    """
    missing = [name for name in WANTED if not _imports(name)]
    if missing:
        raise SystemExit(
            f"The reference code needs {' and '.join(missing)}, which is not installed. Outside the project's .venv: "
            f".venv/bin/python -m pip install --no-deps --target /tmp/reference {' '.join(missing)} importlib_metadata zipp"
            ", then run the benchmark with PYTHONPATH=/tmp/reference."
        )
    importlib.import_module("diffusers.schedulers.scheduling_ddpm")  # while it cannot see the stand-ins
    importlib.import_module("diffusers.schedulers.scheduling_ddim")
    importlib.import_module("transformers").CLIPTextModel  # noqa: B018  the same; it is loaded by looking it up
    with mock.patch.dict(sys.modules, modules()):
        yield


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except Exception:  # noqa: BLE001  an installed package may fail with anything, DGL for want of a library
        return False
    return True
