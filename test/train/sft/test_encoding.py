"""What is learned are the answers, and conversations in one sequence do not see each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_qwen3_vl import TEMPLATE, save_tiny

from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.samples import Sample, SampleError, conversation, write_image
from stvla_ros.devices import Placement
from stvla_ros.planning.qwen3_vl.checkpoint import Checkpoint, load
from stvla_ros.planning.qwen3_vl.tokenization import Composer
from stvla_ros.train.sft.batches import PackedSamples, collate, pack, token_counts
from stvla_ros.train.sft.encode import IGNORED, Encoder
from stvla_ros.train.sft.run import token_loss


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = save_tiny(tmp_path_factory.mktemp("tiny") / "model")
    return load(str(folder), Placement(torch.device("cpu"), torch.float32), "test")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Two turns with an image each of its own size, one turn with an image, one turn without."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    sizes = ((64, 96), (96, 64), (64, 64))
    names = [
        write_image(root, str(k), rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for k, size in enumerate(sizes)
    ]
    return [
        Sample("two", "general", conversation("<image>Where?", "(1, 2)", "And<image> now?", "(3, 4)"), (names[0], names[1]), root=root),
        Sample("one", "general", conversation("<image>What?", "red"), (names[2],), root=root),
        Sample("none", "general", conversation("Say yes.", "yes"), (), root=root),
    ]  # fmt: skip


def test_the_answers_and_their_ends_are_learned(tiny: Checkpoint, samples: list[Sample]) -> None:
    example = Encoder(tiny)(samples[0])
    learned = example.ids[example.labels != IGNORED]
    assert tiny.processor.tokenizer.decode(learned.tolist()) == "(1, 2)<|im_end|>(3, 4)<|im_end|>"
    assert torch.equal(example.labels[example.labels != IGNORED], learned)
    assert int(example.labels[-1]) in tiny.stops
    assert Encoder(tiny).count(samples[0]) == len(example)


def test_the_question_is_what_a_served_model_sees(tiny: Checkpoint, samples: list[Sample]) -> None:
    for sample in samples[1:]:
        example = Encoder(tiny)(sample)
        begin = int((example.labels != IGNORED).nonzero()[0])
        assert tuple(example.ids[:begin].tolist()) == Composer(tiny.processor).compose(sample.question()).ids


def test_packed_scores_are_those_of_each_conversation_alone(tiny: Checkpoint, samples: list[Sample]) -> None:
    """Against the model's own forward pass, which makes positions and mask itself."""
    examples = [Encoder(tiny)(sample) for sample in samples]
    batch = collate([[examples[0], examples[2], examples[1]], [examples[1]]], padding_id=0)
    with torch.no_grad():
        packed = tiny.model(
            input_ids=batch.ids, position_ids=batch.positions, pixel_values=batch.pixels, image_grid_thw=batch.grids,
            use_cache=False,
        ).logits  # fmt: skip
        begin = 0
        for example in (examples[0], examples[2], examples[1]):
            alone = {"input_ids": example.ids[None]}
            if example.pixels is not None:
                kinds = (example.ids == tiny.model.config.image_token_id).int()
                alone |= {
                    "pixel_values": example.pixels,
                    "image_grid_thw": example.grids,
                    "mm_token_type_ids": kinds[None],
                }
            wanted = tiny.model(**alone, use_cache=False).logits[0]
            torch.testing.assert_close(packed[0, begin : begin + len(example)], wanted, atol=1e-5, rtol=1e-4)
            begin += len(example)
        torch.testing.assert_close(packed[1, : len(examples[1])], wanted, atol=1e-5, rtol=1e-4)


