"""Replies of models: forms that are taken, contents that are refused, and what is said about them."""

import random

import numpy as np
import pytest
from planning.replies import FORMS, INVENTED, MORE_FORMS, REFUSALS, THOUGHTS, plain, some_points

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.coordinates import Coordinates
from stvla_ros.planning.parse import (
    MAX_BYTES,
    ReplyError,
    StepProgress,
    is_unknown,
    parse_action,
    parse_offsets,
    parse_points,
    parse_progress,
)
from stvla_ros.planning.plausibility import may_stay, path_fault

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


@pytest.mark.parametrize("form", FORMS | MORE_FORMS)
def test_every_form_gives_the_same_points(form: str) -> None:
    write = (FORMS | MORE_FORMS)[form]
    assert np.array_equal(parse_points(write(POINTS)), POINTS)
    rng = random.Random(3)
    for _ in range(50):
        points = some_points(rng)
        assert np.allclose(parse_points(write(points)), points, rtol=1e-5)


DRAFT = plain([(u / 2, v / 2) for u, v in POINTS])


@pytest.mark.parametrize(("begin", "end"), THOUGHTS)
def test_thoughts_are_no_answer(begin: str, end: str) -> None:
    said = f"{begin}It could be {DRAFT}. No: that is the blue one.{end}"
    assert is_unknown(f"{said}\nunknown")
    with pytest.raises(ReplyError, match="found none"):
        parse_points(f"{said}\nunknown")
    assert np.array_equal(parse_points(f"{said}\n{plain(POINTS)}"), POINTS)
    assert parse_action(f"{said}\npush the red button") == "push the red button"
    assert parse_progress(f"{said}\nstep 2 of 3, finished: no") == StepProgress(2, 3, False)
    if begin:
        with pytest.raises(ReplyError, match="found none"):  # it does not end
            parse_points(f"{begin}{DRAFT}")


@pytest.mark.parametrize(("begin", "end"), INVENTED)
def test_what_is_taken_back_is_no_answer_whatever_stands_around_it(begin: str, end: str) -> None:
    for refusal in REFUSALS:
        with pytest.raises(ReplyError):
            parse_points(f"{begin}{DRAFT}{end}\n{refusal}")
    for answer in (DRAFT[:40], "[(1, 2)]", f"{DRAFT[:-1]}, (3, 4)]", DRAFT.replace("321.5", "NaN")):
        with pytest.raises(ReplyError):
            parse_points(f"{begin}{plain(POINTS)}{end}\n{answer}")


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("<zorp>", "</zorp>"),
        ("<zorp>", ""),
        ("", "</zorp>"),
        ("<|zorp|>", ""),
        ("[ZORP]", "[/ZORP]"),
        ("~~", "~~"),
        ("{{zorp}}", "{{/zorp}}"),
        ("◁zorp▷", ""),
        ("【草稿】", ""),
        ("<del>", "</del>"),
        ("<zorp> <answer>", "</answer>"),
        ("<zorp>\nAnswer: ", ""),
        ("<zorp><think>hm</think>", ""),
        ("```zorp\n", "\n```"),
    ],
)
def test_marks_that_are_not_known_are_refused(begin: str, end: str) -> None:
    for read, answer in (
        (parse_points, plain(POINTS)),
        (parse_offsets, "[0, 1, 2, 3, 4, 5, 6, 7]"),
        (parse_action, "push the red button"),
        (parse_progress, "step 3 of 3, finished: yes"),
    ):
        with pytest.raises(ReplyError, match="Wanted the answer alone, found"):
            read(f"{begin}{answer}{end}")


