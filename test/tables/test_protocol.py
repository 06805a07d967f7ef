"""Protocols are read strictly, and their scenes are those that they were written for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from stvla_ros.config import ConfigError
from stvla_ros.data.splits import SPLITS, UNSEEN, named
from stvla_ros.sim.tasks import make_task
from stvla_ros.tables import PROTOCOLS
from stvla_ros.tables.protocol import Row, read_protocol
from stvla_ros.tables.scenes import scenes_of

FOLDER = Path(__file__).resolve().parents[2] / "src/stvla_ros/tables/protocols"


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> str:
    """The name of a file: table 2's protocol with a change."""
    content = yaml.safe_load((FOLDER / "table2.yaml").read_text())
    change(content)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_every_protocol_of_the_package_has_a_name() -> None:
    assert sorted(PROTOCOLS) == sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_rows_are_all_that_the_issue_of_the_paper_asks_for(name: str) -> None:
    protocol = read_protocol(name)
    assert (protocol.name, protocol.scenes, protocol.noise) == (name, 100, name == "realworld")
    planners = {"oracle", "colour", "heatmap", "heatmap_held_out", "nano"}
    trained = {
        (p, a, n, s) for p in ("3dda", "3dfa") for a in ("baseline", "frozen", "ft") for n in planners for s in range(3)
    }
    expected = {Row(*row) for row in trained} | {Row("scripted", "reference", n) for n in planners}
    assert set(protocol.all_rows()) == expected
    assert len(protocol.all_rows()) == 95


def test_the_columns_of_the_tables() -> None:
    tasks = ("close_jar", "light_bulb_in", "put_groceries")
    table2 = [(c.group, c.task, c.split) for c in read_protocol("table2").columns]
    assert table2 == [(split, task, split) for split in ("seen", "unseen") for task in tasks]
    table3 = [(c.group, c.task, c.named) for c in read_protocol("table3").columns]
    assert table3 == [(split, "push_buttons", n) for split in ("seen", "unseen") for n in (1, 2, 3)]
    realworld = read_protocol("realworld")
    assert len(realworld.columns) == 7
    assert not [c.key for c in realworld.columns if c.missing]
    assert realworld.first == 10


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_scenes_are_those_of_the_file_balanced_and_of_their_split(name: str) -> None:
    protocol = read_protocol(name)
    for column in protocol.columns:
        if column.missing:
            continue
        scenes = scenes_of(column, protocol.scenes, name)
        assert len(set(scenes)) == 100
        assert all(scene.seed in SPLITS[column.split].seeds for scene in scenes)
        said = [make_task(s.task, s.seed, s.distractors).instruction for s in scenes]
        assert column.named == 0 or all(len(named(words)) == column.named for words in said)
        if column.split == "unseen" and column.task in ("close_jar", "light_bulb_in", "pick_place"):
            assert set(Counter(named(words)[0] for words in said).values()) == {20}, "each unseen colour as often"
            assert sorted(named(words)[0] for words in said[:5]) == sorted(UNSEEN), "and from the beginning"
        if column.distractors >= 0:
            task = make_task(scenes[0].task, scenes[0].seed, column.distractors)
            assert len(task.objects) >= 8


def test_scenes_that_are_not_the_protocols_are_refused() -> None:
    column = read_protocol("table2").columns[0]
    with pytest.raises(ConfigError, match="wanted 000000000000: the tasks have changed since"):
        scenes_of(replace(column, scenes="000000000000"), 100, "protocol table2")
    with pytest.raises(ConfigError, match=r"column seen/close_jar: its scenes have the digest"):
        scenes_of(column, 99, "protocol table2")
    with pytest.raises(ConfigError, match=r"'close_jr' is not known. Did you mean 'close_jar'"):
        scenes_of(replace(column, task="close_jr"), 100, "protocol table2")


def test_rows_that_differ_in_one_listed_word_are_compared() -> None:
    protocol = read_protocol("table2")
    pairs = [(a.name, b.name) for a, b in protocol.compared()]
    assert ("3dfa-ft-colour-1", "3dfa-baseline-colour-1") in pairs
    assert ("scripted-reference-oracle", "scripted-reference-colour") in pairs
    assert all(a.policy == b.policy and a.seed == b.seed for a, b in protocol.compared())
    assert not [pair for pair in pairs if pair[::-1] in pairs]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("scenes"), "'scenes' is missing"),
        (lambda c: c.update(scenes="many"), "scenes: wanted int, got str 'many'"),
        (lambda c: c.update(scenes=0), "wanted 1 scene or more"),
        (lambda c: c.update(first=101), "first from 0 to scenes, got 100, 101"),
        (lambda c: c.update(scens=3), "unknown setting 'scens'. Did you mean 'scenes'"),
        (lambda c: c.update(rows=7), "rows: wanted a list, got 7"),
        (lambda c: c.update(rows=[]), "wanted one row or more, got none"),
        (lambda c: c.update(columns=[]), "wanted one column or more, got none"),
        (lambda c: c.update(planners=[]), "planners: wanted a mapping"),
        (lambda c: c["rows"][0].update(policies=["3dfb"]), r"rows\[0\].policies: '3dfb' is not known. Did you mean"),
        (lambda c: c["rows"][0].update(arms=["fine"]), r"rows\[0\].arms: 'fine' is not known"),
        (lambda c: c["rows"][1].update(arms=["ft"]), r"rows\[1\]: the arm 'ft' is not one of the policy 'scripted'"),
        (lambda c: c["rows"][0].update(planners=["color"]), "'color' is not known. Did you mean 'colour'"),
        (lambda c: c["rows"].append(c["rows"][1]), "the row scripted-reference-colour is there twice"),
        (lambda c: c["columns"].append(c["columns"][1]), "the column seen/light_bulb_in is there twice"),
        (lambda c: c["columns"][0].pop("task"), "column seen/close_jar: wanted task, split and scenes"),
        (lambda c: c["planners"]["nano"].update(backend="qwen"), "planners.nano.backend: 'qwen' is not known"),
        (lambda c: c.update(comparisons=[["ft"]]), "comparisons: wanted pairs of names"),
        (lambda c: c.update(comparisons=[["ft", "bseline"]]), "Did you mean 'baseline'"),
        (lambda c: c.update(primary=["3dfa-ft-heatmap"]), "primary: wanted two rows and a group"),
        (lambda c: c["primary"].__setitem__(2, "unsen"), "primary: 'unsen' is not known. Did you mean 'unseen'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_protocol_is_said(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"mine\.yaml.*{message}"):
        read_protocol(changed(tmp_path, change))


def test_a_file_that_is_no_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'table1' is not known. Did you mean 'table"):
        read_protocol("table1")
    with pytest.raises(ConfigError, match="wanted a protocol, found nothing"):
        read_protocol(str(tmp_path / "none.yaml"))
    path = tmp_path / "mine.yaml"
    for text, message in (
        ("[1, 2]", "wanted a protocol, found list"),
        ("a: [", "not valid YAML"),
        ("", "file is empty"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_protocol(str(path))
    assert read_protocol(changed(tmp_path, lambda c: c.update(scenes=3))).scenes == 3
