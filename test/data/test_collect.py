"""Collections: enough successes, taken up again, never mixed; and the real command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stvla_ros.cli import main
from stvla_ros.commands.exit_codes import NOT_CONFIRMED, USAGE
from stvla_ros.config import ConfigError
from stvla_ros.data.collect import TRIES, Collection
from stvla_ros.data.episode import find_episodes
from stvla_ros.data.splits import UNSEEN, first_seeds
from stvla_ros.evaluate.episode import EpisodeRecord
from stvla_ros.evaluate.episode import EpisodeSpec as Scene

Judge = Callable[[int], bool]


class Ran(list[Scene]):
    """Stands for the workers: an engine whose setup says which seeds succeed; the scenes that it ran."""

    def engine(self, setup: Any, episodes: Iterable[Scene], jobs: int) -> Iterator[EpisodeRecord]:
        folder, judge = setup
        for scene in episodes:
            self.append(scene)
            good = judge(scene.seed)
            if good:
                (folder / Path(scene.file_name).stem).mkdir()
            words = f"Put the {'red' if scene.seed % 2 else 'blue'} block in the plate."
            yield EpisodeRecord(scene.task, scene.seed, words, "OK", "Done.", good, "-", keyposes=6)


@pytest.fixture
def ran() -> Ran:
    return Ran()


def collection(
    folder: Path, episodes: int = 5, tasks: tuple[str, ...] = ("pick_place",), **settings: Any
) -> Collection:
    return Collection(folder, tasks, episodes, "train", 0, {"noise": False, **settings})


def run(wanted: Collection, judge: Judge, ran: Ran) -> dict[str, Any]:
    wanted.prepare()
    return wanted.run((wanted.episodes_folder, judge), 1, lambda record: None, ran.engine)  # type: ignore[arg-type]


def test_rejected_scenes_are_replaced_by_the_next(tmp_path: Path, ran: Ran) -> None:
    seeds = first_seeds("pick_place", "train", 12)
    bad = {seeds[1], seeds[3], seeds[5]}
    content = run(collection(tmp_path), lambda seed: seed not in bad, ran)
    assert [s.seed for s in ran] == list(seeds[:8])
    found = content["tasks"]["pick_place"]
    assert found["seeds"] == [s for s in seeds[:8] if s not in bad]
    assert (found["episodes"], found["steps"]) == (5, 30)
    assert [r["seed"] for r in found["rejected"]] == sorted(bad)
    assert sum(found["colours"].values()) == 5
    assert json.loads((tmp_path / "dataset.json").read_text()) == json.loads(json.dumps(content))


def test_a_collection_is_taken_up_again(tmp_path: Path, ran: Ran) -> None:
    seeds = first_seeds("pick_place", "train", 12)
    judge = lambda seed: seed != seeds[2]  # noqa: E731
    run(collection(tmp_path, 3), judge, ran)
    first = list(ran)
    run(collection(tmp_path, 3), judge, ran)
    assert ran == first
    content = run(collection(tmp_path, 6), judge, ran)
    assert [s.seed for s in ran] == list(seeds[:7])
    assert content["tasks"]["pick_place"]["episodes"] == 6
    (tmp_path / "episodes" / f"pick_place-{seeds[0]}").rmdir()
    run(collection(tmp_path, 6), judge, ran)
    assert ran[-1].seed == seeds[0]
    assert len(ran) == 8


def test_the_summary_tells_of_all_that_is_in_the_folder(tmp_path: Path, ran: Ran) -> None:
    run(collection(tmp_path, 3), lambda seed: True, ran)
    run(collection(tmp_path, 2, ("stack_cube",)), lambda seed: True, ran)
    content = run(collection(tmp_path, 1), lambda seed: True, ran)
    assert {task: found["episodes"] for task, found in content["tasks"].items()} == {"pick_place": 3, "stack_cube": 2}


def test_it_ends_when_nothing_succeeds(tmp_path: Path, ran: Ran) -> None:
    content = run(collection(tmp_path, 2, ("pick_place", "stack_cube")), lambda seed: False, ran)
    assert content["tasks"]["stack_cube"]["episodes"] == 0
    assert len(ran) == 2 * 2 * TRIES
    assert len(set(ran)) == len(ran)


def test_a_folder_never_mixes_settings(tmp_path: Path, ran: Ran) -> None:
    collection(tmp_path).prepare()
    with pytest.raises(ConfigError, match=r"other settings \(noise\)"):
        collection(tmp_path, noise=True).prepare()
    with pytest.raises(ConfigError, match=r"other settings \(split\)"):
        replace(collection(tmp_path), split="val").prepare()
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        collection(tmp_path).prepare()


def test_a_damaged_record_is_named(tmp_path: Path, ran: Ran) -> None:
    run(collection(tmp_path, 1), lambda seed: True, ran)
    next((tmp_path / "records").iterdir()).write_text("{}")
    with pytest.raises(ConfigError, match="not the record of an episode"):
        collection(tmp_path, 1).prepare()


def test_the_command_collects_in_the_real_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = tmp_path / "episodes" / "pick_place-000003.part"
    command = ["collect", "--tasks", "pick_place", "--split", "unseen", "--episodes", "2", "--jobs", "1"]
    command += ["--output", str(tmp_path)]
    assert main(command) == 0
    assert "pick_place" in capsys.readouterr().out
    episodes = find_episodes(tmp_path)
    seeds = first_seeds("pick_place", "unseen", 2)
    assert tuple(e.seed for e in episodes) == seeds
    for episode in episodes:
        assert any(colour in episode.instruction for colour in UNSEEN)
        assert episode.outcome.judged is True
        assert len(episode) == len(list(episode.guided_frames())) >= 4
    assert not left.exists()
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npz")}
    assert main(command) == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npz")} == before
    assert main([*command, "--noise"]) == USAGE
    assert "other settings (cell)" in capsys.readouterr().err


def test_unsuccessful_episodes_leave_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A step limit of one keypose: every episode is rejected, with its reason."""
    params = tmp_path / "short.yaml"
    params.write_text("task: {ros__parameters: {max_keyposes: 1}}")
    command = ["collect", "--tasks", "pick_place", "--episodes", "1", "--jobs", "1", "--params", str(params)]
    assert main([*command, "--output", str(tmp_path / "out")]) == NOT_CONFIRMED
    assert "STEP_LIMIT" in capsys.readouterr().out
    assert list((tmp_path / "out" / "episodes").iterdir()) == []
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert [r["outcome"] for r in content["tasks"]["pick_place"]["rejected"]] == ["STEP_LIMIT"] * TRIES


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "required: --output"),
        (["--split", "tarin"], "Did you mean 'train'?"),
        (["--episodes", "0"], "1 to 100000"),
        (["--tasks", "pick_plase"], "Did you mean 'pick_place'?"),
    ],
)
def test_bad_command_lines(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = ["--output", str(tmp_path / "out")] if arguments else []
    assert main(["collect", *arguments, *output]) == USAGE
    assert sentence in capsys.readouterr().err
