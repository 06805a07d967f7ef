"""A whole task under a person's eyes, and one that is only planned."""

import json
import re
import subprocess
import sys

import cv2
import numpy as np
from sensor_msgs.msg import JointState
from system.robot_harness import MORE_SLACK, StackHarness

from stvla_ros.errors import OutcomeCode
from stvla_ros.motion.approval import Approval, Status
from stvla_ros.ros.approval_client import proposals
from stvla_ros.ros.graph import GraphOptions


def test_a_task_keypose_by_keypose_with_one_refusal():
    """The stack looks again after the refusal, and the block ends where it should."""
    with StackHarness(GraphOptions(overrides=MORE_SLACK)) as stack:
        instruction = stack.reset("pick_place", 1).instruction
        asked = []

        def decide(proposal):
            if proposal.status is not Status.WAITING:
                return
            asked.append(proposal)
            say(proposal.proposal_id, len(asked) != 2, "look again, please")

        with proposals(decide, "Ada") as say:
            code, sentence = stack.run(instruction, approval=Approval.EACH_KEYPOSE)
        assert code is OutcomeCode.OK, (sentence, stack.log[-20:])
        assert stack.score().success
        assert len({proposal.proposal_id for proposal in asked}) == len(asked) > 3
        assert asked[2].plan_id != asked[1].plan_id, "a new plan"


def test_a_dry_run_prints_the_plan_and_writes_the_picture_and_nothing_moves(tmp_path):
    """`stvla run --dry-run` in a process of its own; every joint state until its end says that the arm stands."""
    with StackHarness(GraphOptions(mode="composed", overrides=MORE_SLACK)) as stack:
        instruction = stack.reset("pick_place", 2).instruction
        assert stack.stands_still(0.3)
        before, heard = stack.states.state().q_rad, []
        stack.node.create_subscription(JointState, "joint_states", lambda m: heard.append(m.position[:7]), 50)
        command = [sys.executable, "-m", "stvla_ros.cli", "run", instruction, "--dry-run", "--runs", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240.0, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr, stack.log[-20:])

        folder = tmp_path / "latest"
        summary = json.loads((folder / "summary.json").read_text())
        assert (summary["outcome"], summary["keyposes"]) == ("DRY_RUN", 0)
        plan = re.search(r"^Plan (\S+) of 'colour': (.+)\n.*in mm\): (.+)$", done.stdout, re.MULTILINE)
        assert plan, done.stdout
        assert plan[1] == summary["events"][-1]["plan_id"]
        assert plan[2] in summary["state"]["sub_instructions"]
        uv = np.array(re.findall(r"\((\d+), (\d+)\) [+-]\d+", plan[3]), int)
        assert uv.shape == (8, 2)
        assert ((uv >= 0) & (uv <= 1000)).all()
        assert re.search(r"^Motion to \(.+\) m.*: dry run, not done\.$", done.stdout, re.MULTILINE), done.stdout
        picture = cv2.imread(str(folder / "storyboard.png"))
        width = picture.shape[1] // 3
        camera, guided = (picture[40:, n * width : (n + 1) * width].astype(int) for n in (0, 1))
        assert (np.abs(camera - guided).max(axis=2) > 60).sum() > 100, "the path is drawn, what is in its way removed"

        assert len(heard) > 50
        assert np.abs(np.array(heard) - before).max() < 1e-3
