"""Exit codes of the ``stvla`` command; ``stvla --help`` explains them."""

from __future__ import annotations

from stvla_ros.errors import OutcomeCode

USAGE = 2
UNREACHABLE = 3
NOT_CONFIRMED = 4
INTERRUPTED = 130
FIRST_OUTCOME = 20


def of_outcome(code: OutcomeCode) -> int:
    """0 for OK, otherwise 20 + the outcome's number: 22 is GOAL_NOT_GROUNDED, 40 is CANCELED."""
    return 0 if code is OutcomeCode.OK else FIRST_OUTCOME + int(code)
