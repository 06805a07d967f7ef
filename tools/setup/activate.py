"""Gives a Python of the environment its ROS variables, also when nobody sourced ``stvla.bash``.

A copy of this file lies in the environment and runs at every start of its Python. The dynamic linker reads
``LD_LIBRARY_PATH`` only when a process starts, so Python is started once more where the variables are not yet set.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict


class Plan(TypedDict):
    """What to do to each variable."""

    first: dict[str, list[str]]
    last: dict[str, list[str]]
    set: dict[str, str]
    default: dict[str, str]


def applied(plan: Plan, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with the plan carried out; a second time changes nothing."""
    result = dict(variables)
    for name, paths in plan["first"].items():
        result[name] = ":".join(dict.fromkeys([*paths, *_paths(result, name)]))
    for name, paths in plan["last"].items():
        result[name] = ":".join(dict.fromkeys([*_paths(result, name), *paths]))
    return {**plan["default"], **result, **plan["set"]}


def _paths(variables: Mapping[str, str], name: str) -> list[str]:
    return [path for path in variables.get(name, "").split(":") if path]


def activate() -> None:
    """Start this Python once more with the right variables, unless it has them.

    The environment may be reached through symbolic links. One that was moved ends here: it would start itself for ever.
    """
    here = os.path.realpath(sys.prefix)
    if os.environ.get("STVLA_ENVIRONMENT") == here:
        return
    plan: Plan = json.loads(Path(__file__).with_suffix(".json").read_text())
    made_at = plan["set"]["STVLA_ENVIRONMENT"]
    if made_at != here:
        message = (
            f"This environment was made at {made_at} and is now at {here}. Run `make setup` there: it makes a new one."
        )
        print(message, file=sys.stderr, flush=True)
        os._exit(1)  # an exception would only be reported by site, and Python would go on without ROS
    os.execve(sys.executable, sys.orig_argv, applied(plan, os.environ))
