"""How long each process waits for the one below it to confirm that a cancel has taken effect.

    client > task node > executor > controller

Whoever waits knows less than whom it waits for: "the arm still moves: use the emergency stop" comes from the executor, so
nobody above it may give up earlier than it can say so. All follow from how long a controller may take to stop.
"""

from __future__ import annotations

STOP_MOST_S = 3.0
"""Largest setting of the time that a controller may take (``stop_timeout_s`` of the robot): the waits below rest on it."""

CARRY_S = 1.0
"""To bring an answer from one process to the next on a machine that is busy."""

EXECUTOR_S = 2 * STOP_MOST_S + CARRY_S
"""The task node waits so long for the executor, which first waits until the controller's goal has ended and then until the
arm stands still, each as long as the controller may take."""

TASK_S = EXECUTOR_S + CARRY_S
"""A client waits so long for the task node."""

UNMOVING_S = 2.0
"""Wait for a server that moves nothing (a planner, a policy): its answer says nothing about the arm."""

LOST_S = 2.0
"""Wait for a server that is known to be gone or silent; it may yet be only slow. Meanwhile the arm is stopped past it."""
