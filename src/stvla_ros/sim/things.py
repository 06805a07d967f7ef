"""Kinds of household things by name, with random sizes and finishes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stvla_ros.sim.household import (
    Cable,
    Carton,
    Cloth,
    Finish,
    Household,
    Shape,
    Tub,
    bowl,
    can,
    flask,
    fruit,
    mug,
)
from stvla_ros.sim.textures import Rgb

CLEAR, FROSTED = 0.22, 0.45
"""Opacity of glass and of milky plastic."""

WHITES: tuple[Rgb, ...] = ((0.95, 0.95, 0.94), (0.93, 0.91, 0.86), (0.90, 0.92, 0.94))
BLACKS: tuple[Rgb, ...] = ((0.03, 0.03, 0.035), (0.05, 0.05, 0.05), (0.02, 0.025, 0.04))
GLAZES: tuple[Rgb, ...] = (
    (0.33, 0.72, 0.62), (0.13, 0.20, 0.45), (0.72, 0.20, 0.16), (0.85, 0.70, 0.25), (0.55, 0.30, 0.60), (0.45, 0.47, 0.48),
)  # fmt: skip
WOODS: tuple[Rgb, ...] = (
    (0.80, 0.66, 0.48),
    (0.62, 0.44, 0.28),
    (0.38, 0.25, 0.17),
    (0.86, 0.77, 0.63),
    (0.70, 0.50, 0.34),
)

Maker = Callable[[np.random.Generator], tuple[Shape, Finish]]


def _pick(rng: np.random.Generator, colours: Sequence[Rgb]) -> Rgb:
    return colours[int(rng.integers(len(colours)))]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 31))


def _glazed(rng: np.random.Generator, white: float = 0.4) -> Finish:
    rgb = _pick(rng, WHITES) if rng.random() < white else _pick(rng, GLAZES)
    return Finish("paint", rgb, float(rng.uniform(0.4, 0.9)), seed=_seed(rng))


def _white_bowl(rng: np.random.Generator) -> tuple[Shape, Finish]:
    return bowl(rng.uniform(0.065, 0.09), rng.uniform(0.045, 0.06)), Finish(
        "paint", _pick(rng, WHITES), 0.8, seed=_seed(rng)
    )


def _bowl(rng: np.random.Generator) -> tuple[Shape, Finish]:
    return bowl(rng.uniform(0.055, 0.085), rng.uniform(0.045, 0.075)), _glazed(rng, 0.2)


def _mug(rng: np.random.Generator) -> tuple[Shape, Finish]:
    return mug(rng.uniform(0.034, 0.043), rng.uniform(0.075, 0.105)), _glazed(rng)


def _glass(rng: np.random.Generator) -> tuple[Shape, Finish]:
    tint = (
        Finish("paint", (0.80, 0.86, 0.86), 1.0, CLEAR)
        if rng.random() < 0.7
        else Finish("paint", (0.70, 0.20, 0.65), 0.7, FROSTED)
    )
    return mug(rng.uniform(0.032, 0.04), rng.uniform(0.08, 0.12), False), tint


def _can(rng: np.random.Generator) -> tuple[Shape, Finish]:
    rgb = _pick(rng, (*GLAZES, *WHITES))
    return can(rng.uniform(0.03, 0.045), rng.uniform(0.07, 0.12)), Finish(
        "prints", rgb, rng.uniform(0.3, 0.9), seed=_seed(rng)
    )


def _carton(rng: np.random.Generator) -> tuple[Shape, Finish]:
    x, y, z = rng.uniform([0.04, 0.06, 0.05], [0.07, 0.12, 0.19])
    return Carton((float(x), float(y), float(z))), Finish(
        "prints", _pick(rng, (*GLAZES, *WHITES)), 0.35, seed=_seed(rng)
    )


def _black(rng: np.random.Generator) -> tuple[Shape, Finish]:
    finish = Finish("paint", _pick(rng, BLACKS), float(rng.uniform(0.05, 0.9)), seed=_seed(rng))
    shapes = (lambda: mug(0.038, rng.uniform(0.08, 0.11)), lambda: Carton((0.07, 0.15, 0.02)), lambda: bowl(0.07, 0.05))
    return shapes[int(rng.integers(len(shapes)))](), finish


def _flask(rng: np.random.Generator) -> tuple[Shape, Finish]:
    clear = rng.random() < 0.4
    finish = (
        Finish("paint", (0.75, 0.85, 0.90), 1.0, FROSTED)
        if clear
        else Finish("prints", _pick(rng, GLAZES), 0.6, seed=_seed(rng))
    )
    return flask(rng.uniform(0.028, 0.038), rng.uniform(0.16, 0.24)), finish


def _fruit(rng: np.random.Generator) -> tuple[Shape, Finish]:
    rgb = _pick(rng, ((0.80, 0.18, 0.12), (0.88, 0.55, 0.10), (0.55, 0.70, 0.20), (0.90, 0.82, 0.25)))
    return fruit(rng.uniform(0.028, 0.042), rng.uniform(0.8, 1.1)), Finish("paint", rgb, 0.4, seed=_seed(rng))


def _cable(rng: np.random.Generator) -> tuple[Shape, Finish]:
    rgb = _pick(rng, BLACKS) if rng.random() < 0.6 else _pick(rng, (*WHITES, *GLAZES))
    return Cable(rng.uniform(0.25, 0.5), rng.uniform(0.004, 0.008), _seed(rng)), Finish("paint", rgb, 0.4)


def _cloth(rng: np.random.Generator) -> tuple[Shape, Finish]:
    pattern = str(rng.choice(["weave", "flowers"]))
    x, y = rng.uniform(0.12, 0.2, 2)
    shape = Cloth((float(x), float(y)), float(rng.uniform(0.008, 0.035)), _seed(rng))
    return shape, Finish(pattern, _pick(rng, (*GLAZES, *WHITES)), 0.0, seed=_seed(rng))


def make_bin(rng: np.random.Generator) -> tuple[Shape, Finish]:
    """An open box with high walls."""
    x, y = rng.uniform([0.13, 0.16], [0.19, 0.25])
    return Tub((float(x), float(y), float(rng.uniform(0.06, 0.10)))), Finish(
        "paint", _pick(rng, (*GLAZES, *WHITES, *BLACKS)), 0.3
    )


def make_tray(rng: np.random.Generator) -> tuple[Shape, Finish]:
    """An open box with low walls."""
    x, y = rng.uniform([0.16, 0.20], [0.22, 0.30])
    finish = Finish("veneer", _pick(rng, WOODS), 0.2, seed=_seed(rng)) if rng.random() < 0.5 else _glazed(rng, 0.5)
    return Tub((float(x), float(y), float(rng.uniform(0.012, 0.03))), 0.006), finish


KINDS: dict[str, Maker] = {
    "white_bowl": _white_bowl, "bowl": _bowl, "mug": _mug, "glass": _glass, "can": _can, "carton": _carton,
    "black": _black, "flask": _flask, "fruit": _fruit, "cable": _cable, "cloth": _cloth, "bin": make_bin, "tray": make_tray,
}  # fmt: skip
"""Things by what people call them."""


def make_thing(
    kind: str, name: str, rng: np.random.Generator, xy_m: tuple[float, float] = (0.0, 0.0), z_m: float = 0.0
) -> Household:
    """A random thing of a kind at a place."""
    shape, finish = KINDS[kind](rng)
    return Household(name, shape, finish, xy_m, float(rng.uniform(-np.pi, np.pi)), z_m)
