"""The demo runs the learned stack where its weights know the task, and what was chosen where something was."""

from argparse import Namespace
from pathlib import Path

import pytest

from stvla_ros.commands import demo
from stvla_ros.commands.arguments import Parser, stack_options
from stvla_ros.evaluate.stack import read_settings
from stvla_ros.policy.checkpoint.policy_file import read_policy_file
from stvla_ros.policy.learned import WEIGHTS
from stvla_ros.sim.tasks import BASIC_TASKS, TASKS

PARAMETERS = Path(__file__).parents[2] / "config/stvla.yaml"
HAND_WRITTEN = {"planner": "colour", "segmenter": "geometric", "policy": "scripted", "motion": "roboplan"}
LEARNED = HAND_WRITTEN | {"planner": "heatmap", "policy": "3dfa"}


def backends(task: str, *words: str) -> dict[str, str]:
    """The backends that a demo of a task would run."""
    parser = Parser("stvla", "")
    demo.add_arguments(parser)
    arguments: Namespace = parser.parse_args(words)
    options = demo._learned(stack_options(arguments), arguments, task)
    return dict(read_settings(options.params, options.backends, options.overrides).backends)


@pytest.mark.parametrize("task", TASKS)
def test_the_learned_stack_is_the_default_of_the_tasks_that_its_weights_know(task: str) -> None:
    assert backends(task) == (LEARNED if task in BASIC_TASKS else HAND_WRITTEN)


def test_the_weights_know_these_tasks() -> None:
    assert sorted(BASIC_TASKS) == read_policy_file(WEIGHTS).trained["tasks"]


def test_what_was_chosen_counts() -> None:
    assert backends("pick_place", "--policy", "scripted") == LEARNED | {"policy": "scripted"}
    assert backends("pick_place", "--set", "planner.backend=colour") == LEARNED | {"planner": "colour"}
    assert backends("pick_place", "--look", "hard") == HAND_WRITTEN
    assert backends("pick_place", "--params", str(PARAMETERS)) == HAND_WRITTEN
    assert backends("pick_place", "--segmenter", "sam2", "--mode", "composed") == LEARNED | {"segmenter": "sam2"}
