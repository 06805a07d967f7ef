"""Figures against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stvla_ros.config import ConfigError
from stvla_ros.errors import StageError
from stvla_ros.evaluate.planner.answers import chosen, loosely_right
from stvla_ros.evaluate.planner.metrics import (
    BertScore,
    depth_errors,
    distance,
    matched_f1,
    path_errors,
    resampled,
    rouge_l,
    token_f1,
)
from stvla_ros.evaluate.planner.question import Choice, Depths, Path2d, Region, Sentence, Steps
from stvla_ros.evaluate.planner.scoring import Judge

SQUARE = (1000, 1000)


def test_path_errors_are_on_0_to_999() -> None:
    truth = np.array([[0.0, 0.0], [1000.0, 0.0]])
    drawn = np.add(truth, [30.0, 40.0])
    rmse, mae = path_errors(drawn, truth)
    assert rmse == pytest.approx(50 * 0.999)
    assert mae == pytest.approx(35 * 0.999)


def test_paths_are_resampled_by_index_to_the_longer_one() -> None:
    three = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 100.0]])
    np.testing.assert_allclose(resampled(three, 5), [[0, 0], [50, 0], [100, 0], [100, 50], [100, 100]])
    two = three[[0, 2]]  # its middle is (50, 50): off by (50, 50) at one of three points
    rmse, mae = path_errors(two, three)
    assert rmse == pytest.approx(0.999 * np.sqrt(5000 / 3))
    assert mae == pytest.approx(0.999 * 50 / 3)


def test_depth_errors() -> None:
    truth = np.array([0.0, -0.1, -0.2, 0, 0, 0, 0, 0])
    said = np.add(truth, [0.0, 0.04, 0.0, 0.06, 0, 0, 0, 0])
    mad_cm, share = depth_errors(said, truth, 1.0, ratio=0.05)
    assert mad_cm == pytest.approx(100 * 0.1 / 8)
    assert share == 7 / 8  # 0.04 is within 5 % of 0.9 m, 0.06 is not within 5 % of 1 m
    assert depth_errors(said, truth, None, 0.05)[1] is None


def test_distance_is_the_first_points() -> None:
    assert distance(np.array([[3.0, 4.0], [0.0, 0.0]]), np.zeros(2)) == 5.0


def test_words() -> None:
    said, right = "Pick up the red block.", "pick up a blue block"
    assert token_f1(said, right) == pytest.approx(3 / 4)
    assert rouge_l(said, right) == pytest.approx(3 / 4)
    assert rouge_l("block red the up pick", right) == pytest.approx(1 / 4)  # the order counts
    assert token_f1("block red up pick", right) == pytest.approx(3 / 4)  # and here it does not
    assert token_f1("...", "...") == 1.0
    assert token_f1("", "something") == rouge_l("", "something") == 0.0


def test_matched_f1_by_hand() -> None:
    """Two tokens against one: precision is their mean similarity to it, recall the better of the two."""
    said = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    right = np.array([[0.6, 0.8]], np.float32)
    assert matched_f1(said, right) == pytest.approx(2 * 0.7 * 0.8 / 1.5)
    assert matched_f1(said[:0], right) == 0.0


def test_points_in_a_box_and_near_a_spot() -> None:
    truth = Region((10, 20, 100, 120), (500, 250), spot=(100.0, 400.0))
    figures = Judge(spot_radius=50).figures(truth, "[(20, 80), (200, 480), (201, 480)]", (500, 250))
    assert figures["hit_rate"] == pytest.approx(2 / 3)  # both corners are inside, 100.5 px is not
    assert (figures["hits"], figures["points"]) == (2, 3)
    assert figures["distance"] == pytest.approx(np.hypot(80, 320))
    assert figures["success_rate"] == 0.0


def test_points_in_a_mask_that_is_not_black_and_white() -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[5, 10], mask[5, 11], mask[9, 19] = 255, 51, 200
    figures = Judge().figures(Region(mask=lambda: mask), "(500, 500) (550, 500) (1000, 1000) (0, 0)", (20, 10))
    assert (figures["hit_rate"], figures["any_hits"]) == (2 / 4, 3)
    assert figures["soft_hit_rate"] == pytest.approx((255 + 51 + 200) / 255 / 4)


def test_points_in_pixels_and_fractions() -> None:
    truth = Region((10, 20, 100, 120))
    for convention, reply in (("pixel", "[(100, 120)]"), ("norm1", "[(0.2, 0.48)]"), ("norm1000", "[(200, 480)]")):
        figures = Judge(convention).figures(truth, reply, (501, 251) if convention == "pixel" else (500, 250))
        assert figures["hit_rate"] == (0.0 if convention == "pixel" else 1.0), convention
    assert Judge("pixel").figures(truth, "[(99, 119)]", (500, 250))["hit_rate"] == 1.0


def test_paths_of_our_own_protocol_have_exactly_8_points() -> None:
    truth = Path2d(np.array([[0.0, 0.0], [50.0, 0.0]]), (100, 100))
    assert Judge().figures(truth, "[(0, 0), (500, 0)]", SQUARE) == {"rmse": 0.0, "mae": 0.0}
    with pytest.raises(StageError, match="exactly 8"):
        Judge(strict_paths=True).figures(truth, "[(0, 0), (500, 0)]", SQUARE)


def test_other_kinds() -> None:
    judge = Judge()
    depths = Depths(np.zeros(8), 1.0)
    figures = judge.figures(depths, "[0, -80, 0, 0, 0, 0, 0, 0]", SQUARE)
    assert figures["mad_cm"] == pytest.approx(1.0)
    assert figures["depth_accuracy"] == 7 / 8
    assert judge.figures(Steps(2, True), "step 3 of 3, finished: yes", SQUARE) == {
        "step_accuracy": 0.0, "step_mae": 1.0, "status_accuracy": 1.0,
    }  # fmt: skip
    assert judge.figures(Sentence("pick up the red block"), "Pick up the red block.", SQUARE)["token_f1"] == 1.0


def test_unreadable_answers_are_wrong_in_rates_and_left_out_of_errors() -> None:
    judge = Judge()
    for truth, names in (
        (Region((0, 0, 1, 1)), {"hit_rate", "soft_hit_rate"}),
        (Region(spot=(1, 1)), {"success_rate"}),
        (Depths(np.zeros(8), None), set()),
        (Path2d(np.zeros((8, 2))), set()),
        (Steps(1, None), {"step_accuracy"}),
    ):
        assert judge.worst(truth) == dict.fromkeys(names, 0.0)
        with pytest.raises(StageError):
            judge.figures(truth, "I cannot see it.", SQUARE)


@pytest.mark.parametrize(
    ("reply", "index"),
    [
        ("(B)", 1), ("B", 1), ("B.", 1), ("B) the plate", 1), ("**B**", 1), ("The answer is B.", 1), ("Answer: (B)", 1),
        ("<think>Is it (A)?</think> (B)", 1), ("the plate", 1), ("It is the plate.", 1), ("A red plate", None),
        ("A block is on the left", None), ("(A) or (B)", None), ("", None), ("Beside", None), ("the red block and the plate", None),
        ("(D)", 3),
    ],
)  # fmt: skip
def test_which_option_an_answer_means(reply: str, index: int | None) -> None:
    assert chosen(reply, ("the red block", "the plate", "the red plate")) == (2 if reply == "A red plate" else index)


def test_the_longer_option_wins_over_one_that_is_part_of_it() -> None:
    assert chosen("to the left of it", ("left", "to the left"), lettered=False) == 1
    assert chosen("B", ("left", "right"), lettered=False) is None


def test_published_counting_finds_letters_in_words() -> None:
    choice = Choice(0, ("left", "right"))
    figures = Judge().figures(choice, "Answer: (B)", SQUARE)
    assert figures == {"accuracy": 0.0, "answered": 1.0, "loose_accuracy": 1.0}
    assert not loosely_right("(B)", 0, ("left", "right"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights: the real classes, files as transformers saves them."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pick", "up", "the", "red", "blue", "block", "push"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_bert_score_is_worked_out_from_the_encoders_tokens(encoder: Path) -> None:
    """Against the definition, token by token, special tokens left out."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    said, right = "pick up the red block", "push the blue block"
    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()

    def vectors(text: str) -> list[list[float]]:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:-1]
        return [(v / v.norm()).tolist() for v in hidden]

    a, b = vectors(said), vectors(right)
    assert (len(a), len(b)) == (5, 4)
    close = [[sum(x * y for x, y in zip(v, w)) for w in b] for v in a]
    precision = sum(max(row) for row in close) / len(a)
    recall = sum(max(row[j] for row in close) for j in range(len(b))) / len(b)
    score = BertScore(encoder)
    assert score(said, right) == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)
    assert score(said, said) == pytest.approx(1.0, abs=1e-5)
    assert score(said, right) < 1.0


def test_no_encoder_and_no_such_layer(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wanted the folder of an encoder"):
        BertScore(tmp_path)
    with pytest.raises(ConfigError, match="layer from -2 to 2, got 7"):
        BertScore(encoder, 7)
