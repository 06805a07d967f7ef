"""Splits never meet, and what they hold is by the words alone."""

from __future__ import annotations

from itertools import combinations, islice

import pytest

from stvla_ros.colours import COLOURS
from stvla_ros.config import ConfigError
from stvla_ros.data.splits import SEEN, SPLITS, UNSEEN, first_seeds, held_out, is_unseen, named, seeds_of
from stvla_ros.sim.tasks import TASKS, make_task


def test_fifteen_colours_are_seen_and_five_are_not() -> None:
    assert (len(SEEN), len(UNSEEN)) == (15, 5)
    assert {*SEEN, *UNSEEN} == set(COLOURS)


def test_no_scene_is_in_two_splits() -> None:
    for a, b in combinations(SPLITS.values(), 2):
        apart = a.seeds.stop <= b.seeds.start or b.seeds.stop <= a.seeds.start
        assert apart or a.unseen != b.unseen or a.paper != b.paper
    train = SPLITS["train"].seeds
    assert all(s.seeds.stop <= train.start for name, s in SPLITS.items() if not name.endswith("train"))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_the_words_decide(task: str, split: str) -> None:
    if SPLITS[split].paper and not TASKS[task].paper_held_out:
        with pytest.raises(ConfigError, match="the paper names no unseen ones"):
            first_seeds(task, split, 1)
        return
    seeds = first_seeds(task, split, 15)
    assert list(seeds) == sorted(set(seeds))
    assert all(seed in SPLITS[split].seeds for seed in seeds)
    for seed in seeds:
        names = named(make_task(task, seed).instruction, TASKS[task].names)
        assert names
        assert any(name in held_out(task, split) for name in names) == SPLITS[split].unseen


def test_seen_and_unseen_are_all_of_the_test_seeds() -> None:
    both = {*islice(seeds_of("stack_cube", "seen"), 40), *islice(seeds_of("stack_cube", "unseen"), 40)}
    assert {*range(40)} <= both


def test_later_seeds_of_a_split() -> None:
    assert first_seeds("pick_place", "train", 5, 10)[0] >= 200_010
    assert set(first_seeds("pick_place", "train", 5, 3)) <= set(first_seeds("pick_place", "train", 20))


@pytest.mark.parametrize(
    ("words", "colours"),
    [
        ("Put the red block in the plate.", ("red",)),
        ("Push the Navy button, then push the lime button.", ("navy", "lime")),
        ("Bored, infrared and reddish.", ()),
        ("", ()),
    ],
)
def test_named_colours(words: str, colours: tuple[str, ...]) -> None:
    assert named(words) == colours
    assert is_unseen(words) == ("navy" in colours)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"split: 'sene' is not known. Did you mean 'seen'\?"):
        seeds_of("pick_place", "sene")
    with pytest.raises(ConfigError, match="wanted 5 scenes, found"):
        first_seeds("pick_place", "val", 5, 99_998)


def test_a_longer_name_is_not_also_the_shorter_one_in_it() -> None:
    items = ("jello", "chocolate jello", "soup")
    assert named("Put the chocolate jello in the cupboard, then the soup.", items) == ("chocolate jello", "soup")
    assert not is_unseen("Put the chocolate jello in the cupboard.", items, ("jello",))


def test_single_presses_alone() -> None:
    seeds = list(islice(seeds_of("push_buttons", "train", count_named=1), 20))
    assert {len(named(make_task("push_buttons", seed).instruction)) for seed in seeds} == {1}
    assert set(seeds) < set(islice(seeds_of("push_buttons", "train"), 200))