@pytest.mark.parametrize(
    "text",
    [
        "{}\nThe block goes from (643, 367) to (320, 500).",
        "{}<|im_end|>",
        "{} <|im_end|>\n<|endoftext|>",
        "{}</s>",
        "{}<｜end▁of▁sentence｜>\n",
        "### Path\n\n{}",
        "**Path:** {}",
        "{}\nSo the path is:\n{}",
        "<think/>{}",
        "</think>{}",
        "<think></think>\n{}",
        '"{}"',
        "Thought: [(1, 2)] is wrong.\nFinal answer: {}",
        "<|channel|>final<|message|>{}<|return|>",
        "以下是路径：{}。",
        "The points are:\n```\n{}\n```\nThis path moves the block to the plate.",
        '{{"reasoning": "not at (1, 2)", "points": {}}}',
        "<answer>{}</answer>\nThe path ends at (320, 500).",
        "{}\n\nHope this helps!",
        "{}\nDone.",
        "{}\n\nThe gripper closes at the start. Let me know if you need anything else.",
        "{}\nI chose these points so that the gripper clears the obstacles.",
        "{}\nThe path is curved to avoid the other blocks.",
        "{}\nThe red block is located at (643, 367).",
    ],
)
def test_one_meaning_is_read_in_any_dress(text: str) -> None:
    assert np.array_equal(parse_points(text.format(*[plain(POINTS)] * text.count("{}"))), POINTS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{p}\nWait, no.", "'Wait' beside a list"),
        ("{p}\nThe red block is not visible.", "'not visible' beside a list"),
        ("I cannot see it, so a guess: {p}", "'cannot' beside a list"),
        ("<answer>{p}</answer> That is wrong.", "'wrong' beside a list"),
        ('{{"points": {p}, "found": false}}', "'false' beside a list"),
        ('{{"points": {p}, "note": "\\u672a\\u627e\\u5230"}}', "'未找到' beside a list"),
        ("{p}\nCorrected: {d}", "'Corrected'|2 lists that differ"),
        ("<answer>{p}</answer> <answer>{d}</answer>", "Wanted one answer"),
        ("TRAJECTORY: <ans>{p}</ans> MASK: <ans>{d}</ans>", "Wanted one answer"),
        ("{p}\nIt belongs to the blue one.", "nothing behind the list, found 'It belongs to the blue one'"),
        ("{p}\n[(643, 367), (696, 470)]", "found 10"),
        ("{p}\nPath: [(643, 367), (696, 470)]", "nothing behind the list"),
        ("{p}\n[]", "nothing behind the list"),
        ("{p}\n512, 430", "nothing behind the list"),
        ("{p}\n?", "nothing behind the list"),
        ("{p}\nThat is not it. Hope this helps!", "'not' beside a list"),
        ("{p}\nNothing is done.", "'Nothing' beside a list"),
        ("{p}\nI made these points up.", "nothing behind the list"),
        ("{p}\nLet me know if you see the block, I do not.", "'if' beside a list"),
        ("{p} ...", "found 8 and the beginning|nothing behind"),
        ("{p}<think>That is wrong.</think>", "found none"),
        ("unknown<|im_end|>\n<|im_start|>user\n{p}", "<.im_end.>"),
        ('{{"thinking": {p}}}', "Wanted points"),
        ("Option 1: {p}", "'Option' beside a list"),
    ],
)
def test_what_is_doubted_beside_the_list_is_refused(text: str, words: str) -> None:
    with pytest.raises(ReplyError, match=words):
        parse_points(text.format(p=plain(POINTS), d=DRAFT))


