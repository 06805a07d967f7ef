"""Replies of models: forms that are taken, contents that are refused, and what is said about them."""

import random

import numpy as np
import pytest
from planning.replies import FORMS, plain, some_points

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.coordinates import Coordinates
from stvla_ros.planning.parse import (
    MAX_BYTES,
    Progress,
    ReplyError,
    parse_action,
    parse_offsets,
    parse_points,
    parse_progress,
)
from stvla_ros.planning.sense import may_stay, path_fault

POINTS = [
    (643.0, 367.0),
    (696.0, 470.0),
    (700.0, 300.0),
    (650.0, 250.0),
    (500.0, 240.0),
    (0.0, 300.0),
    (330.0, 1000.0),
    (320.0, 500.0),
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_points(form: str) -> None:
    assert np.array_equal(parse_points(FORMS[form](POINTS)), POINTS)
    rng = random.Random(3)
    for _ in range(50):
        points = some_points(rng)
        assert np.allclose(parse_points(FORMS[form](points)), points, rtol=1e-5)


@pytest.mark.parametrize(
    "text", ["[(500, 250)]", "(500, 250)", "[[500, 250]]", '{"points": [[500, 250]]}', "It is at (500, 250)."]
)
def test_one_point(text: str) -> None:
    assert parse_points(text, 1).tolist() == [[500, 250]]


def test_several_candidates_for_one_point_are_refused() -> None:
    with pytest.raises(ReplyError, match="exactly 1 points, found 2"):
        parse_points("[(500, 250), (1, 2)]", 1)


@pytest.mark.parametrize(
    ("convention", "text", "uv"),
    [
        ("norm1000", "(500, 250)", (500, 250)),
        ("norm1", "(0.5, 0.25)", (500, 250)),
        ("norm1", "(1, 1)", (1000, 1000)),
        ("pixel", "(319.5, 119.5)", (500, 250)),
        ("pixel", "(640, 480)", (1000, 1000)),
    ],
)
def test_conventions(convention: str, text: str, uv: tuple[float, float]) -> None:
    coordinates = Coordinates(convention, (640, 480))
    assert parse_points(text, 1, coordinates)[0] == pytest.approx(uv)
    if uv != (1000, 1000):
        assert parse_points(coordinates.written(uv), 1, coordinates)[0] == pytest.approx(uv, abs=2)


@pytest.mark.parametrize(
    ("convention", "text", "words"),
    [
        ("norm1000", "(0.5, 0.25)", "fractions of 1"),
        ("norm1", "(500, 250)", "x from 0 to 1 and"),
        ("pixel", "(641, 20)", "x from 0 to 640 and y from 0 to 480, found .641, 20"),
    ],
)
def test_another_convention_is_noticed(convention: str, text: str, words: str) -> None:
    with pytest.raises(ReplyError, match=words):
        parse_points(text, 1, Coordinates(convention, (640, 480)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found none"),
        ("I cannot see a red block.", "found none"),
        (plain(POINTS[:7]), "exactly 8 points, found 7"),
        (plain([*POINTS, (1, 1)]), "exactly 8 points, found 9"),
        (plain(POINTS)[:-1] + ", (12", "found 8 and the beginning of another"),
        ('{"point_2d": [1, 2], "label": "a"}, ' * 8 + '{"poi', "found 8 and the beginning"),
        (plain(POINTS).replace("696", "1001"), "found .1001, 470"),
        (plain(POINTS).replace("696", "-1"), "found .-1, 470"),
        (plain(POINTS).replace("696", "NaN"), "found '.NaN, 470"),
        (plain(POINTS).replace("696", "٦٩٦"), "found '.٦٩٦, 470"),
        (plain(POINTS).replace("(696, 470)", "(696, 470, 1.1)"), "found '.696, 470, 1.1"),
        (plain(POINTS).replace("(696, 470)", "[696, 470)"), "found '.696, 470"),
        (f"<think>{plain(POINTS)}", "found none"),
        (f"{plain(POINTS)} or {plain(POINTS[:5])}", "found 5"),
        (plain(POINTS) + plain(POINTS), "found 16"),
        (plain(POINTS) + " " * MAX_BYTES, "longer than 65536 bytes"),
    ],
)
def test_what_is_no_path(text: str, words: str) -> None:
    with pytest.raises(ReplyError, match=words) as caught:
        parse_points(text)
    assert caught.value.code is OutcomeCode.REPLY_UNPARSABLE
    assert caught.value.text == text
    assert repr(text[:500])[1:-1] in caught.value.sentence
    assert len(caught.value.sentence) < 1200


@pytest.mark.parametrize(
    "text",
    ["[0, -120, 1, 2, 3, 4, 5, 1500]", '{"offsets_mm": [0, -120, 1, 2, 3, 4, 5, 1500]}', "```\n(0,-120,1,2,3,4,5,1500,)\n```",
     "<answer>[0 mm, -120 mm, 1 mm, 2 mm, 3.0, 4, 5, 1500]</answer>", "Start (1, 2): [0, -120, 1, 2, 3, 4, 5, 1500]"],
)  # fmt: skip
def test_offsets_are_metres(text: str) -> None:
    assert parse_offsets(text).tolist() == [0, -0.12, 0.001, 0.002, 0.003, 0.004, 0.005, 1.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0, 1, 2, 3, 4, 5, 6, 7", "found none"),
        ("[0, 1, 2, 3, 4, 5, 6]", "exactly 8 depth offsets, found 7"),
        ("[0, 1, 2, 3, 4, 5, 6, 1501]", "found 1501"),
        ("[0, 1, 2, 3, 4, 5, 6, inf]", "plain numbers"),
        ("[0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]", "found metres"),
        ("[0, 1, 2, 3, 4, 5, 6, 7", "found none"),
    ],
)
def test_what_are_no_offsets(text: str, words: str) -> None:
    with pytest.raises(ReplyError, match=words):
        parse_offsets(text)


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("push the red button", "push the red button"),
        ("<think>red. then blue</think>\n\nPush the red button.", "Push the red button."),
        ('Next action: "push the red button"', "push the red button"),
        ('{"action": "push the red button"}', "push the red button"),
        ("```\npush the red button\n```", "push the red button"),
        ("**schiebe die Tür auf**", "schiebe die Tür auf"),
    ],
)
def test_actions(text: str, action: str) -> None:
    assert parse_action(text) == action


