"""The colour planner on ray-cast scenes: what it finds, the path it draws, when it is finished, what it refuses."""

import re
from dataclasses import replace

import numpy as np
import pytest
from ray_caster import Box, Disc, Scene, block, button, front_camera, home_robot, plate

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.geometry.cameras import project, px_to_uv
from stvla_ros.geometry.se3 import tool_down
from stvla_ros.perception.lift import LiftConfig, lift
from stvla_ros.planning.colour import ColourConfig, ColourPlanner
from stvla_ros.types import F64, Keypose, PlanRequest, RgbdFrame, RobotState, TracePlan

PUT = "Put the red block in the plate."
STACK = "Stack the red block on the blue block."
PUSH = "Push the red button, then push the blue button."
TABLE = [block("red", 0.5, 0.1, 0.4), *plate(0.45, -0.22), block("blue", 0.6, 0.0, 1.0), block("maroon", 0.4, 0.25)]
BUTTONS = [*button("red", 0.5, 0.1), *button("blue", 0.45, -0.15), *button("green", 0.6, 0.2)]


def request(
    words: str,
    objects: list[Box | Disc],
    robot: RobotState | None = None,
    history: tuple[Keypose, ...] = (),
    noise_m: float = 0.0,
) -> PlanRequest:
    frame, _ = Scene(objects).render(noise_m=noise_m, stamp_ns=7)
    return PlanRequest(words, frame, robot or home_robot(), history)


def plan(ask: PlanRequest) -> TracePlan:
    return ColourPlanner(ColourConfig()).plan(ask)


def path(ask: PlanRequest) -> F64:
    """What the lifter makes of the plan."""
    return lift(plan(ask), ask.frame, LiftConfig()).xyz_m


def refusal(ask: PlanRequest) -> str:
    with pytest.raises(StageError) as caught:
        plan(ask)
    assert caught.value.code is OutcomeCode.GOAL_NOT_GROUNDED
    return caught.value.sentence


def at(x: float, y: float, z: float, *, gripper_open: bool, may_collide: bool = True) -> Keypose:
    return Keypose(tool_down([x, y, z], 0.0), gripper_open, may_collide)


@pytest.mark.parametrize("noise", [0.0, 0.0012])
def test_the_path_leads_from_the_block_over_everything_to_the_plate(noise: float) -> None:
    ask = request(PUT, TABLE, noise_m=noise)
    drawn = plan(ask)
    assert (drawn.uv >= 0).all()
    assert (drawn.uv <= 1000).all()
    assert (drawn.finished, drawn.step_index, drawn.planner, drawn.image_stamp_ns) == (False, 0, "colour", 7)
    xyz = path(ask)
    tolerance = 0.002 if noise == 0 else 0.008
    np.testing.assert_allclose(xyz[0], [0.5, 0.1, 0.02], atol=tolerance)
    np.testing.assert_allclose(xyz[-1], [0.45, -0.22, 0.031], atol=tolerance)
    assert xyz[:, 2].max() > 0.11


def test_the_path_passes_over_a_tower_in_the_way() -> None:
    tower = Box((0.48, -0.06, 0.09), (0.05, 0.05, 0.18), 0.0, (0.1, 0.6, 0.6))
    xyz = path(request(PUT, [block("red", 0.5, 0.12), *plate(0.45, -0.22), tower]))
    over = np.hypot(*(xyz[:, :2] - [0.48, -0.06]).T) < 0.06
    assert over.any()
    assert xyz[over, 2].min() > 0.18 + 0.05


def test_stacking_ends_above_the_lower_block() -> None:
    np.testing.assert_allclose(path(request(STACK, TABLE))[-1], [0.6, 0.0, 0.063], atol=0.002)


