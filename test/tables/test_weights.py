"""The weights that were trained for the paper's tables: these bytes, these answers, ready to run."""

from pathlib import Path

import numpy as np
import pytest
from policy.seen import observation

from stvla_ros import registry
from stvla_ros.files import digest
from stvla_ros.tables.protocol import Row, read_protocol
from stvla_ros.tables.run import WEIGHTS, ReadyRow, Table

POLICIES = {
    "baseline": ("off", "e5c22d4dc5f2aa8f1a59ac064cfb83330e731a20a03f125e776ba780af1e39de", [0.7139, -0.048, 0.0793]),
    "ft": ("full", "0df8541ed3c297b39cdd4b54d706dbb1a00c7cdeeee50a0aa64117909cd533f7", [0.5091, 0.0229, 0.1175]),
}
"""Kind of training -> its guidance, its SHA-256, and a position that it predicts on a ray-cast scene."""


@pytest.mark.parametrize("kind", POLICIES)
def test_these_bytes_give_these_answers(kind: str) -> None:
    """What the networks compute, not whether it is right: they do not know this task."""
    mode, sha256, expected_m = POLICIES[kind]
    path = WEIGHTS / f"3dfa-nano-{kind}-0.safetensors"
    assert digest(path) == sha256
    policy = registry.create("policy", "3dfa", {"checkpoint": str(path), "samples": 1})
    xyz_m, _, _ = policy._sample(observation(words="Close the red jar.", mode=mode))
    np.testing.assert_allclose(xyz_m, expected_m, atol=1e-3)


@pytest.mark.parametrize("arm", ["baseline", "frozen", "ft"])
def test_rows_of_table_2_run_without_further_files(arm: str, tmp_path: Path) -> None:
    table = Table(tmp_path, read_protocol("table2"), WEIGHTS, 100)
    assert isinstance(table.ready(Row("3dfa", arm, "heatmap_held_out", 0)), ReadyRow)
