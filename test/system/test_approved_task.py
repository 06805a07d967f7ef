"""A whole task under a person's eyes."""

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

        instruction = stack.reset("pick_place", 2).instruction
        assert stack.stands_still(0.3)
        before = stack.states.state().q_rad
        code, _ = stack.run(instruction, approval=Approval.DRY_RUN)
        assert code is OutcomeCode.DRY_RUN
        assert abs(stack.states.state().q_rad - before).max() < 1e-3
