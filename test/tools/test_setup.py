"""The set-up program: what it says when it cannot work, what it does again and what it leaves alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import activate
import machine
import overlay
import pytest
import wheels
from environment import Environment
from report import SetupError, run
from stamps import Stamp, digest

ROOT = Path(__file__).resolve().parents[2]

PLAN: activate.Plan = {
    "first": {"PATHS": ["/a", "/b"]},
    "last": {"PATHS": ["/z"]},
    "set": {"FIXED": "1"},
    "default": {"CHOICE": "x"},
}


def test_variables_are_applied_once() -> None:
    once = activate.applied(PLAN, {"PATHS": "/user:/b"})
    assert once == {"PATHS": "/a:/b:/user:/z", "FIXED": "1", "CHOICE": "x"}
    assert activate.applied(PLAN, once) == once


def test_the_user_s_choice_stays() -> None:
    assert activate.applied(PLAN, {"CHOICE": "y", "FIXED": "0"}) == {"PATHS": "/a:/b:/z", "CHOICE": "y", "FIXED": "1"}


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_the_shell_file_does_the_same_as_python(tmp_path: Path, shell: str) -> None:
    environment = Environment(ROOT, tmp_path / "a b")
    bundled = wheels.site_packages(tmp_path / "a b") / "ros_one.libs"
    bundled.mkdir(parents=True)
    (tmp_path / "a b" / "stamps").mkdir()
    environment.write()
    start = {"PATH": os.environ["PATH"], "AMENT_PREFIX_PATH": "/genuine", "MUJOCO_GL": "osmesa"}
    file = tmp_path / "a b" / "stvla.bash"
    command = f'set -u; . "{file}"; . "{file}"; exec {sys.executable} -S -c "import os, json; print(json.dumps(dict(os.environ)))"'
    done = subprocess.run([shell, "-c", command], env=start, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    wanted = environment.applied(start)
    assert {name: seen.get(name) for name in wanted} == wanted
    assert wanted["AMENT_PREFIX_PATH"].startswith("/genuine:")


def _small_environment(folder: Path) -> Path:
    """The Python of an environment without packages."""
    venv = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", venv], check=True)
    (venv / "stamps").mkdir()
    Environment(ROOT, venv).write()
    return venv / "bin" / "python"


def _its_environment(python: Path) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if name != "STVLA_ENVIRONMENT"}
    command = [python, "-c", "import os; print(os.environ['STVLA_ENVIRONMENT'])"]
    return subprocess.run(command, env=others, capture_output=True, text=True, timeout=30)


def test_a_checkout_behind_a_symbolic_link_starts(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    _small_environment(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    done = _its_environment(tmp_path / "link" / ".venv" / "bin" / "python")
    assert done.stdout.strip() == str(tmp_path.resolve() / "real" / ".venv")


def test_a_checkout_that_was_moved_says_so(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    _small_environment(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    done = _its_environment(tmp_path / "new" / ".venv" / "bin" / "python")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"This environment was made at {tmp_path.resolve()}/old/.venv and is now at {tmp_path.resolve()}/new/.venv. "
        "Run `make setup` there: it makes a new one."
    )


def test_genuine_packages_are_not_shadowed(tmp_path: Path) -> None:
    ours, other = tmp_path / "overlay", tmp_path / "other"
    for prefix, name in ((ours, "control_msgs"), (ours, "tf2_msgs"), (other, "tf2_msgs")):
        marker = prefix / "share/ament_index/resource_index/packages" / name
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    assert overlay.absent_interfaces(ours, f"{ours}") == ["control_msgs", "tf2_msgs"]
    assert overlay.absent_interfaces(ours, f"{ours}:{other}") == ["control_msgs"]


def test_python_starts_with_its_variables() -> None:
    """Nobody sourced anything: the command of the README works all the same."""
    program = "import os; from stvla_msgs.msg import Outcome; print(os.environ['ROS_DISTRO'], Outcome.OK)"
    bare = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["jazzy", "0"]


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/true", "/bin/false"])
def test_another_python_is_refused_in_one_line(tmp_path: Path, python: str) -> None:
    wrong = tmp_path / "python"
    wrong.write_text("#!/bin/sh\nexit 1\n")
    wrong.chmod(0o755)
    chosen = python if python != "/bin/true" else str(wrong)
    command = ["sh", ROOT / "tools/setup/setup.sh"]
    done = subprocess.run(command, env={**os.environ, "PYTHON": chosen}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "CPython 3.11 is needed" in done.stderr
    assert chosen in done.stderr


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(SetupError, match=r"No C/C\+\+ compiler .*build-essential"):
        machine.check(tmp_path, fresh=False)


def test_an_old_c_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.27")
    with pytest.raises(SetupError, match=r"glibc 2\.34 or newer is needed, this machine has glibc 2\.27"):
        machine.check(tmp_path, fresh=False)


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "FREE_BYTES", 10**18)
    with pytest.raises(SetupError, match="free disk space"):
        machine.check(tmp_path, fresh=True)
    machine.check(tmp_path, fresh=False)


def test_ros_of_another_python_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lib/python3.12/site-packages/rclpy").mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"has ROS 2 from .* sourced"):
        machine.check(tmp_path, fresh=False)


def test_packages_without_root_or_sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_missing_packages", lambda: ["libegl1"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="neither root nor may use sudo: ask for 'apt-get install libegl1'"):
        machine.install_packages()


def environment_at(folder: Path, **settings: str) -> Path:
    folder.mkdir(exist_ok=True)
    real = {"home": f"{sys.base_prefix}/bin", "version": sys.version.split()[0], "command": f"python -m venv {folder}"}
    text = "".join(f"{name} = {value}\n" for name, value in {**real, **settings}.items())
    (folder / "pyvenv.cfg").write_text(text)
    return folder


def test_an_environment_of_this_place_and_python_is_kept(tmp_path: Path) -> None:
    assert wheels._unusable(environment_at(tmp_path / ".venv"), tmp_path / "unfinished") is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"command": "python -m venv /elsewhere/.venv"}, "it was made in /elsewhere/.venv"),
        ({"version": "3.11.0"}, "with another Python"),
        ({"home": "/usr/local/bin"}, "with another Python"),
    ],
)
def test_a_foreign_environment_is_made_anew(tmp_path: Path, settings: dict[str, str], reason: str) -> None:
    assert reason in (wheels._unusable(environment_at(tmp_path / ".venv", **settings), tmp_path / "unfinished") or "")


def test_an_interrupted_installation_is_made_anew(tmp_path: Path) -> None:
    venv = environment_at(tmp_path / ".venv")
    (venv / "unfinished").touch()
    assert "interrupted" in (wheels._unusable(venv, venv / "unfinished") or "")


def test_a_half_removed_environment_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    assert wheels._unusable(tmp_path / ".venv", tmp_path / ".venv" / "unfinished") == "it is incomplete."
    assert wheels._unusable(tmp_path / "none", tmp_path / "none" / "unfinished") is None


def test_stamps_follow_contents(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("one")
    before = digest("fact", files=[file])
    stamp = Stamp(tmp_path, "step")
    assert not stamp.holds(before)
    stamp.set(before)
    assert stamp.holds(before)
    file.write_text("two")
    assert not stamp.holds(digest("fact", files=[file]))
    stamp.clear()
    assert not stamp.holds(before)


def checkout_with_pip(folder: Path, starts: bool) -> tuple[Path, Path]:
    """A checkout whose environment's Python writes down what it is asked, and whose PyTorch starts or does not."""
    (folder / "requirements").mkdir()
    (folder / "requirements" / "learned.txt").write_text("torch==1.0\n")
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\ncase "$*" in "-c "*) exit {int(not starts)};; esac\n')
    python.chmod(0o755)
    return folder, folder / ".venv"


def test_learned_packages_are_added_once_and_after_a_change(tmp_path: Path) -> None:
    root, venv = checkout_with_pip(tmp_path, starts=True)
    wheels.add_learned(root, venv)
    wheels.add_learned(root, venv)
    assert (root / "asked").read_text().count("pip install --no-deps") == 1
    (root / "requirements" / "learned.txt").write_text("torch==2.0\n")
    wheels.add_learned(root, venv)
    assert (root / "asked").read_text().count("pip install --no-deps") == 2


def test_a_pytorch_that_does_not_start_is_named_each_time(tmp_path: Path) -> None:
    root, venv = checkout_with_pip(tmp_path, starts=False)
    for _ in range(2):
        with pytest.raises(SetupError, match=r"does not start.*learned\.txt"):
            wheels.add_learned(root, venv)


def test_a_failing_command_shows_its_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SetupError, match=r"It failed\. The whole output: .*log"):
        run(["sh", "-c", "echo all well; echo ERROR: no room; exit 3"], tmp_path / "log", "It failed.")
    assert capsys.readouterr().err == "  | ERROR: no room\n"
