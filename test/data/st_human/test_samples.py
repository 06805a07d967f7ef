"""The unified JSON: what is written is read, and what is wrong is refused with the place and the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stvla_ros.data.st_human.samples import Objects, Sample, SampleError, by_task, conversation, write_image
from stvla_ros.data.st_human.samples_json import parse_sample, plain, read_samples, write_samples

PATH = tuple((10.0 * k, 900.0 - 5 * k) for k in range(8))


def entry(**changes: Any) -> dict[str, Any]:
    """A sample as the paper's table 5 has it, without our own keys."""
    right: dict[str, Any] = {
        "messages": [
            {"role": "user", "content": "<image>Instruction: 'Pour.'. Provide a sequence of exactly 8 points."},
            {"role": "assistant", "content": str([tuple(map(int, p)) for p in PATH])},
        ],
        "images": ["images/a.png"],
        "objects": {"traj_2d": [list(p) for p in PATH]},
    }
    return {name: value for name, value in (right | changes).items() if value is not None}


def test_a_sample_of_the_paper_is_a_trajectory() -> None:
    sample = parse_sample(entry(), Path("there"), "data.json: sample 7")
    assert (sample.task, sample.id, sample.objects.traj_2d) == ("trajectory", "7", PATH)


@pytest.mark.parametrize("name", ["samples.json", "samples.jsonl"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    image = write_image(tmp_path, "a", rgb)
    words = ("<image>Which step\u2028is it?", "step 2 of 3, finished: no")
    samples = [
        parse_sample(entry(id="path", task="trajectory"), tmp_path),
        Sample("steps", "progress", conversation(*words), (image,), Objects(step=2, steps=3, finished=False), tmp_path),
    ]
    write_samples(tmp_path / name, samples)
    read = read_samples(tmp_path / name)
    assert read == samples
    (question,) = read[1].question()
    assert question.text == "Which step\u2028is it?"
    np.testing.assert_array_equal(question.images[0], rgb)
    assert list(by_task(read)) == ["trajectory", "progress"]


def test_turns_take_images_in_order_and_the_systems_words(tmp_path: Path) -> None:
    pictures = [np.full((2, 3, 3), k, np.uint8) for k in (1, 2)]
    names = tuple(write_image(tmp_path, str(k), rgb) for k, rgb in enumerate(pictures))
    content = plain(Sample("a", "general", conversation("<image>One.", "Yes.", "Two.<image>", "No."), names))
    content["messages"].insert(0, {"role": "system", "content": "Be short."})
    turns = parse_sample(content, tmp_path).turns()
    assert [t.role for t in turns] == ["user", "assistant", "user", "assistant"]
    assert (turns[0].text, turns[2].text) == ("Be short.\nOne.", "Two.")
    assert [[int(i.max()) for i in t.images] for t in turns] == [[1], [], [2], []]


WRONG = {
    "no list of messages": (entry(messages={}), "messages: wanted a list"),
    "the user's last": (entry(messages=entry()["messages"][:1]), "the assistant's last, found user"),
    "no messages": (entry(messages=[]), "found none"),
    "role twice": (entry(messages=entry()["messages"] * 1 + entry()["messages"][1:]), "user, assistant, assistant"),
    "empty words": (entry(messages=[{"role": "user", "content": " "}]), "role and content as text"),
    "placeholder": (entry(messages=[{"role": "user", "content": "<bbox>?"}]), "'<bbox>' is not supported"),
    "image too many": (entry(images=["a.png", "b.png"]), "for each of 2 images, found 1"),
    "web image": (entry(images=["https://x/a.png"]), "wanted file paths"),
    "unknown key": (entry(image="a.png"), "unknown key 'image'. Did you mean 'images'?"),
    "unknown object": (entry(objects={"traj2d": []}), "unknown key 'traj2d'. Did you mean 'traj_2d'?"),
    "unknown task": (entry(task="trajectories"), "Did you mean 'trajectory'?"),
    "seven points": (entry(objects={"traj_2d": [[1, 2]] * 7}), "exactly 8 values, found 7"),
    "three numbers": (entry(objects={"traj_2d": [[1, 2, 3]] * 8}), "wanted 2 numbers, found 3"),
    "not a number": (entry(objects={"traj_2d": [[1, float("nan")]] * 8}), "finite number"),
    "true is no number": (entry(objects={"traj_2d": [[True, 2]] * 8}), "finite number, found True"),
    "out of range": (entry(objects={"traj_2d": [[1, 1001]] * 8}), "from 0 to 1000, found [1001"),
    "nothing to judge by": (entry(task="depth"), "needs objects.depth_offset_mm"),
    "box inside out": (entry(task="pointing", objects={"bbox_2d": [5, 5, 1, 9]}), "x1 <= x2"),
    "step after the last": (entry(task="progress", objects={"step": 4, "steps": 3}), "wanted 1 to 3, found 4"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused(name: str) -> None:
    content, words = WRONG[name]
    with pytest.raises(SampleError) as caught:
        parse_sample(content, where="data.json: sample 3")
    assert str(caught.value).startswith("data.json: sample 3")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("{}", "wanted a list of samples, found dict"),
        ("[]", "wanted samples, found none"),
        ("[" * 100_000, "not valid JSON"),
        ("[3]", "wanted an object, found int"),
        (json.dumps([entry(id="a"), entry(id="a")]), "an earlier sample has the same id 'a'"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SampleError, match=words):
        read_samples(tmp_path / "x.json")


def test_a_missing_file_and_a_missing_image(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="found nothing"):
        read_samples(tmp_path / "x.json")
    with pytest.raises(SampleError, match=r"images/a\.png: wanted an image, found nothing"):
        parse_sample(entry(), tmp_path).turns()


def test_nothing_wrong_is_written(tmp_path: Path) -> None:
    bad = Sample("a", "trajectory", conversation("?", "!"), (), Objects(traj_2d=PATH[:7]))
    with pytest.raises(SampleError, match="exactly 8"):
        write_samples(tmp_path / "x.json", [bad])
    assert list(tmp_path.iterdir()) == []
