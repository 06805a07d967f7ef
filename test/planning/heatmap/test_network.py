"""Heatmaps to positions, refusals, and files of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stvla_ros.config import ConfigError
from stvla_ros.errors import OutcomeCode, StageError
from stvla_ros.planning.heatmap.ground import Finder, Found
from stvla_ros.planning.heatmap.network import CELLS, HeatmapNetwork, HeatmapNetworkConfig, elsewhere, positions
from stvla_ros.planning.heatmap.weights_file import Grounder, load, padded, save
from stvla_ros.planning.heatmap.words import Goal, Name, vocabulary
from stvla_ros.types import F64

WORDS = vocabulary()


@pytest.fixture(scope="module")
def grounder() -> Grounder:
    torch.manual_seed(0)
    network = HeatmapNetwork(HeatmapNetworkConfig(len(WORDS) + 1)).eval()
    return Grounder(network.to(memory_format=torch.channels_last), WORDS, {})


@pytest.mark.parametrize("uv", [(500.0, 500.0), (123.4, 876.5), (17.0, 30.0), (985.0, 970.0)])
def test_a_bump_is_found_between_the_cells(uv: tuple[float, float]) -> None:
    cells = torch.tensor(uv) * CELLS / 1000 - 0.5
    line = torch.arange(CELLS)
    v, u = -((line - cells[1]) ** 2) / 1.3, -((line - cells[0]) ** 2) / 1.3
    heat = torch.cat([(v[:, None] + u[None]).flatten(), torch.tensor([-30.0])])
    found, sure = positions(heat)
    assert np.allclose(found, uv, atol=3.0)
    assert sure > 0.9


def test_nothing_there_takes_the_certainty() -> None:
    heat = torch.zeros(CELLS * CELLS + 1)
    heat[1000], heat[-1] = 12.0, 20.0
    assert positions(heat)[1] < 0.01
    heat[-1] = -20.0
    assert positions(heat)[1] > 0.9


def test_images_and_texts_of_a_batch_do_not_mix(grounder: Grounder) -> None:
    torch.manual_seed(1)
    images = torch.rand(2, 3, 256, 256)
    texts = padded([grounder.numbers(t) for t in ("red block", "push the red button, then the blue one", "the plate")])
    network, step = grounder.network, torch.tensor([0, 1, 0])
    with torch.no_grad():
        together = network.heat(network.features(images), network.words(texts, step), torch.tensor([0, 1, 1]))
        for i, image in enumerate((0, 1, 1)):
            alone = padded([[int(n) for n in texts[i] if n]])
            features = network.features(images[image : image + 1])
            single = network.heat(features, network.words(alone, step[i : i + 1]), torch.tensor([0]))
            assert torch.allclose(together[i], single[0], atol=2e-3)


def test_an_unknown_word_is_refused_by_name(grounder: Grounder) -> None:
    with pytest.raises(StageError, match="'zebra'") as error:
        Finder(grounder, 0.0).goal("put the zebra in the plate")
    assert error.value.code is OutcomeCode.GOAL_NOT_GROUNDED


@pytest.mark.parametrize("text", ["", "...", " ".join(["red"] * 41)])
def test_too_few_and_too_many_words_are_refused(grounder: Grounder, text: str) -> None:
    with pytest.raises(StageError) as error:
        Finder(grounder, 0.0).goal(text)
    assert error.value.code is OutcomeCode.GOAL_NOT_GROUNDED


def test_an_untrained_network_is_not_sure_of_anything(grounder: Grounder) -> None:
    with pytest.raises(StageError, match="not clear"):
        Finder(grounder, 0.5).goal("put the red block in the plate")


def test_weights_come_back_in_half_precision(grounder: Grounder, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(path, grounder.network.state_dict(), WORDS, {"scenes": 3})
    assert path.stat().st_size < 3_000_000
    again = load(path)
    assert (again.words, again.trained) == (WORDS, {"scenes": 3})
    image = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        ours, theirs = grounder.network.features(image), again.network.features(image)
    assert torch.allclose(ours, theirs, atol=0.02)


@pytest.mark.parametrize("damage", ["missing", "short", "lacking", "surplus", "infinite", "other"])
def test_damaged_weights_are_refused(grounder: Grounder, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "w.safetensors"
    save(path, grounder.network.state_dict(), WORDS, {})
    weights = load_file(path)
    content = {"format": "stvla-heatmap-1", "words": '["red"]' if damage == "other" else _words(), "trained": "{}"}
    if damage == "missing":
        path.unlink()
    elif damage == "short":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "lacking":
        weights.pop("words.query.weight")
    elif damage == "surplus":
        weights["more"] = torch.zeros(1)
    elif damage == "infinite":
        weights["words.query.weight"][0, 0] = torch.inf
    if damage not in ("missing", "short"):
        save_file(weights, path, content)
    with pytest.raises(ConfigError, match=r"w\.safetensors"):
        load(path)


def _words() -> str:
    import json

    return json.dumps(WORDS)


def test_a_second_maximum_counts_only_away_from_the_first() -> None:
    heat = torch.full((CELLS * CELLS + 1,), -10.0)
    heat[20 * CELLS + 20] = heat[20 * CELLS + 24] = 5.0
    assert elsewhere(heat)[1] < 0.01
    heat[40 * CELLS + 50] = 5.0
    uv, share = elsewhere(heat)
    assert 0.3 < share < 0.34
    assert np.allclose(uv, np.array([50.5, 40.5]) * 1000 / CELLS, atol=0.1)


def test_other_words_for_the_same_ask_the_network_the_same(grounder: Grounder) -> None:
    class Counting(Finder):
        asked: list[str] = []  # noqa: RUF012

        def meaning(self, text: str) -> Goal:
            self.asked.append(text)
            return Goal("point", (Name("button", "red"),))

    finder = Counting(grounder, 0.5)
    wanted = Goal("push", (Name("button", "red"),))
    assert [finder.goal(text) for text in ("Push the red button.", "could you press the red switch?")] == [wanted] * 2
    assert finder.asked == ["point to the red button"]
    with pytest.raises(StageError, match="do not understand 'point to the blue button'"):
        finder.goal("push the red button, then the blue one")


RED, ROSE, BLOCK = Name("jar", "red"), Name("jar", "rose"), Name("block", "red")


class Given(Finder):
    """A finder with given shares of the heatmaps, of :data:`RED`, :data:`ROSE` and :data:`BLOCK` at some places."""

    def __init__(self, grounder: Grounder, min_confidence: float, *sure: tuple[float, ...]) -> None:
        super().__init__(grounder, min_confidence)
        self.sure = sure

    def _confidence(self, seen: torch.Tensor, places_uv: F64) -> tuple[list[Name], F64]:
        return [RED, ROSE, BLOCK], np.array(self.sure)[:, : len(places_uv)]

    def find(self, seen: torch.Tensor, text: str, step: int = 0) -> Found:
        return Found(np.zeros((2, 2)), np.full(2, 0.6), 1.0, np.ones((2, 2)), np.full(2, 0.3))


def chosen(grounder: Grounder, *sure: tuple[float, ...], least: float = 0.5) -> int:
    return Given(grounder, least, *sure).choose(torch.zeros(1), RED, np.zeros((len(sure[0]), 2)))


def test_of_things_whose_shapes_are_known_the_best_named_one_is_chosen(grounder: Grounder) -> None:
    assert chosen(grounder, (0.1, 0.5), (0.0, 0.1), (0.0, 0.0)) == 1
    assert chosen(grounder, (0.05, 0.25), (0.0, 0.1), (0.0, 0.0)) == 1, "its shape makes less confidence enough"
    assert chosen(grounder, (0.1, 0.5), (0.0, 0.1), (0.0, 0.9)) == 1, "what has the shape of a jar is no block"
    with pytest.raises(StageError, match="looks like a rose jar"):
        chosen(grounder, (0.1, 0.5), (0.0, 0.7), (0.0, 0.0))
    with pytest.raises(StageError, match="two objects that could be the red jar"):
        chosen(grounder, (0.2, 0.4), (0.0, 0.1), (0.0, 0.0))
    with pytest.raises(StageError, match=r"confidence 0\.15, wanted 0\.20"):
        chosen(grounder, (0.01, 0.15), (0.0, 0.1), (0.0, 0.0))
    assert chosen(grounder, (0.1, 0.12), (0.0, 0.9), (0.0, 0.0), least=0.0) == 1, "it refuses nothing"


def test_a_second_object_counts_unless_another_name_suits_it_better(grounder: Grounder) -> None:
    with pytest.raises(StageError, match="two objects that could be the red jar"):
        Given(grounder, 0.5, (0.3,), (0.3,), (0.0,)).locate(torch.zeros(1), RED)

    class RoseBeside(Given):
        def _confidence(self, seen: torch.Tensor, places_uv: F64) -> tuple[list[Name], F64]:
            names, sure = super()._confidence(seen, places_uv)
            return names, sure if places_uv[0, 0] else np.array([[0.6], [0.1], [0.0]])

    assert (RoseBeside(grounder, 0.5, (0.3,), (0.8,), (0.0,)).locate(torch.zeros(1), RED) == 0).all()