@pytest.mark.parametrize(
    "text",
    ["", "done", "1. push it\n2. lift it", "Push the button. Then lift it.", "[(1, 2), (3, 4)]", "x" * 300 + " y", "go\x07 on",
     "step 2 of 3, finished: no", '{"action": "push the red button", "why": "it is red"}'],
)  # fmt: skip
def test_what_is_no_action(text: str) -> None:
    with pytest.raises(ReplyError, match="Wanted"):
        parse_action(text)


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        ("step 2 of 3, finished: no", Progress(2, 3, False)),
        ("Step: 3/3. Finished: Yes.", Progress(3, 3, True)),
        ('{"step": 2, "total": 3, "finished": false}', Progress(2, 3, False)),
        ('{"step": 2, "total": null, "finished": true}', Progress(2, None, True)),
        ("<think>step 1 of 9, finished: no</think>step 2 of 3, finished: no", Progress(2, 3, False)),
    ],
)
def test_progress(text: str, progress: Progress) -> None:
    assert parse_progress(text) == progress


@pytest.mark.parametrize(
    "text",
    ["", "step 2 of 3", "finished: no", "step 0 of 3, finished: no", "step 4 of 3, finished: no", "step 2 of 3, finished: yes",
     "step 1 of 51, finished: no", "step 51, finished: no", "step 1, step 2, finished: no", "step 1 of 2, finished: yes, finished: no",
     "step ٢ of 3, finished: no", "step 2 of 3, finished: maybe", "step -2 of 3, unfinished: no"],
)  # fmt: skip
def test_what_is_no_progress(text: str) -> None:
    with pytest.raises(StageError, match="REPLY_UNPARSABLE"):
        parse_progress(text)


def line(*stops: tuple[float, float]) -> np.ndarray:
    """8 points along the stops."""
    at = np.linspace(0, len(stops) - 1, 8)
    return np.column_stack([np.interp(at, range(len(stops)), axis) for axis in np.array(stops).T])


PRESS = line((500, 500), (500, 500))


@pytest.mark.parametrize(
    ("uv", "words"),
    [
        (PRESS, "one spot"),
        (line(*[(100, 500), (900, 500)] * 4), "to and fro"),
        (
            np.array([(100, 500), (120, 500), (140, 500), (900, 100), (160, 500), (180, 500), (200, 500), (220, 500)]),
            "Point 4 jumps",
        ),
    ],
)
def test_paths_without_sense(uv: np.ndarray, words: str) -> None:
    assert words in str(path_fault(uv))


@pytest.mark.parametrize(
    "uv",
    [
        line((100, 500), (900, 500)),
        line((100, 500), (120, 100), (900, 100), (900, 500)),
        line((500, 500), (500, 300), (500, 500)),
        line((500, 100), (900, 500), (500, 900), (100, 500), (500, 100)),
        line((500, 500), (505, 495), (500, 500), (505, 500)),
        np.array([(100, 500), (500, 500), (900, 500), (900, 500), (900, 500), (900, 500), (900, 500), (900, 500)]),
    ],
    ids=["straight", "arch", "up and down", "circle", "small", "rests at the goal"],
)
def test_paths_with_sense(uv: np.ndarray) -> None:
    assert path_fault(uv) is None


def test_only_a_press_may_stay() -> None:
    assert path_fault(PRESS, still_ok=True) is None
    assert may_stay("Push the red button.")
    assert not may_stay("put the red block in the plate")
