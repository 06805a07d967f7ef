"""Recipes side by side: each arm trains for the same CPU time on the same episodes, and answers the same held-out ones.

``python -m benchmarks.policy.pairs --data data/pick_place --minutes 20``
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.policy.recipe import before
from stvla_ros.data.episode import Episode, find_episodes
from stvla_ros.evaluate.stack import StackSettings
from stvla_ros.policy.network.network import Noise
from stvla_ros.policy.text_input import for_policy
from stvla_ros.train.policy.experiments import PLANNER_NOISE, Experiment, experiment
from stvla_ros.train.policy.path_noise import PathNoise
from stvla_ros.train.policy.run import Batches, PolicyRun
from stvla_ros.train.policy.samples import Samples, load_samples
from stvla_ros.train.policy.start import untrained

HELD_OUT = 5
"""Every fifth episode is held out."""

PROBES = 8
"""Steps that are timed to choose how many fit into the time."""


def arms() -> dict[str, Experiment]:
    """The recipe before; then one change after the other, each beside ``shared``."""
    old = before(experiment("nano-3dfa"))
    shared = replace(old, network=replace(old.network, shared_scene=True), draws=experiment("nano-3dfa").draws)
    path = replace(shared, network=replace(shared.network, path_channels=True))
    return {
        "before": old,
        "shared": shared,
        "base-yaw": replace(shared, augment=replace(shared.augment, turn_rad=0.35, about_base=True)),
        "path": path,
        "path-noise": replace(path, path_noise=PLANNER_NOISE),
        "off": replace(shared, guidance="off"),
    }


@dataclass(frozen=True)
class Data:
    """Episodes to train on and held-out ones, guided once and cached.

    Attributes:
        train: Folders of episodes.
        held_out: Others.
        cache: Folder of guided samples.
        halved: Times that images are halved: cheaper, to compare recipes only.
    """

    train: Sequence[Episode]
    held_out: Sequence[Episode]
    cache: Path
    halved: int

    def samples(self, e: Experiment, held_out: bool, noise: PathNoise) -> Samples:
        """Samples as an experiment sees them, with noise on the paths."""
        settings = StackSettings()
        settings = replace(settings, guide=replace(settings.guide, mode=e.guidance))
        episodes = self.held_out if held_out else self.train
        found = load_samples(episodes, settings, e.network.image_px, self.cache, 1, noise=noise)
        for _ in range(self.halved):
            found = halved(found)
        return found


def halved(samples: Samples) -> Samples:
    """Images of half the size: colours are means, positions those of one pixel, as on the robot."""
    n, c, size, _ = samples.rgb.shape
    rgb = samples.rgb.reshape(n, c, size // 2, 2, size // 2, 2).mean((3, 5)).round().astype(np.uint8)
    return replace(samples, rgb=rgb, xyz_m=samples.xyz_m[:, :, 1::2, 1::2])


def train(e: Experiment, data: Data, minutes: float, seed: int) -> dict[str, object]:
    """Train one arm; errors on held-out samples with true paths and with noisy ones."""
    seen, unseen = data.samples(e, False, e.path_noise), data.samples(e, True, PathNoise())
    paths = {"true": unseen} | ({"noisy": data.samples(e, True, PLANNER_NOISE)} if e.guidance == "full" else {})
    e = replace(e, network=replace(e.network, image_px=e.network.image_px >> data.halved))
    file = untrained(e, seen, seed=seed)
    text = for_policy(file)
    with tempfile.TemporaryDirectory() as folder:

        def made(name: str, one: Experiment) -> PolicyRun:
            return PolicyRun(one, file, text, seen, unseen, Path(folder) / name, torch.device("cpu"), seed)

        steps = max(1, int(60 * minutes / _seconds_per_step(made("probe", replace(e, steps=10**6)))))
        run = made("run", replace(e, steps=steps, warmup=min(e.warmup, steps // 10), validate_every=max(1, steps // 4)))
        curve: list[dict[str, float]] = []
        start = time.process_time()
        run.run(
            lambda p: curve.append({"step": p.done, "cpu_min": _since(start), **p.validation}) if p.validation else None
        )
        network = run._result().build()
    found: dict[str, object] = {"steps": steps, "curve": curve}
    for name, samples in paths.items():
        found[name] = figures(errors_m(network, Batches(samples, text)))
    return found


def _seconds_per_step(probe: PolicyRun) -> float:
    """CPU time of a step, after two that do not count."""
    for _ in range(2):
        probe._advance()
    start = time.process_time()
    for _ in range(PROBES):
        probe._advance()
    return (time.process_time() - start) / PROBES


def _since(start: float) -> float:
    return round((time.process_time() - start) / 60, 2)


@torch.no_grad()
def errors_m(network: torch.nn.Module, batches: Batches) -> np.ndarray:
    """(N,) distances from sampled to demonstrated keyposes; the same noise for every arm."""
    generator, found = torch.Generator().manual_seed(0), []
    for inputs, target in batches.evenly(16, 10**6):
        noise = Noise.draw(network.config, len(target), generator)
        found.append((network.predict(inputs, noise)[:, 0, 0, :3] - target[:, 0, 0, :3]).norm(dim=-1))
    return torch.cat(found).numpy()


def figures(error_m: np.ndarray) -> dict[str, object]:
    """Median in millimetres and shares of close answers, with the errors themselves for pairing."""
    shares = {f"within_{mm}mm": round(float((error_m < mm / 1e3).mean()), 3) for mm in (10, 30, 50)}
    return {"median_mm": round(1e3 * float(np.median(error_m)), 1), **shares, "mm": (1e3 * error_m).round(1).tolist()}


def table(found: Mapping[str, Mapping[str, object]]) -> Table:
    """Held-out errors per arm, and how many samples an arm answers better than the first."""
    shown = Table("arm", "steps", "paths", "median mm", "within 10 mm", "50 mm", "better than the first")
    first = next(iter(found.values()))
    for name, one in found.items():
        for paths in ("true", "noisy"):
            if paths in one:
                mine, other = one[paths], first.get(paths, first["true"])
                better = sum(a < b for a, b in zip(mine["mm"], other["mm"], strict=True))  # type: ignore[index]
                row = (mine["median_mm"], mine["within_10mm"], mine["within_50mm"], f"{better}/{len(mine['mm'])}")  # type: ignore[index]
                shown.add_row(name, str(one["steps"]), paths, *map(str, row))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy.pairs", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="episodes of `stvla collect`")
    parser.add_argument("--episodes", type=int, default=100, help="at most; every fifth is held out")
    parser.add_argument("--minutes", type=float, default=20.0, help="CPU minutes per arm")
    parser.add_argument("--arms", default=",".join(arms()), help="in this order; the first is compared with")
    parser.add_argument("--halved", type=int, default=0, help="times that images are halved: cheaper")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("build/pairs"), help="folder of guided samples")
    options = parser.parse_args()
    torch.set_num_threads(1)
    episodes = find_episodes(options.data)[: options.episodes]
    data = Data(
        [e for i, e in enumerate(episodes) if i % HELD_OUT], episodes[::HELD_OUT], options.cache, options.halved
    )
    found = {}
    for name in options.arms.split(","):
        found[name] = train(arms()[name], data, options.minutes, options.seed)
        print(json.dumps({"arm": name, **found[name]}), flush=True)
    Console(width=120).print(table(found))


if __name__ == "__main__":
    main()
