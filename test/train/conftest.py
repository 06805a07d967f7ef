"""A few rendered scenes for all tests of the small planners."""

from __future__ import annotations

from pathlib import Path

import pytest

from stvla_ros.train.scenes import shards
from stvla_ros.train.scenes.shards import Scenes, load, render


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes of each of three splits, in shards of six."""
    made = tmp_path_factory.mktemp("scenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "PER_SHARD", 6)
        for split in ("train", "val", "unseen"):
            for _ in render(made, split, 12):
                pass
    return made


@pytest.fixture(scope="session")
def scenes(folder: Path) -> Scenes:
    return load(folder, "train")
