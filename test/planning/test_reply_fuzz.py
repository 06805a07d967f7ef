"""More than 100,000 malformed replies: no crash, and nothing but what the text says in the right number and range.

And drafts before no answer, which are all refused, and good lists in any dress, which are all read.
"""

import os
import random
import re
import time
from itertools import islice

import numpy as np
import pytest
from planning.replies import FORMS, broken, discarded, discarded_text, dressed, mutated, noise, plain, some_points

from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.parse import MAX_BYTES, StepProgress, parse_action, parse_offsets, parse_points, parse_progress

EACH = 21_000
DRAFTS = int(os.environ.get("STVLA_FUZZ_DRAFTS", 6_000))  # 100,000 before a release
DRESSED = int(os.environ.get("STVLA_FUZZ_DRESSED", 2_000))
SEED = 20261125


def parsed(read, text: str):  # type: ignore[no-untyped-def]
    """The value, or None for the one error that may come."""
    failure = None
    try:
        return read(text)
    except StageError as error:
        failure = error
    assert failure.code is OutcomeCode.REPLY_UNPARSABLE
    assert len(failure.sentence) < 6000
    assert failure.sentence.isprintable()
    return None


def stands_in(values: np.ndarray, text: str) -> bool:
    """All values appear in the text as plain ASCII numbers, in order."""
    written = (float(n) for n in re.findall(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", text))
    return all(any(abs(n - v) < 1e-9 * max(1, abs(v)) for n in written) for v in values.ravel())


def is_path(uv: np.ndarray, text: str) -> bool:
    inside = uv.shape == (8, 2) and bool(np.isfinite(uv).all() and (uv >= 0).all() and (uv <= 1000).all())
    return inside and stands_in(uv, text)


def test_lists_that_are_certainly_wrong_are_refused() -> None:
    rng = random.Random(SEED)
    forms = list(FORMS)
    for _ in range(EACH):
        form = rng.choice(forms)
        text = broken(rng, form)
        assert parsed(parse_points, text) is None, f"{form}: {text!r}"


def test_mutations_of_points_are_refused_or_mean_what_they_say() -> None:
    rng = random.Random(SEED + 1)
    forms, taken = list(FORMS.values()), 0
    for _ in range(EACH):
        text = mutated(rng, rng.choice(forms)(some_points(rng)))
        uv = parsed(parse_points, text)
        assert uv is None or is_path(uv, text), repr(text)
        taken += uv is not None
    assert 0.01 * EACH < taken < 0.6 * EACH  # both sides were tried


def test_drafts_before_no_answer_are_refused() -> None:
    rng = random.Random(SEED + 6)
    for _ in range(DRAFTS):
        text = discarded(rng)
        assert parsed(parse_points, text) is None, repr(text)


def test_drafts_of_other_answers_are_refused() -> None:
    rng = random.Random(SEED + 8)
    for _ in range(DRAFTS // 6):
        offsets = str([rng.randint(-1500, 1500) for _ in range(8)])
        for read, draft in (
            (parse_offsets, rng.choice((offsets, f'{{"offsets_mm": {offsets}}}'))),
            (parse_action, rng.choice(("push the red button", "put the cup on the plate"))),
            (parse_progress, rng.choice(("step 3 of 3, finished: yes", '{"step": 2, "total": 2, "finished": true}'))),
        ):
            text = discarded_text(rng, draft)
            assert parsed(read, text) is None, repr(text)


def test_good_lists_are_read_in_any_dress() -> None:
    rng = random.Random(SEED + 7)
    for _ in range(DRESSED):
        points, text = dressed(rng)
        uv = parsed(parse_points, text)
        assert uv is not None, repr(text)
        assert np.allclose(uv, points, rtol=1e-5), repr(text)


def test_noise_is_refused_or_means_what_it_says() -> None:
    rng = random.Random(SEED + 2)
    for _ in range(EACH):
        text = noise(rng)
        uv, offsets = parsed(parse_points, text), parsed(parse_offsets, text)
        assert uv is None or is_path(uv, text), repr(text)
        assert offsets is None or stands_in(offsets * 1000, text), repr(text)
        parsed(parse_action, text)
        parsed(parse_progress, text)


def test_mutations_of_offsets() -> None:
    rng = random.Random(SEED + 3)
    for _ in range(EACH):
        numbers = [rng.randint(-1500, 1500) for _ in range(8)]
        text = mutated(rng, rng.choice([str(numbers), f'{{"offsets_mm": {numbers}}}', f"<ans>{numbers}</ans>"]))
        offsets = parsed(parse_offsets, text)
        if offsets is not None:
            assert offsets.shape == (8,)
            assert np.abs(offsets).max() <= 1.5
            assert stands_in(offsets * 1000, text), repr(text)


def test_mutations_of_progress_and_action() -> None:
    rng = random.Random(SEED + 4)
    valid = (
        "step 2 of 3, finished: no",
        '{"step": 2, "total": 3, "finished": false}',
        "push the red button",
        '{"action": "go on"}',
    )
    for _ in range(EACH):
        text = mutated(rng, rng.choice(valid))
        progress, action = parsed(parse_progress, text), parsed(parse_action, text)
        if progress is not None:
            assert isinstance(progress, StepProgress)
            assert 1 <= progress.step <= (progress.total or 50) <= 50
            assert not (progress.finished and progress.total and progress.step < progress.total)
        if action is not None:
            assert 4 <= len(action) <= 200
            assert action.isprintable()
            assert action in re.sub("</?point>", " ", text)


def test_all_offsets_that_are_certainly_wrong_are_refused() -> None:
    rng = random.Random(SEED + 5)
    for wrong in islice(
        iter(lambda: rng.choice(["NaN", "1501", "-1501", "1e9", "5 m", "٣", "", "1, 2", "-inf", "[1]"]), None), 1500
    ):
        numbers = [str(rng.randint(-1500, 1500)) for _ in range(8)]
        numbers[rng.randrange(7)] = wrong
        assert parsed(parse_offsets, f"[{', '.join(numbers)}]") is None, numbers


@pytest.mark.parametrize(
    "text",
    [
        *(c * MAX_BYTES for c in ("[", "(", "1", "[1", "(1,", "<think>"[:1], "`", '"', '{"a":')),
        "(1, 2)" * (MAX_BYTES // 6),
        '[1, 2]"' * (MAX_BYTES // 7),
        "<answer>" * (MAX_BYTES // 8),
        "```" * (MAX_BYTES // 3),
        "<think>" * (MAX_BYTES // 7),
        "step " * (MAX_BYTES // 5),
        "[1, 2] " + '"' * 200 + "[1, 2]" * 9000,
        '{"action": "' + "\\" * 60000,
        "é" * MAX_BYTES,
        plain([(1, 2)] * 8) + " " * MAX_BYTES,
    ],
    ids=lambda text: f"{text[:12]!r}-{len(text)}",
)
def test_large_replies_take_no_time(text: str) -> None:
    text = text[: max(MAX_BYTES, len(text))]
    start = time.process_time()
    for read in (parse_points, parse_offsets, parse_action, parse_progress):
        assert parsed(read, text) is None
    assert time.process_time() - start < 2.0
