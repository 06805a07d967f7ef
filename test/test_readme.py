"""README.md and docs/robot.md: what a first visitor copies works, and what is linked is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from stvla_ros import registry
from stvla_ros.cli import joined, make_parser

ROOT = Path(__file__).parents[1]
README, ROBOT = ROOT / "README.md", ROOT / "docs/robot.md"
FILM = ROOT / "docs/images/demo.webp"


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def command_lines(page: Path) -> list[str]:
    """What follows ``stvla`` on the command lines of a page."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    found = (re.match(r"(?:\.venv/bin/|ros2 run stvla_ros )stvla (.*)", line) for line in lines)
    return [match[1] for match in found if match]


def test_the_library_example_runs_without_ros(tmp_path: Path) -> None:
    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    check = (
        "import sys\n"
        "assert guidance.kept_ids and guidance.removed_ids\n"
        "assert guidance.frame.rgb.shape == frame.rgb.shape and (guidance.frame.rgb != frame.rgb).any()\n"
        "assert keypose.T_base_tcp.shape == (4, 4)\n"
        "assert 'rclpy' not in sys.modules\n"
    )
    program = [sys.executable, "-c", code + check]
    done = subprocess.run(program, capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_two_commands_are_targets() -> None:
    text, makefile = README.read_text(), (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert re.search(rf"^make {target}\b", text, re.MULTILINE)
        assert re.search(rf"^{target}: setup", makefile, re.MULTILINE)
    assert "exec make test" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize(
    "line", [pytest.param(line, id=f"{page.name}: {line}") for page in (README, ROBOT) for line in command_lines(page)]
)
def test_command_lines_are_understood(line: str) -> None:
    command, *rest = joined(shlex.split(line, comments=True))
    assert make_parser(command).parse_checked([command, *rest]).command == command


@pytest.mark.parametrize("page", [README, ROBOT], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_the_film_moves_and_is_small() -> None:
    from PIL import Image

    assert FILM.relative_to(ROOT).as_posix() in README.read_text()
    assert FILM.stat().st_size < 3_000_000
    with Image.open(FILM) as film:
        assert film.n_frames > 20  # type: ignore[attr-defined]


def test_the_parameter_file_of_a_robot_is_taken(tmp_path: Path) -> None:
    (content,) = blocks(ROBOT, "yaml")
    file = tmp_path / "my_cell.yaml"
    file.write_text(content)
    nodes = registry.read_nodes(file)
    assert nodes["executor"]["roboplan"]["velocity_scale"] == 0.1


def test_the_backends_of_the_table_are_all_there_are() -> None:
    table = re.search(r"^\| stage .*?\n\n", README.read_text(), re.MULTILINE | re.DOTALL)
    assert table is not None
    named = set(re.findall(r"`(\w+)`", table[0]))
    assert named == {name for kind in registry.BACKENDS for name in registry.names(kind)} - {"oracle"}
