"""Published formats, made here as they are published: three samples each, read, asked, counted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stvla_ros.commands.evaluate_planner import DATASETS
from stvla_ros.config import ConfigError
from stvla_ros.evaluate.planner.question import Order, PromptStyle, Question
from stvla_ros.evaluate.planner.report import Scored, report, scored
from stvla_ros.evaluate.planner.run import Reply
from stvla_ros.evaluate.planner.scoring import Judge
from stvla_ros.types import U8


def picture(k: int) -> U8:
    return np.full((30, 40, 3), 10 * k, np.uint8)


def png(image: U8) -> dict[str, Any]:
    """A cell as the datasets library stores images."""
    return {"bytes": cv2.imencode(".png", image)[1].tobytes(), "path": "x.png"}


def parquet(path: Path, rows: Sequence[Mapping[str, Any]], per_group: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=per_group)


def answered(questions: Sequence[Question], texts: Sequence[str]) -> list[Scored]:
    size = [next(i.shape for t in q.ask() for i in t.images)[1::-1] for q in questions]
    replies = {q.id: Reply(q.id, text, "OK", 0.1, s) for q, text, s in zip(questions, texts, size, strict=True)}
    return scored(questions, replies, Judge())


def first(question: Question) -> int:
    return int(question.ask()[0].images[0].max())


@pytest.mark.parametrize("own", [True, False])
def test_roborefit(tmp_path: Path, own: bool) -> None:
    folder = tmp_path / "final_dataset" / "testA"
    (folder / "image").mkdir(parents=True)
    entries = []
    for k in (1, 2, 3):
        cv2.imwrite(str(folder / "image" / f"{k}.png"), picture(k))
        box, name = [4, 3, 20, 15], f"final_dataset\\testA\\image\\{k}.png"
        full = {"num": k, "text": f"cup {k}", "bbox": box, "rgb_path": name, "mask_path": "m", "scene": "s"}
        picked = {"id": k, "problem": f"cup {k}", "image": f"image/{k}.png", "instruction": "?", "bbox": box}
        entries.append(full if own else picked)
    name = "refindoor_testA_with_scene.json" if own else "roborefit_test.json"
    (folder / name).write_text(json.dumps(entries))
    questions = DATASETS["roborefit"].read(tmp_path if own else folder, PromptStyle())
    assert [first(q) for q in questions] == [10, 20, 30]
    assert "cup 2" in questions[1].ask()[0].text
    results = answered(questions, ["[(100, 100)]", "[(500, 500), (501, 500)]", "no idea"])
    assert DATASETS["roborefit"].summary(results, "strict") == {"hit_rate": pytest.approx((1 + 1 / 2 + 0) / 3)}
    (row,) = report(results)
    assert (row.asked, row.unreadable) == (3, 1)
    assert row.figures["hit_rate_pooled"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_where2place_and_its_three_ways_of_counting(tmp_path: Path, form: str) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[:, 20:], mask[:, 30:] = 51, 255
    rows = [{"question_id": k, "question": f"free space {k}", "question_type": "?"} for k in (1, 2, 3)]
    if form == "jsonl":
        lines = [
            {"question_id": r["question_id"], "image": f"{k:02d}.png", "text": r["question"]}
            for k, r in enumerate(rows)
        ]
        (tmp_path / "point_questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for name in ("images", "masks"):
            (tmp_path / name).mkdir()
            for k in range(3):
                cv2.imwrite(str(tmp_path / name / f"{k:02d}.png"), picture(k + 1) if name == "images" else mask)
    else:
        gray = png(np.repeat(mask[..., None], 3, axis=2))
        parquet(
            tmp_path / "data" / "test-0.parquet",
            [r | {"image": png(picture(k + 1)), "mask": gray} for k, r in enumerate(rows)],
        )
    questions = DATASETS["where2place"].read(tmp_path, PromptStyle())
    assert [first(q) for q in questions] == [10, 20, 30]
    results = answered(questions, ["[(800, 500)]", "[(600, 500), (800, 500), (100, 100)]", "[]"])
    assert DATASETS["where2place"].summary(results, "strict") == {"hit_rate": pytest.approx((1 + 1 / 3 + 0) / 3)}
    assert DATASETS["where2place"].summary(results, "embodied-r1") == {"hit_rate_pooled": pytest.approx(3 / 4)}
    assert DATASETS["where2place"].summary(results, "robopoint") == {"hit_rate": pytest.approx((1 + (0.2 + 1) / 3) / 3)}


def vabench(path: Path, kind: str, answer: object) -> None:
    rows = [
        {"id": str(k), "problem": f"<image>Put it {k}.", "images": [png(picture(k))], "answer": f"<type>{kind}</type>{json.dumps(answer)}"}
        for k in (1, 2, 3)
    ]  # fmt: skip
    parquet(path / "test.parquet", rows)


def test_vabench_point(tmp_path: Path) -> None:
    vabench(tmp_path, "fsd_free_point", {"bbox": [0, 0, 20, 30]})
    questions = DATASETS["vabench-p"].read(tmp_path, PromptStyle())
    assert [first(q) for q in questions] == [10, 20, 30]
    assert questions[0].ask()[0].text.startswith("Put it 1.")
    results = answered(questions, ["[(500, 500)]", "[(501, 500)]", "[(0, 0), (900, 0), (100, 0)]"])
    assert DATASETS["vabench-p"].summary(results, "strict") == {"hit_rate": pytest.approx((1 + 0 + 2 / 3) / 3)}
    assert DATASETS["vabench-p"].summary(results, "embodied-r1") == {"hit_rate_pooled": pytest.approx(3 / 5)}
    with pytest.raises(ConfigError, match="is it the other part of VABench"):
        DATASETS["vabench-v"].read(tmp_path, PromptStyle())


def test_vabench_trace(tmp_path: Path) -> None:
    vabench(tmp_path, "fsd_visual_trace", {"trajectory": [[0, 0], [20, 15]]})
    questions = DATASETS["vabench-v"].read(tmp_path, PromptStyle())
    results = answered(questions, ["[(0, 0), (500, 500)]", "[(30, 40), (530, 540)]", "[(1, 1)]"])
    assert DATASETS["vabench-v"].summary(results, "strict") == {
        "rmse": pytest.approx(0.999 * 50 / 2), "mae": pytest.approx(0.999 * 35 / 2),
    }  # fmt: skip
    assert report(results)[0].unreadable == 1


def lettered(k: int, **more: object) -> dict[str, object]:
    return {
        "idx": f"q{k}", "question": "Which?", "choices": ["left", "right"], "answer": "(A)",
        "prompt": f"Which {k}? Select from (A) left (B) right",
    } | more  # fmt: skip


def test_cvbench_means_as_its_authors_do(tmp_path: Path) -> None:
    sources = (
        ("2D", "Count", "ADE20K"),
        ("2D", "Count", "COCO"),
        ("2D", "Relation", "COCO"),
        ("3D", "Depth", "Omni3D"),
    )
    rows = [
        lettered(k, type=t, task=task, source=s, image=png(picture(k + 1))) for k, (t, task, s) in enumerate(sources)
    ]
    parquet(tmp_path / "test_2d.parquet", rows[:3])
    parquet(tmp_path / "test_3d.parquet", rows[3:])
    questions = DATASETS["cvbench"].read(tmp_path, PromptStyle())
    assert [first(q) for q in questions] == [10, 20, 30, 40]
    results = answered(questions, ["(A)", "left", "Answer: B", "I say right"])
    found = DATASETS["cvbench"].summary(results, "strict")
    assert found == {"accuracy_2d": (1 + 1 / 2) / 2, "accuracy_3d": 0.0, "accuracy": 0.375}
    assert DATASETS["cvbench"].summary(results, "embodied-r1") == {"accuracy": 3 / 4}
    assert [row.group for row in report(results)] == ["2D Count", "2D Relation", "3D Depth"]


def test_blink_with_several_images_and_its_selection(tmp_path: Path) -> None:
    for task, count in (("Relative_Depth", 2), ("Jigsaw", 1)):
        rows = [
            lettered(
                f"{task}{k}", sub_task=task, **{f"image_{i}": png(picture(i)) if i <= 2 else None for i in (1, 2, 3, 4)}
            )  # type: ignore[arg-type]
            for k in range(count)
        ]
        parquet(tmp_path / task / "val-00000-of-00001.parquet", rows)
        parquet(tmp_path / task / "test-00000-of-00001.parquet", [{**r, "answer": "hidden"} for r in rows])
    questions = DATASETS["blink"].read(tmp_path, PromptStyle())
    assert [len(q.ask()[0].images) for q in questions] == [2, 2, 2]
    results = answered(questions, ["(B)", "(A)", "(B)"])  # Jigsaw, then Relative_Depth twice
    assert [q.group for q in questions] == ["Jigsaw", "Relative_Depth", "Relative_Depth"]
    assert DATASETS["blink"].summary(results, "strict") == {"accuracy": (0 + 1 / 2) / 2}
    assert DATASETS["blink"].summary(results, "embodied-r1") == {"accuracy": 1 / 2}


def test_sat_shuffles_the_same_way_every_time(tmp_path: Path) -> None:
    rows = [
        {"image_bytes": [png(picture(k)), png(picture(9))], "question": f"Which way {k}?", "answers": ["turn left", "turn right"],
         "question_type": "action", "correct_answer": "turn left"}
        for k in (1, 2, 3)
    ]  # fmt: skip
    parquet(tmp_path / "SAT_test.parquet", rows)
    questions = DATASETS["sat"].read(tmp_path, PromptStyle())
    texts = [q.ask()[0].text for q in questions]
    assert texts == [q.ask()[0].text for q in DATASETS["sat"].read(tmp_path, PromptStyle())]
    assert len(questions[2].ask()[0].images) == 2
    assert all("turn left" in text and "turn right" in text for text in texts)
    results = answered(questions, ["Turn left.", "turn right", "turn left, not turn right"])
    assert DATASETS["sat"].summary(results, "strict") == {"accuracy": 1 / 3}
    assert DATASETS["sat"].summary(results, "embodied-r1") == {"accuracy": 1 / 3}  # "Turn left." is not "turn left"


def test_crpe_in_circles(tmp_path: Path) -> None:
    for name in ("coco", "abnormal"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "1.jpg"), picture(5))
    directly = "\nAnswer with the option's letter from the given choices directly."
    lines = [
        {"question_id": k, "image": f"{'coco' if k % 2 else 'abnormal'}/1.jpg", "text": f"Who {k}?\nA. man\nB. dog{directly}",
         "category": "subject" if k < 8 else "object", "correct_option": "ABCD"[k % 4]}
        for k in range(12)
    ]  # fmt: skip
    (tmp_path / "crpe_relation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    questions = DATASETS["crpe"].read(tmp_path, PromptStyle())
    assert directly not in questions[0].ask()[0].text
    replies = [f"({'ABCD'[k % 4]})" for k in range(12)]
    replies[6] = "(A)"  # one rotation of the second circle of subjects
    results = answered(questions, replies)
    found = DATASETS["crpe"].summary(results, "strict")
    assert found["subject_circular_accuracy"] == 1 / 2
    assert found["circular_accuracy"] == (1 / 2 + 1) / 2
    assert DATASETS["crpe"].summary(results, "embodied-r1") == {"accuracy": pytest.approx(11 / 12)}


@pytest.mark.parametrize("name", DATASETS)
def test_nothing_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        DATASETS[name].read(tmp_path / "missing", PromptStyle())
    with pytest.raises(ConfigError, match=r"found n(one|either)"):
        DATASETS[name].read(tmp_path, PromptStyle())


@pytest.mark.parametrize("name", ["vabench-p", "cvbench", "sat", "blink"])
def test_parquet_that_is_none_and_columns_that_are_missing(name: str, tmp_path: Path) -> None:
    file = tmp_path / "x" / "val-test.parquet"
    parquet(file, [{"other": 1}])
    with pytest.raises(ConfigError, match="row 0: wanted"):
        DATASETS[name].read(tmp_path, PromptStyle())
    file.write_bytes(b"PAR1\x00 no")
    with pytest.raises(ConfigError, match="cannot be read as parquet"):
        DATASETS[name].read(tmp_path, PromptStyle())


def test_without_pyarrow_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "SAT_test.parquet", [{"question": "?"}])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="needs the Python package 'pyarrow'"):
        DATASETS["sat"].read(tmp_path, PromptStyle())


def test_ids_twice(tmp_path: Path) -> None:
    for task in ("a", "b"):
        parquet(tmp_path / task / "val-0.parquet", [lettered(1, sub_task="Jigsaw", image_1=png(picture(1)))])
    with pytest.raises(ConfigError, match="same id"):
        DATASETS["blink"].read(tmp_path, PromptStyle())


WORDS = """# a remark
[do: push the red button; push the blue button]
Press red, then the blue button.
[refuse: negation: only what is to be done]
Do not push the red button.

