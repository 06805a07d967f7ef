"""The variables that ROS 2 from wheels needs, for shells and for every Python of the environment."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import activate
from stamps import digest
from wheels import site_packages

SHELL = """\
# Written by make setup. Source it in bash, zsh or sh:  . {file}
_stvla_first() {{ eval "_old=\\${{$1:-}}"; case ":$_old:" in *":$2:"*) ;; *) export "$1=$2${{_old:+:$_old}}" ;; esac; }}
_stvla_last() {{ eval "_old=\\${{$1:-}}"; case ":$_old:" in *":$2:"*) ;; *) export "$1=${{_old:+$_old:}}$2" ;; esac; }}
_stvla_default() {{ eval "_old=\\${{$1:-}}"; [ -n "$_old" ] || export "$1=$2"; }}
{lines}
unset -f _stvla_first _stvla_last _stvla_default
unset _old
hash -r 2>/dev/null || true
"""


class Environment:
    """The variables of one checkout."""

    def __init__(self, root: Path, venv: Path) -> None:
        self._venv = venv
        self._root = root
        self.overlay = venv / "overlay"

    def plan(self) -> activate.Plan:
        """What to do to each variable.

        Our prefixes come last, so that a genuine package in another sourced overlay wins over the stand-ins in ours;
        the wheels' own libraries come first, because no others fit them.
        """
        venv, overlay = str(self._venv), str(self.overlay)
        bundled = sorted(str(path) for path in site_packages(self._venv).glob("ros_*.libs"))
        return {
            "first": {"LD_LIBRARY_PATH": [f"{venv}/lib", *bundled], "PATH": [f"{venv}/bin"]},
            "last": {
                "LD_LIBRARY_PATH": [f"{overlay}/lib"],
                "AMENT_PREFIX_PATH": [overlay, venv],
                "CMAKE_PREFIX_PATH": [overlay, venv],
            },
            "set": {
                "STVLA_ENVIRONMENT": venv,
                "VIRTUAL_ENV": venv,
                "ROS_DISTRO": "jazzy",
                "ROS_VERSION": "2",
                "ROS_PYTHON_VERSION": "3",
                "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",  # LD_LIBRARY_PATH is set, the wheels need not do it
            },
            "default": {
                "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
                "FASTRTPS_DEFAULT_PROFILES_FILE": str(self._root / "config" / "fastdds.xml"),
                "MUJOCO_GL": "egl",
            },
        }

    def applied(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Variables for a child process."""
        return activate.applied(self.plan(), variables)

    def write(self) -> None:
        """Write the file for shells, and make every Python of the environment start with these variables."""
        plan, site = self.plan(), site_packages(self._venv)
        text = json.dumps(plan, indent=1)
        marker = self._venv / "stamps" / "environment"
        key = digest(text, SHELL, files=[Path(activate.__file__)])
        if marker.is_file() and marker.read_text() == key:
            return
        shutil.copy(activate.__file__, site / "_stvla_environment.py")
        (site / "_stvla_environment.json").write_text(text)
        # read in alphabetical order: before the wheels' own hook, which would start Python once more
        paths = [self._root / "src", self._venv / "build" / "stvla_ros" / "src", self._overlay_packages()]
        lines = ["import _stvla_environment; _stvla_environment.activate()", *map(str, paths)]
        (site / "a0_stvla.pth").write_text("\n".join(lines) + "\n")
        for name in (
            "stvla.bash",
            "local_setup.bash",
            "local_setup.sh",
            "local_setup.zsh",
        ):  # colcon looks for the latter
            (self._venv / name).write_text(self._shell(plan))
        marker.parent.mkdir(exist_ok=True)
        marker.write_text(key)

    def _overlay_packages(self) -> Path:
        return self.overlay / "lib" / "python3.11" / "site-packages"

    def _shell(self, plan: activate.Plan) -> str:
        lines = [
            f"_stvla_first {name} {shlex.quote(value)}"
            for name, values in plan["first"].items()
            for value in reversed(values)
        ]
        lines += [
            f"_stvla_last {name} {shlex.quote(value)}" for name, values in plan["last"].items() for value in values
        ]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in plan["set"].items()]
        lines += [f"_stvla_default {name} {shlex.quote(value)}" for name, value in plan["default"].items()]
        return SHELL.format(file=self._venv / "stvla.bash", lines="\n".join(lines))
