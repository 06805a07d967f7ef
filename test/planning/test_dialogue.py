"""The dialogue planner with a model whose answers are written here: what is asked, what comes out, how it fails."""

import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from planning.replies import broken, mutated, plain
from ray_caster import Scene, block, button, home_robot, plate

from stvla_ros.config import build
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.geometry.cameras import uv_to_px
from stvla_ros.interfaces import Planner
from stvla_ros.perception.lift import LiftConfig, lift
from stvla_ros.planning.chat import Turn
from stvla_ros.planning.colour import ColourConfig, ColourPlanner
from stvla_ros.planning.conversation import NO_ANSWER, corrections
from stvla_ros.planning.depth_image import colourised_depth
from stvla_ros.planning.dialogue import DialogueConfig, DialoguePlanner
from stvla_ros.tabletop.start_depth import start_depth
from stvla_ros.types import Keypose, PlanRequest, RobotState

PUT = "Put the red block in the plate."
FRAME = Scene([block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22)]).render(stamp_ns=7)[0]
TRUE = ColourPlanner(ColourConfig()).plan(PlanRequest(PUT, FRAME, home_robot()))
UV = np.rint(TRUE.uv)
PATH = plain([(u, v) for u, v in UV])
OFFSETS = str([round(d * 1000) for d in TRUE.depth_offset_m])
STEP, ACTION = "step 1 of 1, finished: no", "pick up the red block and put it in the plate"
SHUT, PRESS = Keypose(np.eye(4), False), Keypose(np.eye(4), False, True)


