"""A dense recording of the cell at work, as a recorder on a robot would leave it, becomes an episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ray_caster import Scene, home_robot

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import USAGE
from stvla_ros.data.episode import Episode
from stvla_ros.data.recording import RecordingWriter
from stvla_ros.errors import CancelToken
from stvla_ros.evaluate.cell_environment import WatchedCell
from stvla_ros.evaluate.stack import StackSettings, build_stages
from stvla_ros.pipeline import TaskResult, run_task

PERIOD_NS = 100_000_000


class Dense:
    """Writes a frame every tenth of a second."""

    def __init__(self, folder: Path, cell: WatchedCell) -> None:
        self._writer, self._cell, self._due_ns = RecordingWriter(folder), cell, 0

    def look(self) -> None:
        if self._cell.time_ns >= self._due_ns:
            self._due_ns = self._cell.time_ns + PERIOD_NS
            self._writer.append(self._cell.render(), self._cell.state())


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, TaskResult]:
    folder, settings = tmp_path_factory.mktemp("robot") / "demo", StackSettings()
    cell = WatchedCell(settings.cell)
    try:
        instruction = cell.reset("push_buttons", 3)
        dense = Dense(folder, cell)
        cell.watchers = (dense.look,)
        dense.look()
        result = run_task(build_stages(settings, cell), instruction, settings.loop, CancelToken(), background=False)
        cell.advance(0.5)
    finally:
        cell.close()
    return folder, instruction, result


def test_a_demonstration_becomes_an_episode(
    demonstration: tuple[Path, str, TaskResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, instruction, result = demonstration
    command = ["collect", "--from", str(folder), "--instruction", instruction, "--output", str(tmp_path)]
    assert main(command) == 0
    assert "keyposes" in capsys.readouterr().out
    episode = Episode(tmp_path / "episodes" / "demo")
    assert episode.instruction == instruction
    found = np.stack([k.T_base_tcp[:3, 3] for k in episode.keyposes])
    for keypose in result.keyposes:  # every one that was executed is among those that were found
        assert np.linalg.norm(found - keypose.T_base_tcp[:3, 3], axis=1).min() < 0.01
    assert len(result.keyposes) <= len(episode) <= len(result.keyposes) + 4
    pressed = [k.T_base_tcp[:3, 3] for k in result.keyposes if k.may_collide]
    touched = [k.T_base_tcp[:3, 3] for k in episode.keyposes if k.may_collide]
    np.testing.assert_allclose(touched, pressed, atol=0.01)
    assert [p.step_index for p in episode.plans] == sorted(p.step_index for p in episode.plans)

    assert main(command) == USAGE
    assert "exists: delete it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("Put the red block in the plate.", "not an episode of 'Put the red block in the plate.': GOAL_NOT_GROUNDED"),
        ("   ", "instruction is empty"),
    ],
)
def test_other_words_are_refused(
    demonstration: tuple[Path, str, TaskResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    sentence: str,
) -> None:
    arguments = ["collect", "--from", str(demonstration[0]), "--instruction", words, "--output", str(tmp_path / "out")]
    assert main(arguments) == USAGE
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("out/episodes/*"))


def test_half_a_command_or_no_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "--output", str(tmp_path), "--instruction", "Push the red button."]) == USAGE
    assert "--instruction needs --from RECORDING" in capsys.readouterr().err
    RecordingWriter(tmp_path / "demo").append(Scene([]).render()[0], home_robot())
    assert main(["collect", "--output", str(tmp_path / "o"), "--from", str(tmp_path / "demo")]) == USAGE
    assert "does not say what was done: give --instruction WORDS" in capsys.readouterr().err
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "metadata.yaml").write_text("")
    for source, sentence in (
        ("bag", "wanted a rosbag2"),
        ("nothing", "wanted a folder with a recording, found nothing"),
    ):
        arguments = ["collect", "--output", str(tmp_path / "o"), "--from", str(tmp_path / source)]
        assert main([*arguments, "--instruction", "Push the red button."]) == USAGE
        assert sentence in capsys.readouterr().err