def test_the_loss_is_the_sum_over_answered_tokens(tiny: Checkpoint, samples: list[Sample]) -> None:
    encoder = Encoder(tiny)
    examples = [encoder(sample) for sample in samples]
    with torch.no_grad():
        parts = [float(token_loss(tiny.model, collate([[e]], 0))) for e in examples]
        batch = collate([examples[:2], examples[2:]], 0)
        assert float(token_loss(tiny.model, batch)) == pytest.approx(sum(parts), rel=1e-5)
        scores = tiny.model(input_ids=examples[2].ids[None], use_cache=False).logits[0].log_softmax(-1)
    learned = (examples[2].labels != IGNORED).nonzero()[:, 0]
    by_hand = -sum(float(scores[i - 1, examples[2].ids[i]]) for i in learned)
    assert parts[2] == pytest.approx(by_hand, rel=1e-5)
    assert batch.learned == sum(int((e.labels != IGNORED).sum()) for e in examples)


def test_packing_loses_nothing_and_fills_well() -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(50, 1000, 500).tolist()
    order = rng.permutation(500).tolist()
    packs = pack(lengths, order, 4096)
    assert sorted(i for p in packs for i in p) == list(range(500))
    filled = [sum(lengths[i] for i in p) for p in packs]
    assert max(filled) <= 4096
    assert len(packs) <= 1.03 * sum(lengths) / 4096 + 1
    assert pack([5], [0], 5) == [[0]]
    assert pack([], [], 5) == []


def test_every_process_gets_its_own_passes_and_all_samples_are_there(tiny: Checkpoint, samples: list[Sample]) -> None:
    many = [Sample(f"{s.id}-{k}", s.task, s.messages, s.images, root=s.root) for k in range(4) for s in samples]
    encoder = Encoder(tiny)
    counts = np.array([encoder.count(s) for s in many], np.int32)
    parts = [
        PackedSamples(many, encoder, counts, 256, 2, 0, rank, 2, epochs=2, seed=3, accumulate=2) for rank in (0, 1)
    ]
    assert len(parts[0]) == len(parts[1])
    assert len(parts[0]) % (2 * 2) == 0  # whole steps in both epochs
    seen = [sorted({i for part in parts for passed in part._passes[half] for p in passed for i in p})
            for half in (slice(0, len(parts[0]) // 2), slice(len(parts[0]) // 2, None))]  # fmt: skip
    assert seen == [list(range(len(many)))] * 2
    assert parts[0]._passes[: len(parts[0]) // 2] != parts[0]._passes[len(parts[0]) // 2 :]  # packed anew
    assert parts[0][0].ids.shape[0] == 2


def test_long_samples_are_left_out_and_none_is_an_error(tiny: Checkpoint, samples: list[Sample]) -> None:
    encoder = Encoder(tiny)
    counts = np.array([encoder.count(s) for s in samples], np.int32)
    assert PackedSamples(samples, encoder, counts, int(counts.max()) - 1, 1, 0).left_out == 1
    with pytest.raises(ConfigError, match="wanted samples of at most 3 tokens"):
        PackedSamples(samples, encoder, counts, 3, 1, 0)


def test_counts_are_kept_and_made_anew_for_another_model(
    tiny: Checkpoint, samples: list[Sample], tmp_path: Path
) -> None:
    heard: list[int] = []
    encoder, cache = Encoder(tiny), tmp_path / "tokens.npz"
    counts = token_counts(samples, encoder, cache, "model", heard.append)
    assert heard == [1, 1, 1]
    np.testing.assert_array_equal(token_counts(samples, encoder, cache, "model", heard.append), counts)
    assert heard[3:] == [3]
    token_counts(samples, encoder, cache, "another", heard.append)
    assert heard[4:] == [1, 1, 1]


def test_a_template_that_hides_earlier_answers_is_refused(
    tiny: Checkpoint, samples: list[Sample], tmp_path: Path
) -> None:
    folder = save_tiny(tmp_path / "thinking")
    thinking = TEMPLATE.replace("<|im_start|>assistant\n{%", "<|im_start|>assistant\n<think>\n{%")
    (folder / "chat_template.jinja").write_text(thinking)
    found = load(str(folder), Placement(torch.device("cpu"), torch.float32), "test")
    with pytest.raises(SampleError, match="take an Instruct model"):
        Encoder(found)(samples[1])
