"""One goal in its own process, like ``stvla run``: find the stack, lay a scene, give the goal, judge.

Prints what happens as JSON, with the time by the monotonic clock: ``heard``, ``laid``, every ``phase``, and the
``end``.
"""

from __future__ import annotations

import argparse
import json
import time

from benchmarks.chaos.faults import BRAIN, CONNECTION, NO_STACK, ROBOT
from stvla_ros.pipeline import Progress
from stvla_ros.ros.client import judge, reset_scene, run_goal, wait_for_nodes
from stvla_ros.ros.run import end_with_supervisor

FIND_S = 20.0
JUDGE_S = 10.0


def say(event: str, at: float | None = None, **values: object) -> None:
    """Print one event, now or at an earlier time."""
    print(json.dumps({"event": event, "at": at or time.monotonic(), **values}), flush=True)


def goal(task: str, seed: int) -> None:
    """Find the stack and carry out one goal."""
    missing = wait_for_nodes((ROBOT, *BRAIN), FIND_S)
    if missing:
        say("end", code=NO_STACK, sentence=f"Not heard within {FIND_S:g} s: {', '.join(missing)}.", judged=False)
        return
    say("heard")
    phases: list[str] = []

    def tell(progress: Progress) -> None:
        phases.append(progress.phase)
        say("phase", phase=progress.phase, keyposes=progress.step)

    try:
        instruction = reset_scene(task, seed)
        say("laid")
        outcome = run_goal(instruction, tell).outcome
    except ConnectionError as error:  # before the first word of the task: the stack was not found
        say("end", code=CONNECTION if phases else NO_STACK, sentence=str(error), judged=False)
        return
    ended = time.monotonic()
    judged, detail = _judged() if outcome.ok else (False, "")
    say("end", code=outcome.code.name, sentence=outcome.sentence, judged=judged, detail=detail, at=ended)


def _judged() -> tuple[bool, str]:
    try:
        with judge() as verdict:
            return verdict(JUDGE_S)
    except ConnectionError as error:
        return False, str(error)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task")
    parser.add_argument("seed", type=int)
    options = parser.parse_args()
    end_with_supervisor()
    goal(options.task, options.seed)


if __name__ == "__main__":
    main()