@dataclass
class Scripted:
    """Answers from a list, in order; errors in it are raised. Remembers all that it was asked."""

    answers: list[str | StageError]
    takes_s: float = 0.0
    asked: list[tuple[Turn, ...]] = field(default_factory=list)
    schemas: list[Mapping[str, Any] | None] = field(default_factory=list)
    cancels: list[CancelToken | None] = field(default_factory=list)
    name: str = "scripted"

    def reply(
        self,
        turns: Sequence[Turn],
        max_tokens: int,
        schema: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> str:
        assert max_tokens > 0
        self.cancels.append(cancel)
        self.asked.append(tuple(turns))
        self.schemas.append(schema)
        time.sleep(self.takes_s)
        answer = self.answers.pop(0)
        if isinstance(answer, StageError):
            raise answer
        return answer

    @property
    def questions(self) -> list[str]:
        return [turns[-1].text for turns in self.asked]


def request(words: str = PUT, history: tuple[Keypose, ...] = (), robot: RobotState | None = None) -> PlanRequest:
    return PlanRequest(words, FRAME, robot or home_robot(), history)


def planner(model: Scripted, **settings: Any) -> DialoguePlanner:
    return DialoguePlanner(model, build(DialogueConfig, settings, "test"))


def failure(model: Scripted, ask: PlanRequest | None = None, **settings: Any) -> StageError:
    with pytest.raises(StageError) as caught:
        planner(model, **settings).plan(ask or request())
    return caught.value


def test_two_stages_make_a_plan_that_can_be_lifted() -> None:
    model = Scripted([STEP, ACTION, PATH, OFFSETS])
    stage: Planner = planner(model)
    plan = stage.plan(request())
    assert np.array_equal(plan.uv, UV)
    assert plan.depth_offset_m == pytest.approx(TRUE.depth_offset_m, abs=0.0006)
    assert plan.start_depth_m == start_depth(FRAME, uv_to_px(UV[0], FRAME.camera))
    assert (plan.instruction, plan.sub_instruction, plan.planner) == (PUT, ACTION, "scripted")
    assert (plan.step_index, plan.step_total, plan.finished, plan.image_stamp_ns) == (0, 1, False, 7)
    for answer in (STEP, ACTION, PATH, OFFSETS):
        assert answer in plan.raw_reply
    truth = lift(TRUE, FRAME, LiftConfig()).xyz_m
    assert np.linalg.norm(lift(plan, FRAME, LiftConfig()).xyz_m[[0, -1]] - truth[[0, -1]], axis=1).max() < 0.004


def test_questions_are_the_papers_and_carry_the_images() -> None:
    model = Scripted([STEP, ACTION, PATH, OFFSETS])
    plan = planner(model, explain_form=False).plan(request())
    assert (
        model.questions[2]
        == f"Instruction: '{ACTION}'. Provide a sequence of exactly 8 points denoting the trajectory."
    )
    assert f"Start depth: {plan.start_depth_m * 1000:.0f} mm." in model.questions[3]
    last = model.asked[-1]
    assert [len(turn.images) for turn in last] == [1, 0, 0, 0, 0, 0, 1]
    assert last[0].images[0] is FRAME.rgb
    assert np.array_equal(last[-1].images[0], colourised_depth(FRAME))


def test_each_call_begins_with_all_of_the_last_one() -> None:
    model = Scripted(["on the left", STEP, "no", ACTION, "[(1, 2)]", PATH, "none", "[]", OFFSETS])
    planner(model, spatial_first=True).plan(request())
    assert len(model.asked) == 9
    for before, after in zip(model.asked, model.asked[1:], strict=False):
        assert after[: len(before)] == before  # the very same turns
        assert [turn.role for turn in after[len(before) :]] == ["assistant", "user"]
    assert "locate the key object needed" in model.questions[0]
    assert "put the red block in the plate. Figure out" in model.questions[0]


def test_forms_and_schemas_can_be_left_out() -> None:
    explained, bare = Scripted([STEP, ACTION, PATH, OFFSETS]), Scripted([STEP, ACTION, PATH, OFFSETS])
    planner(explained).plan(request())
    planner(bare, explain_form=False, constrain=False).plan(request())
    assert all(schema for schema in explained.schemas)
    assert not any(bare.schemas)
    for long, short in zip(explained.questions, bare.questions, strict=True):
        assert long.startswith(f"{short} ")
        assert "Answer" in long
    assert explained.schemas[2] == {
        "type": "object",
        "properties": {
            "points": {
                "type": "array",
                "items": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": 1000},
                    "minItems": 2,
                    "maxItems": 2,
                },
                "minItems": 8,
                "maxItems": 8,
            }
        },
        "required": ["points"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(("convention", "top"), [("norm1", (1, 1)), ("pixel", (640, 480))])
def test_other_conventions(convention: str, top: tuple[int, int]) -> None:
    path = plain([(round(u / 1000 * top[0], 4), round(v / 1000 * top[1], 4)) for u, v in UV])
    plan = planner(Scripted([STEP, ACTION, path, OFFSETS]), coordinates=convention).plan(request())
    assert plan.uv == pytest.approx(UV, abs=1.1)


def test_ids_are_unique() -> None:
    stage = planner(Scripted([STEP, ACTION, PATH, OFFSETS] * 2))
    assert stage.plan(request()).plan_id != stage.plan(request()).plan_id


def test_bad_answers_are_asked_for_again_with_what_was_wrong() -> None:
    model = Scripted([STEP, ACTION, PATH.replace("(", "(-", 1), "[(1, 2)]", PATH, OFFSETS])
    plan = planner(model).plan(request())
    assert "found (-" in model.questions[3]
    assert "exactly 8 points, found 1" not in model.questions[3]
    assert "Wanted" in model.questions[4]
    assert model.asked[4][-2] == model.asked[5][-4]
    assert plan.raw_reply.count("points:") == 3


@pytest.mark.parametrize("retries", [0, 1, 2, 4])
@pytest.mark.parametrize(
    "good", [[], [STEP], [STEP, ACTION], [STEP, ACTION, PATH]], ids=["progress", "action", "path", "offsets"]
)
def test_retries_are_bounded_and_the_raw_text_is_told(retries: int, good: list[str | StageError]) -> None:
    text = "1. I would rather not.\n2. No. " + "x" * 600
    model = Scripted([*good, *[text] * (retries + 1)])
    error = failure(model, retries=retries)
    assert error.code is OutcomeCode.REPLY_UNPARSABLE
    assert len(model.asked) == len(good) + retries + 1
    assert "1. I would rather not.\\n2. No. " + "x" * 400 in error.sentence
    assert "x" * 501 not in error.sentence


def test_a_reply_that_was_cut_off_is_asked_for_again() -> None:
    cut = StageError(OutcomeCode.REPLY_UNPARSABLE, "The answer was cut off after 512 tokens.")
    model = Scripted([STEP, ACTION, cut, PATH, OFFSETS])
    planner(model).plan(request())
    assert "cut off after 512 tokens" in model.questions[3]
    assert (model.asked[3][-2].role, model.asked[3][-2].text) == ("assistant", NO_ANSWER)
    assert failure(Scripted([cut] * 3)).sentence == cut.sentence


@pytest.mark.parametrize("code", [OutcomeCode.SERVER_TIMEOUT, OutcomeCode.GOAL_NOT_GROUNDED])
def test_what_the_model_itself_refuses_is_not_repeated(code: OutcomeCode) -> None:
    model = Scripted([STEP, StageError(code, "No.")])
    assert failure(model).code is code
    assert len(model.asked) == 2


@pytest.mark.parametrize(
    "text",
    [
        "unknown",
        "Unknown.",
        "unknown<|im_end|>",
        '{"action": "unknown"}',
        "<think>hm</think> <answer>unknown</answer>",
        f"<thought>It could be {PATH}. No: that is the blue one.</thought>\nunknown",
        f"<musing>{PATH}</musing>\nunknown",
    ],
)
@pytest.mark.parametrize("good", [[], [STEP], [STEP, ACTION]], ids=["progress", "action", "path"])
def test_unknown_is_an_answer_that_grounds_nothing(good: list[str | StageError], text: str) -> None:
    model = Scripted([*good, text])
    error = failure(model)
    assert error.code is OutcomeCode.GOAL_NOT_GROUNDED
    assert "Instruction: 'P" in error.sentence or ACTION in error.sentence
    assert len(model.asked) == len(good) + 1


def test_unknown_as_an_answer_to_a_correction_leaves_the_first_fault() -> None:
    error = failure(Scripted([STEP, ACTION, "[(1, 2), (3, 4)]", "unknown"]))
    assert error.code is OutcomeCode.REPLY_UNPARSABLE
    assert "found 2" in error.sentence


@pytest.mark.parametrize("text", [f"<musing>{PATH}</musing>", f"{PATH}\nThere is no red block.", f"<thought>{PATH}"])
def test_a_path_that_is_no_answer_is_never_planned(text: str) -> None:
    model = Scripted([STEP, ACTION, *[text] * 3])
    assert failure(model).code is OutcomeCode.REPLY_UNPARSABLE
    assert "Not usable: Wanted" in model.questions[-1]


def test_answers_in_dress_make_a_plan() -> None:
    end = "<|im_end|>"
    action, path = (
        f"**Next action:** {ACTION}{end}",
        f"{PATH}\nThe block goes from {PATH[1:11]} to {PATH[-11:-1]}.{end}",
    )
    plan = planner(Scripted([f"**{STEP}**{end}", action, path, f"{OFFSETS}\nThe range is [-60, 60].{end}"])).plan(
        request()
    )
    assert np.array_equal(plan.uv, UV)
    assert plan.sub_instruction == ACTION


def test_a_path_without_sense_is_told_to_the_model() -> None:
    zigzag = plain([(100, 500), (900, 500)] * 4)
    model = Scripted([STEP, ACTION, zigzag, PATH, OFFSETS])
    planner(model).plan(request())
    assert "to and fro" in model.questions[3]
    assert failure(Scripted([STEP, ACTION, *[plain([(500, 500)] * 8)] * 3])).code is OutcomeCode.REPLY_UNPARSABLE


def test_a_press_may_stay_on_one_spot() -> None:
    words = "push the red button"
    frame = Scene(button("red", 0.5, 0.1)).render()[0]
    spot = plain([(500, 500)] * 8)
    plan = planner(Scripted([STEP, words, spot, str([0, -40, -80, -120, -120, -80, -40, 0])])).plan(
        PlanRequest(words, frame, home_robot())
    )
    assert np.array_equal(plan.uv, np.full((8, 2), 500))


def test_a_start_without_depth_is_told_and_then_refused() -> None:
    depth = FRAME.depth_m.copy()
    px = uv_to_px(UV[0], FRAME.camera).round().astype(int)
    depth[px[1] - 25 : px[1] + 25, px[0] - 25 : px[0] + 25] = np.nan
    ask = PlanRequest(PUT, replace(FRAME, depth_m=depth), home_robot())
    moved = plain([(float(UV[-1, 0]), float(UV[-1, 1])), *[(float(u), float(v)) for u, v in UV[1:]]])
    model = Scripted([STEP, ACTION, PATH, moved, OFFSETS])
    assert np.isfinite(planner(model).plan(ask).start_depth_m)
    assert "the camera has no depth" in model.questions[3]
    error = failure(Scripted([STEP, ACTION, PATH, PATH, PATH]), ask)
    assert error.code is OutcomeCode.GOAL_NOT_GROUNDED
    assert f"({UV[0, 0]:.0f}, {UV[0, 1]:.0f})" in error.sentence


def test_a_plan_that_nobody_waits_for_asks_no_further() -> None:
    model, cancel = Scripted([STEP, ACTION]), CancelToken()
    asked = PlanRequest(PUT, FRAME, home_robot(), cancel=cancel)
    model.takes_s = 0.05
    threading.Timer(0.01, cancel.cancel).start()
    assert failure(model, asked).code is OutcomeCode.CANCELED
    assert model.cancels == [cancel], "the model can end early, and the second question is not asked"


def test_the_deadline_is_for_the_whole_plan() -> None:
    model = Scripted([STEP, ACTION, PATH, OFFSETS], takes_s=0.15)
    error = failure(model, deadline_s=0.25)
    assert error.code is OutcomeCode.SERVER_TIMEOUT
    assert len(model.asked) == 2


def test_plans_are_made_one_at_a_time() -> None:
    model = Scripted([STEP, ACTION, PATH, OFFSETS] * 2, takes_s=0.03)
    stage = planner(model)
    first = threading.Thread(target=stage.plan, args=(request(),))
    first.start()
    time.sleep(0.02)
    stage.plan(request())
    first.join()
    assert [len(turns) for turns in model.asked] == [1, 3, 5, 7] * 2


def test_an_older_plan_in_work_holds_up_a_new_one_for_a_bounded_time() -> None:
    stage = planner(Scripted([]), deadline_s=0.1)
    with stage._alone(), pytest.raises(StageError) as caught:
        stage.plan(request())
    assert caught.value.code is OutcomeCode.SERVER_TIMEOUT
    assert "still working on an older plan" in caught.value.sentence


def test_a_long_task_of_three_steps() -> None:
    words = "Push the red, then the blue, then the green button."
    frame = Scene([*button("red", 0.5, 0.1), *button("blue", 0.45, -0.15), *button("green", 0.6, 0.2)]).render()[0]
    model = Scripted([])
    stage, history, plans = planner(model), (), []
    for step, colour in enumerate(("red", "blue", "green"), 1):
        model.answers += [f"step {step} of 3, finished: no", f"push the {colour} button", PATH, OFFSETS]
        plans.append(stage.plan(PlanRequest(words, frame, home_robot(), history)))
        history = (*history, SHUT, PRESS)
    model.answers += ["step 3 of 3, finished: yes"]
    plans.append(stage.plan(PlanRequest(words, frame, home_robot(), history)))
    assert [plan.sub_instruction for plan in plans] == [
        f"push the {c} button" for c in ("red", "blue", "green", "green")
    ]
    assert [(plan.step_index, plan.step_total, plan.finished) for plan in plans] == [
        (0, 3, False),
        (1, 3, False),
        (2, 3, False),
        (2, 3, True),
    ]
    first, second, third, last = model.questions[0], model.questions[4], model.questions[8], model.questions[12]
    assert "Executed: nothing." in first
    assert "Executed: 1. push the red button (close, touch)." in second
    assert "2. push the blue button (touch)" in third
    assert "3. push the green button (touch)" in last
    assert "Done: 1. push the red button; 2. push the blue button." in model.questions[9]
    model.answers += [STEP, "push the red button", PATH, OFFSETS]
    stage.plan(PlanRequest(words, frame, home_robot()))
    assert "Executed: nothing." in model.questions[13]


def test_finished_is_not_believed_before_anything_was_executed() -> None:
    done = "step 3 of 3, finished: yes"
    plan = planner(Scripted([done, ACTION, PATH, OFFSETS])).plan(request())
    assert (plan.finished, plan.step_index) == (False, 0)
    later = planner(Scripted([done])).plan(request(history=(SHUT,)))
    assert (later.finished, later.sub_instruction) == (True, PUT)
    assert np.isnan(later.start_depth_m)


def test_single_asks_for_the_end_only_and_off_for_nothing() -> None:
    single, off = Scripted([PATH, OFFSETS, "step 1 of 1, finished: yes"]), Scripted([PATH, OFFSETS] * 2)
    stage = planner(single, horizon="single")
    assert stage.plan(request()).sub_instruction == PUT
    assert stage.plan(request(history=(SHUT,))).finished
    quiet = planner(off, horizon="off")
    assert not quiet.plan(request()).finished
    assert not quiet.plan(request(history=(SHUT,))).finished


def test_the_remaining_path_is_asked_for_from_where_the_tool_is() -> None:
    model = Scripted([STEP, ACTION, PATH, OFFSETS] * 4)
    stage = planner(model)
    robot = home_robot()
    seen = robot.T_base_tcp.copy()
    seen[:3, 3] = 0.5, 0.1, 0.05
    over_the_block = replace(robot, T_base_tcp=seen)
    stage.plan(request(robot=over_the_block))
    stage.plan(request(history=(SHUT,), robot=over_the_block))
    assert "remaining" not in model.questions[2]
    found = re.search(
        r"The tool is at \((\d+), (\d+)\)\. Executed: 1\. .* \(close\)\. Draw the remaining path", model.questions[6]
    )
    assert found
    assert np.hypot(int(found[1]) - UV[0, 0], int(found[2]) - UV[0, 1]) < 60
    seen[:3, 3] = -1.0, 0.0, 0.5
    stage.plan(request(history=(SHUT,), robot=replace(robot, T_base_tcp=seen)))
    assert "The tool is at" not in model.questions[10]
    assert "remaining path" in model.questions[10]
    bare = Scripted([STEP, ACTION, PATH, OFFSETS])
    planner(bare, remaining_path=False).plan(request(history=(SHUT,)))
    assert "remaining" not in bare.questions[2]


def test_why_the_last_path_was_refused_is_told() -> None:
    model = Scripted([STEP, ACTION, PATH, OFFSETS])
    why = "The path leaves the workspace:\nwaypoint 3 lies at x = 1.4 m.\x07" + "z" * 1000
    planner(model).plan(replace(request(), feedback=why))
    told = model.questions[2]
    assert "The last path was refused: The path leaves the workspace: waypoint 3 lies at x = 1.4 m. zz" in told
    assert len(told) < 1200
    assert told.isprintable()
    silent = Scripted([STEP, ACTION, PATH, OFFSETS])
    planner(silent, tell_refusals=False).plan(replace(request(), feedback=why))
    assert "refused" not in silent.questions[2]


@pytest.mark.parametrize("code", [OutcomeCode.LIFT_IMPLAUSIBLE, OutcomeCode.LIFT_NO_DEPTH, OutcomeCode.MASK_EMPTY])
def test_refusals_of_guidance_as_a_turn(code: OutcomeCode) -> None:
    turn = corrections(StageError(code, "Waypoint 2 lies inside the table."))
    assert turn.role == "user"
    assert turn.text == "The last path was refused: Waypoint 2 lies inside the table. Draw another one."


def test_no_malformed_conversation_gets_through() -> None:
    rng = random.Random(11)
    ended = {"plan": 0, "refused": 0}
    for _ in range(250):
        answers: list[str | StageError] = [STEP, ACTION, PATH, OFFSETS]
        where = rng.randrange(4)
        answers[where] = (
            broken(rng, "tuples") if where == 2 and rng.random() < 0.3 else mutated(rng, str(answers[where]))
        )
        try:
            plan = planner(Scripted(answers), retries=0, horizon="long").plan(request())
        except StageError as error:
            ended["refused"] += error.code in (OutcomeCode.REPLY_UNPARSABLE, OutcomeCode.GOAL_NOT_GROUNDED)
            continue
        ended["plan"] += bool(plan.uv.min() >= 0 and plan.uv.max() <= 1000 and np.isfinite(plan.start_depth_m))
    assert sum(ended.values()) == 250
    assert min(ended.values()) > 10
