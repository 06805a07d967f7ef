"""``--look hard`` chooses the cell's look and its depth camera, for every command that simulates."""

from argparse import Namespace
from pathlib import Path

import pytest

from stvla_ros.commands import demo, evaluate, guide
from stvla_ros.commands.arguments import Parser, overrides_of
from stvla_ros.config import ConfigError

HARD = {"sim.cell.look": "hard", "sim.cell.sensor.kind": "stereo"}


def parsed(command: object, *words: str) -> Namespace:
    parser = Parser("stvla", "")
    command.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("command", [evaluate, demo, guide])
def test_look_becomes_settings_of_the_cell(command: object) -> None:
    assert overrides_of(parsed(command)) == {}
    assert overrides_of(parsed(command, "--look", "hard")) == HARD
    own = overrides_of(parsed(command, "--look", "hard", "--set", "sim.cell.sensor.kind=simple"))
    assert own == HARD | {"sim.cell.sensor.kind": "simple"}
    with pytest.raises(ConfigError, match=r"--look: 'hart' is not known\. Did you mean 'hard'"):
        parsed(command, "--look", "hart")


def test_an_evaluation_gets_them_and_repeats_them(tmp_path: Path) -> None:
    arguments = parsed(evaluate, "--look", "hard", "--noise", "--set", "sim.cell.sensor.stereo.noise_px=0.1")
    setup, plain = evaluate._setup(arguments, tmp_path)
    cell = setup.settings.cell
    assert (cell.look, cell.sensor.kind, cell.sensor.enabled) == ("hard", "stereo", True)
    assert cell.sensor.stereo.noise_px == 0.1
    assert "'look': 'hard'" in str(plain)
    assert "--look hard" in evaluate._command(arguments)
    assert evaluate._remarks(arguments) == ", hard look, noise"
    usual, _ = evaluate._setup(parsed(evaluate), tmp_path)
    assert usual.settings.cell.look == "plain"
