"""The self-test finds out each way in which a server may bend coordinates, over real HTTP and as it is typed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planning.openai.http_server import Behaviour, Exchange, Server, completion

from stvla_ros.cli import main
from stvla_ros.commands import exit_codes
from stvla_ros.errors import OutcomeCode
from stvla_ros.evaluate.diagnosis import Diagnosis, diagnose
from stvla_ros.evaluate.grounding import DISTRACTORS, SEED, Target, _targets
from stvla_ros.sim.cell import Cell
from stvla_ros.types import F64

SIZE_PX = (640, 480)
UV = np.array([[485, 827], [609, 688], [404, 705], [646, 883], [725, 781], [290, 778], [359, 875]], dtype=np.float64)
NOISE = np.random.default_rng(0).normal(0.0, 4.0, UV.shape)

Bend = Callable[[F64], F64]

BENDS: dict[str, Bend] = {
    "pixel": lambda uv: uv / 1000 * SIZE_PX,
    "norm1": lambda uv: uv / 1000,
    "percent": lambda uv: uv / 10,
    "swapped": lambda uv: uv[..., ::-1],
    "mirrored": lambda uv: np.array([1000.0, 0.0]) + np.array([-1.0, 1.0]) * uv,
    "offset": lambda uv: uv + np.array([60.0, -40.0]),
    "scale": lambda uv: uv * [0.85, 1.1] + np.array([0.0, 20.0]),
}


def judged(numbers: F64, convention: str = "norm1000", hits: int = 0) -> Diagnosis:
    return diagnose(UV, numbers, [True] * hits + [False] * (len(UV) - hits), convention, SIZE_PX)


@pytest.mark.parametrize("pattern", BENDS)
def test_each_pattern_is_named(pattern: str) -> None:
    found = judged(BENDS[pattern](UV + NOISE))
    assert (found.good, found.pattern) == (False, pattern), found


def test_the_setting_to_change_is_said() -> None:
    assert "set 'coordinates' of the planner to pixel" in judged(BENDS["pixel"](UV)).sentence
    assert "to norm1000" in judged(UV, "pixel").sentence
    assert judged(UV, "pixel").pattern == "norm1000"


def test_offset_and_scale_are_measured() -> None:
    assert "(+60, -40)/1000" in judged(BENDS["offset"](UV)).sentence
    assert "times (0.850, 1.100) plus (+0, +20)/1000" in judged(BENDS["scale"](UV)).sentence


def test_right_answers_are_right_and_one_miss_is_forgiven() -> None:
    assert judged(UV + NOISE, hits=7).pattern == "right"
    one_wrong = UV.copy()
    one_wrong[3] = [0, 0]
    found = judged(one_wrong, hits=6)
    assert found.good
    assert found.median_off < 1


@pytest.mark.parametrize("seed", range(20))
def test_guesses_have_no_pattern(seed: int) -> None:
    guesses = np.random.default_rng(seed).uniform(0, 1000, UV.shape)
    assert judged(guesses).pattern == "scatter"


def test_always_the_same_answer_is_no_grounding() -> None:
    assert judged(np.full_like(UV, 500.0)).pattern in ("scatter", "scale")
    assert not judged(np.full_like(UV, 500.0)).good


def test_few_or_no_answers() -> None:
    assert diagnose(UV[:0], UV[:0], [False] * 7, "norm1000", SIZE_PX).pattern == "silent"
    assert diagnose(UV[:2], BENDS["pixel"](UV[:2]), [False] * 7, "norm1000", SIZE_PX).pattern == "scatter"


@pytest.fixture(scope="module")
def targets() -> Iterator[tuple[Target, ...]]:
    cell = Cell()
    cell.reset("pick_place", SEED, DISTRACTORS)
    yield _targets(cell)
    cell.close()


def test_scene_has_enough_to_see(targets: tuple[Target, ...]) -> None:
    assert len(targets) == DISTRACTORS + 2
    assert np.ptp([t.uv for t in targets], axis=0).min() > 150


def behaves(targets: tuple[Target, ...], bend: Bend) -> Behaviour:
    """A model that knows where everything is, behind a server that bends its coordinates."""
    where = {t.name: t.uv for t in targets}

    def answer(exchange: Exchange) -> None:
        content = exchange.json["messages"][-1]["content"]
        words = content if isinstance(content, str) else content[-1]["text"]
        exchange.send(completion(_reply(words)))

    def _reply(words: str) -> str:
        if words.startswith("Point to the "):
            return "({:.3f}, {:.3f})".format(*bend(where[words[13:].split(".")[0]]))
        if "finished?" in words:
            return "step 1 of 1, finished: no"
        if "next action" in words:
            return "pick up the block and put it in the plate"
        if "depth offsets" in words:
            return "[0, -20, -60, -90, -90, -60, -20, 0]"
        asked = targets[0].name  # the block that the instruction names comes first
        line = np.linspace(bend(where[asked]), bend(where["plate"]), 8)
        return str([tuple(p) for p in line.round(3).tolist()])

    return answer


def doctor(server: Server, picture: Path, *more: str) -> int:
    settings = {"base_url": server.url, "model": "bent"}
    sets = [word for name, value in settings.items() for word in ("--set", f"planner.openai.{name}={value}")]
    return main(["doctor", "planner", "--planner", "openai", *sets, "--output", str(picture), *more])


def test_a_good_server_passes(targets: tuple[Target, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Server([behaves(targets, lambda uv: uv)]) as server:
        assert doctor(server, tmp_path / "seen.png") == 0
    text = capsys.readouterr().out
    assert "7 of 7 objects were hit" in text
    assert "ends over the plate" in text
    seen = np.asarray(Image.open(tmp_path / "seen.png"))
    assert seen.shape[1] == 640
    for colour in ((60, 220, 90), (235, 60, 50)):
        assert (np.abs(seen.astype(int) - colour).max(axis=-1) < 40).sum() > 50


def test_a_server_that_answers_in_pixels_is_found_out_and_the_setting_mends_it(
    targets: tuple[Target, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server([behaves(targets, BENDS["pixel"])]) as server:
        assert doctor(server, tmp_path / "seen.png") == exit_codes.NOT_CONFIRMED
        assert "set 'coordinates' of the planner to pixel" in capsys.readouterr().out
        assert doctor(server, tmp_path / "seen.png", "--set", "planner.openai.coordinates=pixel") == 0


def test_no_server_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Server([lambda exchange: exchange.send("{}", "500 Oh no")]) as server:
        code = doctor(server, tmp_path / "seen.png")
    assert code == exit_codes.of_outcome(OutcomeCode.SERVER_ERROR)
    assert "status 500" in capsys.readouterr().out


def test_a_model_without_words_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Server([lambda exchange: exchange.send(completion("I see many things."))]) as server:
        assert doctor(server, tmp_path / "seen.png") == exit_codes.NOT_CONFIRMED
    text = capsys.readouterr().out
    assert "None of 7 questions got a usable answer" in text
    assert "no path: REPLY_UNPARSABLE" in text


@pytest.mark.parametrize("planner", ["colour", "oracle"])
def test_planners_without_a_model_are_judged_by_their_paths(
    planner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "planner", "--planner", planner, "--output", str(tmp_path / "seen.png")]) == 0
    assert "7 of 7 objects" in capsys.readouterr().out


def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "planer"]) == exit_codes.USAGE
    assert "Did you mean 'planner'?" in capsys.readouterr().err