def test_a_held_block_makes_the_path_start_at_the_tool() -> None:
    objects = [block("red", 0.5, 0.05, z=0.2), *TABLE[1:]]
    robot = replace(home_robot(0.04), T_base_tcp=tool_down([0.5, 0.05, 0.2], np.pi / 2))
    xyz = path(request(PUT, objects, robot, (at(0.5, 0.1, 0.02, gripper_open=False),)))
    np.testing.assert_allclose(xyz[0], [0.5, 0.05, 0.2], atol=0.003)
    np.testing.assert_allclose(xyz[-1, :2], [0.45, -0.22], atol=0.003)


RELEASED = (at(0.5, 0.1, 0.02, gripper_open=False), at(0.45, -0.22, 0.03, gripper_open=True))
IN_PLATE = [block("red", 0.45, -0.22, 0.4, z=0.028), *TABLE[1:]]
ON_BLUE = [block("red", 0.6, 0.0, 1.0, z=0.06), *TABLE[1:]]


@pytest.mark.parametrize(("words", "objects"), [(PUT, IN_PLATE), (STACK, ON_BLUE)])
def test_finished_when_it_is_there_and_the_tool_is_away(words: str, objects: list[Box | Disc]) -> None:
    assert plan(request(words, objects, history=RELEASED)).finished


def test_not_finished_while_the_tool_is_still_there() -> None:
    robot = replace(home_robot(0.08), T_base_tcp=tool_down([0.45, -0.22, 0.03], np.pi / 2))
    assert not plan(request(PUT, IN_PLATE, robot, RELEASED)).finished


@pytest.mark.parametrize(("words", "objects"), [(STACK, IN_PLATE), (PUT, ON_BLUE), (PUT, TABLE)])
def test_not_finished_when_it_is_elsewhere(words: str, objects: list[Box | Disc]) -> None:
    assert not plan(request(words, objects, history=RELEASED)).finished


def press(x: float, y: float) -> Keypose:
    return at(x, y, 0.04, gripper_open=False)


@pytest.mark.parametrize(
    ("history", "step", "finished"),
    [
        ((), 0, False),
        ((press(0.5, 0.1),), 1, False),
        ((press(0.6, 0.2), press(0.5, 0.1)), 1, False),  # another button first: does not count here
        ((press(0.45, -0.15),), 0, False),  # the second one first
        ((press(0.5, 0.1), press(0.45, -0.15)), 1, True),
        ((at(0.5, 0.1, 0.04, gripper_open=True),), 0, False),
        ((at(0.5, 0.1, 0.14, gripper_open=False, may_collide=False),), 0, False),
    ],
)
def test_buttons_are_pressed_in_order(history: tuple[Keypose, ...], step: int, finished: bool) -> None:
    ask = request(PUSH, BUTTONS, home_robot(0.0), history)
    drawn = plan(ask)
    assert (drawn.step_index, drawn.finished) == (step, finished)
    assert drawn.sub_instruction == f"push the {('red', 'blue')[step]} button"
    if not finished:
        goal = [(0.5, 0.1), (0.45, -0.15)][step]
        np.testing.assert_allclose(path(ask)[-1], [*goal, 0.037], atol=0.004)


def test_the_way_up_from_the_last_button_belongs_to_it() -> None:
    robot = replace(home_robot(0.0), T_base_tcp=tool_down([0.45, -0.15, 0.04], np.pi / 2))
    last = plan(request(PUSH, BUTTONS, robot, (press(0.5, 0.1), press(0.45, -0.15))))
    assert (last.finished, last.step_index) == (False, 1)


