"""Why an episode failed, in the classes that a table counts."""

from __future__ import annotations

from stvla_ros.errors import OutcomeCode
from stvla_ros.evaluate.episode import EpisodeRecord

CLASSES = ("wrong target", "missed grasp", "wrong place", "out of keyposes", "refused", "not noticed", "defect")
"""In the order in which they are decided, except that a defect comes first."""

_OUT = {OutcomeCode.STEP_LIMIT.name, OutcomeCode.NO_PROGRESS.name}


def failure(record: EpisodeRecord) -> str | None:
    """The class of a failure, one of :data:`CLASSES`; None for a success.

    * defect: this software failed, or the process died.
    * not noticed: the goal is reached, and the stack says that it is not.
    * wrong target: the robot worked on what the instruction does not name (``facts.wrong_target``).
    * missed grasp: the fingers closed on nothing, to the end.
    * wrong place: the stack says done, and the goal is not reached.
    * out of keyposes: neither ended the task: ``STEP_LIMIT``, or ``NO_PROGRESS``.
    * refused: any other outcome: the stack stopped by itself.
    """
    if record.success:
        return None
    if record.outcome == OutcomeCode.INTERNAL.name:
        return "defect"
    if record.judged:
        return "not noticed"
    if record.facts.get("wrong_target"):
        return "wrong target"
    if record.outcome == OutcomeCode.GRASP_FAILED.name:
        return "missed grasp"
    if record.outcome == OutcomeCode.OK.name:
        return "wrong place"
    return "out of keyposes" if record.outcome in _OUT else "refused"