[refuse: not on this table: I see]
Push the pink button.
"""


def test_words_of_operators(tmp_path: Path) -> None:
    (tmp_path / "instructions.txt").write_text(WORDS)
    questions = DATASETS["words"].read(tmp_path, PromptStyle())
    assert [(q.id, q.group, q.truth) for q in questions] == [
        ("1.1", "do", Order("push the red button")),
        ("1.2", "do", Order("push the blue button")),
        ("2.1", "refuse: negation", Order("")),
    ]
    asked = [turn.text for question in questions for turn in question.ask()]
    assert "Instruction: 'Press red, then the blue button.'. Done: 1. push the red button." in asked[1]
    replies = {
        "1.1": Reply("1.1", "Press the red button.", "OK", 0.1, (1000, 1000)),
        "1.2": Reply("1.2", "push the red button", "OK", 0.1, (1000, 1000)),
        "2.1": Reply("2.1", "unknown", "OK", 0.1, (1000, 1000)),
    }
    results = scored(questions, replies, Judge())
    assert [r.figures for r in results] == [
        {"accuracy": 1.0, "wrong_rate": 0.0}, {"accuracy": 0.0, "wrong_rate": 1.0}, {"accuracy": 1.0, "wrong_rate": 0.0}
    ]  # fmt: skip
    assert DATASETS["words"].summary(results, "strict") == {
        "do_accuracy": 0.5,
        "refuse_accuracy": 1.0,
        "wrong_rate": 1 / 3,
    }


@pytest.mark.parametrize(
    ("text", "code", "right", "wrong"),
    [
        ("I do not see it.", "GOAL_NOT_GROUNDED", 1.0, 0.0),
        ("{", "OK", 0.0, 0.0),
        ("push the red button", "OK", 0.0, 1.0),
    ],
)
def test_what_is_to_be_refused(text: str, code: str, right: float, wrong: float) -> None:
    question = Question("1", "refuse: negation", Order(""), lambda: ())
    result = scored([question], {"1": Reply("1", text, code, 0.1, (1, 1))}, Judge())[0]
    assert result.figures == {"accuracy": right, "wrong_rate": wrong}


@pytest.mark.parametrize("text", ["Push it.", "[refuse: no reason]\nPush it.", "[do nothing]"])
def test_words_without_their_meaning_are_no_test_set(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.txt").write_text(text)
    with pytest.raises(ConfigError, match="line 1"):
        DATASETS["words"].read(tmp_path, PromptStyle())
