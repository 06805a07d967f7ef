"""Procedural textures with grain: wood, stone, cloth, print, concrete, carpet. The same seed gives the same image."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import mujoco
import numpy as np

from stvla_ros.types import F32, U8

Rgb = tuple[float, float, float]
"""Red, green, blue in 0..1."""

Pattern = Callable[[np.random.Generator, int, Rgb], F32]


def add_texture(spec: mujoco.MjSpec, name: str, image: U8) -> list[str]:
    """Add a (H, W, 3) image to a model; returns the ``textures`` of a material that shows it."""
    added = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D)
    added.height, added.width, added.nchannel = image.shape
    added.data = image.tobytes()
    return rgb_role(name)


def rgb_role(texture: str) -> list[str]:
    """MuJoCo wants one texture name per role; the second role is plain colour."""
    roles = [""] * int(mujoco.mjtTextureRole.mjNTEXROLE)
    roles[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = texture
    return roles


def texture(pattern: str, seed: int, size_px: int, rgb: Rgb) -> U8:
    """(size, size, 3) image.

    Args:
        pattern: One of :data:`PATTERNS`.
        seed: Decides the image.
        size_px: Width and height, from 16.
        rgb: Colour of most of it.
    """
    image = PATTERNS[pattern](np.random.default_rng([seed, 0x7E]), size_px, rgb)
    return np.asarray(255 * np.clip(image, 0.0, 1.0), np.uint8)


def cloudy(rng: np.random.Generator, size_px: int, cells: tuple[float, float], octaves: int = 4) -> F32:
    """(size, size) smooth noise of mean 0 and deviation 1; ``cells`` lumps down and across, each octave twice as many."""
    total = np.zeros((size_px, size_px), np.float32)
    for octave in range(octaves):
        shape = [max(min(round(2**octave * n), size_px), 1) + 3 for n in cells]
        coarse = rng.standard_normal(shape, dtype=np.float32)
        total += 0.6**octave * cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    return np.asarray((total - total.mean()) / total.std(), np.float32)


def planks(rng: np.random.Generator, size_px: int, rgb: Rgb) -> F32:
    """Boards along the columns: rings, pores, a tone for each board, and dark joints."""
    boards = int(rng.integers(3, 8))
    across, board = np.divmod(np.arange(size_px) * boards / size_px, 1.0)[::-1]
    board = board.astype(int)
    shift = rng.integers(0, size_px, boards)[board]
    rows = (np.arange(size_px)[:, None] + shift) % size_px
    columns = np.broadcast_to(np.arange(size_px), rows.shape)
    warp = cloudy(rng, size_px, (2, 7))[rows, columns]
    rings = np.sin(2 * np.pi * (size_px / 110 * (across - 0.5) ** 2 * 6 + 0.9 * warp))
    streaks = cloudy(rng, size_px, (4, size_px / 10), 3)[rows, columns]
    pores = np.maximum(cloudy(rng, size_px, (size_px / 28, size_px / 3), 2)[rows, columns] - 1.2, 0.0)
    tone = rng.normal(0.0, 0.05, boards)[board]
    value = 1.0 + tone + 0.045 * rings + 0.05 * streaks - 0.14 * pores
    joint = np.minimum(across, 1 - across) * size_px / boards < rng.uniform(0.7, 1.6)
    value = np.where(joint, 0.35, value)
    warm = np.array([0.85, 1.0, 1.25])  # dark grain is redder than light grain
    return np.asarray(np.array(rgb) * value[..., None] ** warm, np.float32)


def veneer(rng: np.random.Generator, size_px: int, rgb: Rgb) -> F32:
    """One sheet of wood without joints, with broad arches and fine dark pores."""
    warp = cloudy(rng, size_px, (1.5, 5))
    arches = np.sin(2 * np.pi * (np.linspace(0, 9, size_px) + 1.1 * warp))
    pores = np.maximum(cloudy(rng, size_px, (size_px / 24, size_px / 3), 2) - 1.0, 0.0)
    value = 1.0 + 0.06 * arches + 0.04 * cloudy(rng, size_px, (3, size_px / 12), 3) - 0.18 * pores
    return np.asarray(np.array(rgb) * value[..., None] ** np.array([0.85, 1.0, 1.25]), np.float32)


def stone(rng: np.random.Generator, size_px: int, rgb: Rgb) -> F32:
    """Clouds, thin veins and speckles of three tones."""
    veins = np.exp(-((cloudy(rng, size_px, (3, 3), 5) / 0.035) ** 2))
    value = 1.0 + 0.06 * cloudy(rng, size_px, (5, 5)) - rng.uniform(0.05, 0.35) * veins
    speckles = cv2.GaussianBlur(rng.standard_normal((size_px, size_px), dtype=np.float32), (3, 3), 0)
    value += np.where(speckles > 0.95, 0.22, 0.0) - np.where(speckles < -0.95, 0.22, 0.0) + 0.03 * speckles
    return np.asarray(np.array(rgb) * value[..., None], np.float32)


def weave(rng: np.random.Generator, size_px: int, rgb: Rgb) -> F32:
    """Threads over and under each other, in stripes of two or three colours both ways."""
    threads = int(size_px / rng.uniform(3.0, 5.0))
    phase = np.arange(size_px) * threads / size_px
    u, v = phase[None, :], phase[:, None]
    over = (np.floor(u) + np.floor(v)) % 2 == 0
    bulge = np.where(over, np.abs(np.sin(np.pi * v)), np.abs(np.sin(np.pi * u)))
    dyes = np.array([rgb, *np.clip(np.array(rgb) * rng.uniform(0.35, 1.4, (2, 3)), 0, 1)])
    stripes = np.repeat(rng.choice(3, threads + 1, p=(0.6, 0.25, 0.15)), int(rng.integers(4, 12)))
    warp, weft = dyes[stripes[np.floor(u).astype(int)[0]]], dyes[stripes[np.floor(v).astype(int)[:, 0]]]
    colour = np.where(over[..., None], warp[None, :, :], weft[:, None, :])
    uneven = 1.0 + 0.05 * cloudy(rng, size_px, (size_px / 40, size_px / 40))
    return np.asarray(colour * ((0.72 + 0.28 * bulge) * uneven)[..., None], np.float32)


def prints(rng: np.random.Generator, size_px: int, rgb: Rgb) -> F32:
    """A label: bands, discs and lines of writing in saturated colours on one ground."""
    image = np.full((size_px, size_px, 3), np.multiply(255, rgb), np.uint8)
    inks = [*(tuple(int(c) for c in rng.choice([20, 110, 230], 3)) for _ in range(3)), (250, 250, 250), (15, 15, 15)]
    for _ in range(int(rng.integers(2, 5))):
        top, height = rng.uniform(0, 0.9), rng.uniform(0.05, 0.25)
        rows = slice(int(top * size_px), int((top + height) * size_px))
        image[rows] = inks[int(rng.integers(len(inks)))]
    for _ in range(int(rng.integers(3, 9))):
        centre = tuple(int(c) for c in rng.uniform(0, size_px, 2))
        axes = tuple(int(r) for r in rng.uniform(0.03, 0.14, 2) * size_px)
        cv2.ellipse(
            image, centre, axes, rng.uniform(0, 180), 0, 360, inks[int(rng.integers(len(inks)))], -1, cv2.LINE_AA
        )
    for _ in range(int(rng.integers(6, 14))):
        words = "".join(rng.choice([*"ABDEGHKMNOPRSTUXYZ "], int(rng.integers(4, 14))))
        at = int(rng.uniform(0, 0.8) * size_px), int(rng.uniform(0.05, 1) * size_px)
        size, ink = rng.uniform(0.2, 1.6) * size_px / 256, inks[int(rng.integers(len(inks)))]
        cv2.putText(image, words, at, cv2.FONT_HERSHEY_DUPLEX, size, ink, max(round(2 * size), 1), cv2.LINE_AA)
    return np.asarray(image / 270 + 0.02 * cloudy(rng, size_px, (6, 6))[..., None], np.float32)


def flowers(rng: np.random.Generator, size_px: int, rgb: Rgb) -> F32:
    """A printed pattern that repeats, as on a tablecloth."""
    tile = size_px // int(rng.integers(6, 12))
    motif = np.full((tile, tile, 3), rgb, np.float32)
    for _ in range(int(rng.integers(3, 7))):
        ink = tuple(float(c) for c in rng.uniform(0.1, 0.95, 3))
        centre, radius = rng.uniform(0.2, 0.8, 2) * tile, rng.uniform(0.05, 0.18) * tile
        for angle in np.linspace(0, 2 * np.pi, int(rng.integers(4, 7)), endpoint=False):
            petal = centre + radius * np.array([np.cos(angle), np.sin(angle)])
            cv2.circle(motif, (int(petal[0]), int(petal[1])), max(int(0.5 * radius), 1), ink, -1, cv2.LINE_AA)
    image = np.tile(motif, (-(-size_px // tile), -(-size_px // tile), 1))[:size_px, :size_px]
    return np.asarray(image * (1 + 0.03 * cloudy(rng, size_px, (size_px / 8, size_px / 8), 2))[..., None], np.float32)


def laminate(rng: np.random.Generator, size_px: int, rgb: Rgb) -> F32:
    """One colour with a fine grain, a few stains and scratches."""
    value = 1.0 + 0.03 * cloudy(rng, size_px, (size_px / 6, size_px / 6), 2) + 0.03 * cloudy(rng, size_px, (3, 3))
    marks = np.zeros((size_px, size_px), np.float32)
    for _ in range(int(rng.integers(4, 14))):
        a, b = rng.uniform(0, size_px, 2), rng.normal(0, 0.04 * size_px, 2)
        ends = tuple(int(c) for c in a), tuple(int(c) for c in a + b)
        cv2.line(marks, *ends, float(rng.choice([-0.12, 0.15])), 1, cv2.LINE_AA)
    return np.asarray(np.array(rgb) * (value + marks)[..., None], np.float32)


def concrete(rng: np.random.Generator, size_px: int, rgb: Rgb) -> F32:
    """Patches and fine speckles."""
    speckles = rng.standard_normal((size_px, size_px), dtype=np.float32)
    value = 1.0 + 0.06 * cloudy(rng, size_px, (4, 4), 6) + 0.04 * speckles
    return np.asarray(np.array(rgb) * value[..., None], np.float32)


def carpet(rng: np.random.Generator, size_px: int, rgb: Rgb) -> F32:
    """Short dashes of several yarns."""
    yarns = np.clip(np.array(rgb) * rng.uniform(0.5, 1.4, (5, 1)) * rng.uniform(0.85, 1.15, (5, 3)), 0, 1)
    dashes = cv2.resize(
        rng.integers(0, 5, (size_px // 3, size_px // 12)).astype(np.uint8),
        (size_px, size_px),
        interpolation=cv2.INTER_NEAREST,
    )
    shade = 1.0 + 0.2 * rng.standard_normal((size_px, size_px), dtype=np.float32)
    return np.asarray(yarns[dashes] * shade[..., None], np.float32)


def paint(rng: np.random.Generator, size_px: int, rgb: Rgb) -> F32:
    """A coat of paint that is not quite even."""
    value = 1.0 + 0.02 * cloudy(rng, size_px, (4, 4)) + 0.01 * rng.standard_normal((size_px, size_px), dtype=np.float32)
    return np.asarray(np.array(rgb) * value[..., None], np.float32)


PATTERNS: dict[str, Pattern] = {
    "planks": planks, "veneer": veneer, "stone": stone, "weave": weave, "prints": prints, "flowers": flowers,
    "laminate": laminate, "concrete": concrete, "carpet": carpet, "paint": paint,
}  # fmt: skip