@pytest.mark.parametrize(
    "text",
    [
        '{{"candidate": {n}, "answer": "unknown"}}',
        '{{"points": {n}, "answer": null}}',
        '{{"first": {n}, "points": []}}',
        '[{n}, "unknown"]',
        '{{"points": {n}}}\n{{"points": []}}',
        '{{"steps": [{{"thought": "x", "points": {n}}}], "answer": "unknown"}}',
        '{{"reasoning": "{p}", "answer": "unknown"}}',
        '{{"note": "{p}", "points": []}}',
        '{{"reasoning": {{"points": {n}}}}}',
        "[{n}, []]",
        "/* {p} */ unknown",
        "# {p}",
        "```python\n# {p}\npath = None\n```",
        "```python\npath = {p}\npath = None\n```",
        "```python\ndraft = {p}\nanswer = []\n```",
        "```python\npath = {p}\npath.clear()\n```",
        "```python\nif False:\n  path = {p}\n```",
        "{p} (discarded)",
        "{p} (that is the blue one)",
        "{p} <- wrong",
        "{p} -> unknown",
        "{p} ✗",
        "❌ {p}",
        "not({p})",
        "{p}[0:0]",
        "{p}<zorp/>",
        "{p}\nThe path is the one above, which belongs to the blue block.",
        "{p}\nThis path hits the cup.",
        "{p}\nThe red block goes undetected.",
        "{p}\nThe path: see the image.",
        "{p}\nThese points are made up.",
        "{p}\nThese points are a sketch.",
        "{p}\nThe path needs work.",
        "{p}\nThe path must be redrawn, so the arm moves on.",
        "{p}\nThe path is to be ignored.",
        "{p}\nThe arm stays.",
        "The following is a joke: {p}",
        "Do anything except: {p}",
        "Avoid this path: {p}",
        "First guess: {p}",
        "Initial idea: {p}",
        "Plan A: {p}",
        "I will consider {p}",
        "How about {p}",
        "What about {p}?",
        "Let's think step by step: {p}",
        "analysis{p}",
        "Analysis\n{p}",
        "<output>{p}</output><output>unknown</output>",
        "<|assistant|>{p}",
        "<|assistant|>unknown<|user|>{p}",
        "assistant\n{p}\nuser\nNo.",
        "&lt;think&gt;{p}&lt;/think&gt;",
        "‹think›{p}‹/think›",
        "«think»{p}«/think»",
        "<think\n>{p}</think\n>",
        "<think>{p}<\\/think>",
        "<think{p}",
        ":::thinking\n{p}\n:::",
        "~~~thinking\n{p}\n~~~",
        "````thinking\n{p}\n````",
        "\\begin{{thinking}}{p}\\end{{thinking}}",
        "<details open>\n<summary>x</summary>\n{p}\n</details>",
        "<|channel|>analysis {p}",
        "(thinking: {p})",
        "*thinks* {p} *sighs*",
    ],
)
def test_lists_that_are_not_meant_are_refused(text: str) -> None:
    with pytest.raises(ReplyError):
        parse_points(text.format(p=plain(POINTS), n=[list(point) for point in POINTS]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (str([int(v) for point in POINTS for v in point]), "Wanted points"),
        (plain(POINTS).replace(",", "%,"), "Wanted points"),
        (plain(POINTS).replace("1000", "1,000"), "330, 1,000"),
        (plain(POINTS).replace("643", "６４３"), "６４３"),
        (str([{"x": x, "y": y, "z": 1} for x, y in POINTS]), "'z'"),
        ("".join(f"<|box_start|>({x:g},{y:g}),({x + 1:g},{y:g})<|box_end|>" for x, y in POINTS[:4]), "box_start"),
        (
            "<points " + " ".join(f'x{k}="{x / 10}" y{k}="{y / 10}"' for k, (x, y) in enumerate(POINTS)) + "/>",
            "percentages",
        ),
    ],
)
def test_other_ways_to_count_are_refused(text: str, words: str) -> None:
    with pytest.raises(ReplyError, match=words):
        parse_points(text)


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
     "<answer>[0 mm, -120 mm, 1 mm, 2 mm, 3.0, 4, 5, 1500]</answer>", "Start (1, 2): [0, -120, 1, 2, 3, 4, 5, 1500]",
     "[0, -120, 1, 2, 3, 4, 5, 1500]\nThe range is [-120, 1500].", "[0, −120, 1, 2, 3, 4, 5, 1500]<|im_end|>",
     "offsets = np.array([0, -120, 1, 2, 3, 4, 5, 1500])  # mm", "**Offsets:** [0, -120, 1, 2, 3, 4, 5, 1500]",
     '[{"waypoint": 1, "offset_mm": 0}, ' + ", ".join(f'{{"offset_mm": {mm}}}' for mm in (-120, 1, 2, 3, 4, 5, 1500)) + "]"],
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
        ("[0, 1, 2, 3, 4, 5, 6, 7]\nunknown", "'unknown' beside a list"),
        ("[0, 1, 2, 3, 4, 5, 6, 7]\n[0, 1, 2, 3, 4, 5, 6, 8]", "one list"),
        ("[0, 1, 2, 3, 4, 5, 6, 7]\n[1, 2]", "nothing behind"),
        ("[0, 1, 2, 3, 4, 5, 6, 7] cm", "nothing behind"),
        ('{"offsets": [0, 1, 2, 3, 4, 5, 6, 7], "unit": "cm"}', "another unit"),
        ("[0, -1,200, 1, 2, 3, 4, 5, 1500]", "exactly 8 depth offsets, found 9"),
        ('{"thinking": [0, 1, 2, 3, 4, 5, 6, 7]}', "found none"),
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
        ("push the red button<|im_end|>", "push the red button"),
        ("push the red button</s>", "push the red button"),
        ("**Next action:** push the red button", "push the red button"),
        ("### Next action\n\npush the red button", "push the red button"),
        ("**Step 2 of 3:** Push the red button!", "Push the red button!"),
        ("- push the **red** button", "push the red button"),
        ("1. “push the red button”", "push the red button"),
        ("> push the red button", "push the red button"),
        ("Here is the next action: push the red button", "push the red button"),
        ("The next action is to push the red button", "push the red button"),
        ("Next action → push the red button", "push the red button"),
        ("Thought: it is red.\nAction: push the red button", "push the red button"),
        ('{"reasoning": "It is red. So it is.", "next_action": "push the red button"}', "push the red button"),
        ("['push the red button']", "push the red button"),
        ("<|begin_of_box|>push the red button<|end_of_box|>", "push the red button"),
    ],
)
def test_actions(text: str, action: str) -> None:
    assert parse_action(text) == action