@pytest.mark.parametrize(
    ("words", "objects", "part"),
    [
        (
            "Put the green block in the plate.",
            TABLE,
            "I see no green block. I see a blue block, a maroon block, a plate",
        ),
        ("Stack the red block on the lime block.", TABLE, "I see no lime block"),
        (PUT, TABLE[:1], "I see no plate"),
        ("Push the red button.", TABLE, "I see no red button"),
        (PUT, [*TABLE, block("red", 0.65, -0.3)], "2 objects that could be the red block"),
        ("Put the pink block in the plate.", TABLE, "'pink' is not a colour"),
        ("Put the magneta block in the plate.", [*TABLE, block("magenta", 0.6, 0.2)], "Did you mean 'magenta block'?"),
        ("Put the magneta block in the plate.", TABLE, "'magneta' is not a colour that this planner knows. I see a"),
        ("Put the scarlet block in the plate.", TABLE, "'scarlet' is not a colour that this planner knows. I see a"),
        ("Open the drawer.", TABLE, "'open' is not a word of the tasks"),
        (PUT, [], "I see no plate. I see no block, plate or button."),
    ],
)
def test_refusals_say_what_is_seen(words: str, objects: list[Box | Disc], part: str) -> None:
    sentence = refusal(request(words, objects))
    assert part in sentence
    assert re.search(r"I see (a|no) ", sentence)


def test_a_hidden_target_is_refused_not_guessed() -> None:
    wall = Box((0.56, 0.1, 0.05), (0.02, 0.3, 0.1), 0.0, (0.3, 0.3, 0.3))
    assert "red block" in refusal(request(PUT, [*TABLE, wall]))


@pytest.mark.parametrize("depth", [np.nan, 0.0, np.inf])
def test_a_frame_without_depth_is_refused(depth: float) -> None:
    frame, _ = Scene(TABLE).render()
    blind = RgbdFrame(frame.rgb, np.full_like(frame.depth_m, depth), frame.camera, 0)
    assert "I see no" in refusal(PlanRequest(PUT, blind, home_robot()))


def test_colours_and_places_over_many_scenes() -> None:
    """Random tables at a low and a high resolution: every block found, named and measured."""
    colours = ("red", "maroon", "azure", "blue", "white", "silver", "gray", "black", "lime", "green", "olive", "rose")
    errors = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        names = rng.choice(colours, 4, replace=False)
        spots = [
            (0.38 + 0.08 * i + rng.uniform(-0.01, 0.01), y)
            for i, y in enumerate(rng.permutation([-0.25, -0.08, 0.08, 0.25]))
        ]
        objects = [block(c, *xy, yaw=rng.uniform(0, 3)) for c, xy in zip(names, spots, strict=True)]
        camera = front_camera(*((640, 480) if seed % 2 else (320, 240)))
        frame, _ = Scene(objects).render(camera, noise_m=0.001, seed=seed)
        seen = ColourPlanner(ColourConfig()).look(PlanRequest(PUT, frame, home_robot())).objects
        assert sorted(t.name for t in seen) == sorted(f"{c} block" for c in names), seed
        for thing in seen:
            errors.append(np.linalg.norm(thing.centre_m[:2] - spots[list(names).index(thing.colour)]))
    assert np.median(errors) < 0.004
    assert max(errors) < 0.01


HOLDING = replace(home_robot(), gripper_m=0.04, T_base_tcp=tool_down([0.45, 0.1, 0.25], 0.0))
"""A task was ended in mid-carry: the fingers are apart, and the new task has no history."""


def test_a_hand_that_holds_what_is_asked_for_goes_on_with_it() -> None:
    ask = request(PUT, [*plate(0.45, -0.22)], HOLDING)
    px, _ = project(ask.frame.camera, HOLDING.T_base_tcp[:3, 3])
    for held in ("", "something", "the red block"):
        np.testing.assert_allclose(plan(replace(ask, holding=held)).uv[0], px_to_uv(px, ask.frame.camera), atol=2.0)


def test_a_hand_that_holds_something_else_is_not_sent_to_the_goal() -> None:
    ask = replace(request(PUT, TABLE, HOLDING), holding="the cyan block")
    assert refusal(ask) == "I cannot pick up the red block with the cyan block in the gripper."
    assert "with something in the gripper" in refusal(request(PUSH, BUTTONS, HOLDING))


def test_a_plate_that_is_taken_is_no_goal() -> None:
    taken = [*plate(0.45, -0.22), block("blue", 0.45, -0.22), block("red", 0.5, 0.1)]
    with pytest.raises(StageError, match="The blue block is in the plate, which has room for one"):
        plan(request(PUT, taken))
