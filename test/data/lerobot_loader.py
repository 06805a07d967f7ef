"""Reads a set with the genuine LeRobotDataset and saves what it gives: ``python lerobot_loader.py SET OUT.npz``.

It runs in a Python of its own, because ``lerobot`` wants other versions than this project.
"""

import json
import sys
from importlib.metadata import version

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset


def main(root: str, output: str) -> None:
    loaded = LeRobotDataset("local/set", root=root)
    items = [loaded[i] for i in range(len(loaded))]
    arrays = {
        name: np.stack([np.asarray(item[name]) for item in items])
        for name, value in items[0].items()
        if isinstance(value, torch.Tensor)
    }
    about = {
        "tasks": [item["task"] for item in items],
        "episodes": loaded.num_episodes,
        "frames": len(loaded),
        "stats": sorted(loaded.meta.stats),
        "versions": {name: version(name) for name in ("lerobot", "torch", "torchcodec", "datasets", "av")},
    }
    second = LeRobotDataset("local/set", root=root, episodes=[1], delta_timestamps={"action": [0.0, 1.0 / loaded.fps]})
    about["second"] = {"frames": len(second), "actions": np.asarray(second[0]["action"]).tolist()}
    np.savez(output, about=json.dumps(about), **arrays)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