@pytest.mark.parametrize(
    "text",
    ["", "done", "1. push it\n2. lift it", "Push the button. Then lift it.", "[(1, 2), (3, 4)]", "x" * 300 + " y", "go\x07 on",
     "step 2 of 3, finished: no", '{"action": "push the red button", "why": "it is red"}', "I cannot see a red button.",
     "There is no red button.", "The red button is hidden.", "push the red button\nunknown", "push the red one, no wait, the blue one",
     "find the unknown", "No action needed.", "~~push the red button~~", "Thought: push the red button", "Sorry, nothing to do."],
)  # fmt: skip
def test_what_is_no_action(text: str) -> None:
    with pytest.raises(ReplyError, match="Wanted"):
        parse_action(text)


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        ("step 2 of 3, finished: no", StepProgress(2, 3, False)),
        ("Step: 3/3. Finished: Yes.", StepProgress(3, 3, True)),
        ('{"step": 2, "total": 3, "finished": false}', StepProgress(2, 3, False)),
        ('{"step": 2, "total": null, "finished": true}', StepProgress(2, None, True)),
        ("<think>step 1 of 9, finished: no</think>step 2 of 3, finished: no", StepProgress(2, 3, False)),
        ("step 2 of 3, finished: no<|im_end|>", StepProgress(2, 3, False)),
        ("Step: **2** of **3**\n- **Finished:** No", StepProgress(2, 3, False)),
        ("| step | 3 of 3 |\n|---|---|\n| finished | yes |", StepProgress(3, 3, True)),
        ("Step 2 out of 3. Finished? No.", StepProgress(2, 3, False)),
        (
            '{"reasoning": "step 1 is over", "current_step": 2, "total_steps": 3, "finished": "no"}',
            StepProgress(2, 3, False),
        ),
        ('{"progress": {"step": 3, "total": 3, "finished": true}}', StepProgress(3, 3, True)),
        ("Thought: step 1 is over.\nAnswer: step 2 of 3, finished: no", StepProgress(2, 3, False)),
        ("step 2 of 3, finished: no. The cup does not stand yet.", StepProgress(2, 3, False)),
    ],
)
def test_progress(text: str, progress: StepProgress) -> None:
    assert parse_progress(text) == progress


@pytest.mark.parametrize(
    "text",
    ["", "step 2 of 3", "finished: no", "step 0 of 3, finished: no", "step 4 of 3, finished: no", "step 2 of 3, finished: yes",
     "step 1 of 51, finished: no", "step 51, finished: no", "step 1, step 2, finished: no", "step 1 of 2, finished: yes, finished: no",
     "step ٢ of 3, finished: no", "step 2 of 3, finished: maybe", "step -2 of 3, unfinished: no", "step 3 of 3, finished: yes\nunknown",
     "step 3 of 3, finished: yes? I am not sure", "step 3 of 3, not finished: yes", "step 3 of 3, finished: yes, if it moved",
     "Thought: step 3 of 3, finished: yes", "I cannot tell: step 2 of 3, finished: no"],
)  # fmt: skip
def test_what_is_no_progress(text: str) -> None:
    with pytest.raises(StageError, match="REPLY_UNPARSABLE"):
        parse_progress(text)


@pytest.mark.parametrize(
    "text",
    [
        "unknown",
        "Unknown.",
        "unknown<|im_end|>",
        "unknown</s>",
        "**unknown**",
        "`unknown`",
        "### unknown",
        "- unknown",
        '"unknown"',
        "Answer: unknown",
        "**Answer:** unknown",
        "The answer is unknown.",
        '{"points": "unknown"}',
        '["unknown"]',
        "```\nunknown\n```",
        "<|begin_of_box|>unknown<|end_of_box|>",
        "unknown. There is no red block.",
        "unknown - it is not in view",
        "Thought: no.\nAnswer: unknown",
        "<zorp>[(1, 2)]</zorp>\nunknown",
        "I see no red block.\nunknown",
        "The position is unknown",
    ],
)
def test_unknown_in_any_dress(text: str) -> None:
    assert is_unknown(text)


@pytest.mark.parametrize(
    "text",
    ["", "push the unknown button", "unknown [(1, 2), (3, 4)]", "find the unknown", "unknowns", "<think>unknown"],
)
def test_what_is_not_unknown(text: str) -> None:
    assert not is_unknown(text)


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
