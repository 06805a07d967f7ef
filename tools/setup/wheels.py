"""The virtual environment: CPython 3.11 with ROS 2 Jazzy and everything else from pinned wheels."""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

from report import SetupError, run, step, tell
from stamps import Stamp, digest

REQUIREMENTS = ("ros.txt", "stack.txt", "dev.txt")

PINNED_WHEELS = ["--no-deps", "--only-binary", ":all:", "--no-binary", "empy"]
"""Options of pip: nothing is resolved; only empy has no wheel, it is plain Python."""

QUIET = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]

LEARNED = "learned.txt"
"""What learned models run on, from an index of its own."""


def site_packages(venv: Path) -> Path:
    """Where the environment's packages lie."""
    return venv / "lib" / "python3.11" / "site-packages"


def base(venv: Path) -> tuple[str, ...]:
    """What an environment and all that is built in it is tied to: its place and its interpreter."""
    return str(venv), sys.base_prefix, sys.version.split()[0]


def make(root: Path, venv: Path) -> None:
    """Bring the environment to the pinned state.

    Every wheel is pinned, so nothing is resolved. An environment that was moved, that belongs to another
    interpreter, or in which an installation was interrupted is made anew.

    Raises:
        SetupError: The wheels cannot be installed.
    """
    requirements = [root / "requirements" / name for name in REQUIREMENTS]
    key = digest(*base(venv), files=[*requirements, Path(__file__)])
    stamp, unfinished = Stamp(venv, "wheels"), venv / "unfinished"
    if stamp.holds(key) and (venv / "bin" / "python").exists():
        return
    if reason := _unusable(venv, unfinished):
        print(f"set-up: .venv is made anew: {reason}", flush=True)
        shutil.rmtree(venv)
    with step("Python environment and ROS 2 Jazzy from wheels", "1 to 2 minutes when new"):
        stamp.clear()
        venv.mkdir(exist_ok=True)
        unfinished.touch()
        _create(venv)
        _install(venv, requirements, "pip.log")
        _rewrite(venv)
        unfinished.unlink()
        stamp.set(key)


def add_learned(root: Path, venv: Path) -> None:
    """Add what learned models run on. A build of PyTorch for a GPU that the user put in is kept: its version is the same.

    Raises:
        SetupError: The wheels cannot be installed, or PyTorch does not start.
    """
    requirements = root / "requirements" / LEARNED
    key = digest(*base(venv), files=[requirements])
    stamp = Stamp(venv, "learned")
    if stamp.holds(key):
        return
    with step("PyTorch and transformers from wheels", "1 minute when new, 1.1 GB"):
        stamp.clear()
        _install(venv, [requirements], "learned.log", "--retries", "1")  # pip asks the second index for every package
        failure = (
            "PyTorch or transformers is installed but does not start. Where it is PyTorch's build for another CUDA, put "
            f"the right one in its place as requirements/{LEARNED} says; else remove .venv and try again."
        )
        run(
            [venv / "bin" / "python", "-c", "import torch, transformers"], venv / "log" / "torch.log", failure, _plain()
        )
        stamp.set(key)


def _unusable(venv: Path, unfinished: Path) -> str | None:
    """Why an existing environment cannot be built upon."""
    if not venv.exists():
        return None
    if unfinished.exists():
        return "an earlier set-up was interrupted."
    config = venv / "pyvenv.cfg"
    if not config.is_file():
        return "it is incomplete."
    settings = dict(re.findall(r"^(\w+) = (.*)$", config.read_text(), re.MULTILINE))
    place = settings.get("command", "").rpartition(" ")[2]
    if place != str(venv):
        return f"it was made in {place or 'another place'}, and an environment cannot be moved."
    if settings.get("version") != sys.version.split()[0] or Path(settings.get("home", "")) != Path(
        sys.base_prefix, "bin"
    ):
        return f"it was made with another Python ({settings.get('version')} in {settings.get('home')})."
    return None


def _create(venv: Path) -> None:
    if (venv / "bin" / "pip").exists():
        return
    base = Path(sys.base_prefix, "bin", "python3.11")  # this program may itself run in the environment
    run([base, "-m", "venv", venv], venv / "log" / "venv.log", "The virtual environment could not be created.")


def _plain() -> dict[str, str]:
    """Variables in which the environment's Python sees its own packages only and does not start itself again."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"}


def _install(venv: Path, requirements: list[Path], log: str, *options: str) -> None:
    """Install all pins."""
    total = sum(len(re.findall(r"^\w.*==", path.read_text(), re.MULTILINE)) for path in requirements)
    seen = 0

    def watch(line: str) -> None:
        nonlocal seen
        if line.startswith(("Collecting ", "Requirement already satisfied")):
            seen += 1
            tell(f"{seen}/{total} {line.split()[1]}")
        elif line.startswith("Installing"):
            tell(f"unpacking {total} packages")

    pip: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "install"]
    files = [word for path in requirements for word in ("-r", str(path))]
    run(
        [*pip, *PINNED_WHEELS, *QUIET, *options, *files],
        venv / "log" / log,
        "The wheels could not be installed: check the connection to the package index, then try again.",
        env=_plain(),
        watch=watch,
    )


def _rewrite(venv: Path) -> None:
    """Give the ROS wheels' CMake and shell files this machine's paths in place of those they were built with."""
    numpy = site_packages(venv) / "numpy" / "_core" / "include"
    tinyxml = next(site_packages(venv).glob("ros_fastrtps.libs/libtinyxml2-*.so.*"), None)
    if not (numpy / "numpy" / "arrayobject.h").is_file() or tinyxml is None:
        raise SetupError("The wheels lack NumPy's headers or Fast DDS' libraries: remove .venv and try again.")
    built = "/opt/python/cp311-cp311"
    cmake = {
        f"{built}/lib/python3.11/site-packages/numpy/_core/include": str(numpy),
        f"{built}/include/python3.11": sysconfig.get_path("include"),
        "/usr/lib64/libtinyxml2.so": str(tinyxml),
    }
    shell = {"/project/build/temp.linux-x86_64-cpython-311/install": str(venv)}
    for pattern, paths in (("*/cmake/*.cmake", cmake), ("*/local_setup.sh", shell)):
        for file in (venv / "share").glob(pattern):
            _replace(file, paths)


def _replace(file: Path, paths: dict[str, str]) -> None:
    old = new = file.read_text()
    for built, here in paths.items():
        new = new.replace(built, here)
    if new != old:
        file.unlink()  # a package cache may hard-link its copy
        file.write_text(new)
