"""``stvla doctor stack``: listens to a running stack, its camera and its robot, and moves nothing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from stvla_ros import registry
from stvla_ros.commands import doctor_report
from stvla_ros.doctor.finding import Finding, ok, unseen

if TYPE_CHECKING:
    from stvla_ros.ros.stack_view import StackView

LISTEN_S = 3.0
"""Time for rates, and for several messages of a slow gripper (15 Hz)."""

RUNS = Path("runs")
"""Where recordings go."""


def run(arguments: Namespace) -> int:
    """0: nothing is wrong; 1: something is. Raises ConfigError for a wrong parameter file."""
    from stvla_ros.ros import qos
    from stvla_ros.ros.stack_view import look_at_stack

    chosen = {"planner": arguments.planner}
    given = None
    if arguments.params is not None or arguments.overrides or arguments.planner:
        given = registry.read_nodes(arguments.params, chosen, dict(arguments.overrides))
    console = Console(highlight=False, quiet=arguments.json)
    with console.status("listening"):
        view = look_at_stack(given, qos.DISCOVERY_S, LISTEN_S)
    return doctor_report.code(doctor_report.show("stack", _findings(view), arguments.json, console))


def _findings(view: StackView) -> Iterator[Finding]:
    from stvla_ros.ros.stack_checks import check_disk, check_environment, check_stack

    yield from check_environment(view.rmw)
    yield from check_stack(view)
    yield check_disk(view, RUNS)


def of_machine() -> Iterator[Finding]:
    """What ``stvla doctor`` says about a stack: everything if one is heard, else that none is."""
    try:
        from stvla_ros.ros import qos
        from stvla_ros.ros.stack_checks import check_disk, check_environment, check_senses, check_stack
        from stvla_ros.ros.stack_view import look_at_stack
    except ImportError as error:  # a package that another line reports
        yield unseen("Running stack", f"cannot be looked for ({error})")
        return
    view = look_at_stack(None, qos.DISCOVERY_S, LISTEN_S)
    yield from check_environment(view.rmw)
    if view.beats:
        yield from check_stack(view, ask=False)
    else:
        yield ok("Running stack", f"none was heard within {qos.DISCOVERY_S:g} s")
        if not view.silent:
            yield from check_senses(view)
    yield check_disk(None if view.silent else view, RUNS)
