"""Parquet tables and splits of many videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.st_human.videos import info, plain

from stvla_ros.data.st_human.info_json import parse_info
from stvla_ros.data.st_human.plain import FormatError
from stvla_ros.data.st_human.splits import moved_things, validation_videos
from stvla_ros.data.st_human.tables import read_tables, write_tables

VIDEOS = [info(f"v{i}", f"cup_{i % 7}") for i in range(25)]


@pytest.mark.parametrize("rows", [10_000, 10, 1])
def test_tables_lose_nothing(tmp_path: Path, rows: int) -> None:
    others = [replace(info("empty"), actions=()), replace(info("gone"), excluded="two_hands")]
    write_tables(tmp_path / "t", [*VIDEOS, *others], rows)
    assert list(read_tables(tmp_path / "t")) == [*VIDEOS, *others]
    assert len(list((tmp_path / "t").glob("videos-*.parquet"))) == -(-27 // rows)


def test_a_set_without_actions_is_a_set(tmp_path: Path) -> None:
    bare = replace(info(), objects=(), actions=())
    write_tables(tmp_path / "t", [bare])
    assert list(read_tables(tmp_path / "t")) == [bare]


def test_other_programs_read_the_trajectory(tmp_path: Path) -> None:
    write_tables(tmp_path / "t", VIDEOS)
    table = pq.read_table(tmp_path / "t" / "actions-00000.parquet")
    assert table.num_rows == 50
    assert pa.types.is_struct(table.schema.field("trajectory").type.value_type)
    assert table.column("trajectory")[0].as_py()[1]["xyz_m"] == pytest.approx([-0.05, 0.1, 0.8])


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"wanted objects-00000.parquet, found none"):
        list(read_tables(tmp_path))
    with pytest.raises(FormatError, match="Two videos have the id 'v1'"):
        write_tables(tmp_path / "twice", [info(), info()])
    write_tables(tmp_path / "t", VIDEOS, 10)
    with pytest.raises(FormatError, match="wanted a folder without tables"):
        write_tables(tmp_path / "t", VIDEOS)
    (tmp_path / "t" / "videos-00001.parquet").rename(tmp_path / "kept")
    with pytest.raises(FormatError, match=r"videos-00001.parquet is missing, but videos-00002.parquet is there"):
        list(read_tables(tmp_path / "t"))
    (tmp_path / "t" / "videos-00001.parquet").write_bytes((tmp_path / "kept").read_bytes()[:-100])
    with pytest.raises(FormatError, match="cannot be read as Parquet"):
        list(read_tables(tmp_path / "t"))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t" / "videos-00001.parquet")
    with pytest.raises(FormatError, match="wanted a table 'st-human-1 videos', found 'one of another program'"):
        list(read_tables(tmp_path / "t"))
    (tmp_path / "t" / "videos-00002.parquet").unlink()
    (tmp_path / "t" / "videos-00001.parquet").unlink()
    with pytest.raises(FormatError, match="objects of a video 'v10' that is not in the table of videos"):
        list(read_tables(tmp_path / "t"))


def test_validation_shares_no_moved_thing() -> None:
    for seed in range(20):
        chosen = validation_videos(VIDEOS, 0.2, seed)
        apart = {True: set(), False: set()}
        for video in VIDEOS:
            apart[video.video.id in chosen] |= moved_things(video)
        assert len(chosen) >= 5
        assert not apart[True] & apart[False]
        assert apart[False]
    assert validation_videos(VIDEOS, 0.0) == set()
    assert len({frozenset(validation_videos(VIDEOS, 0.2, seed)) for seed in range(20)}) > 1


def test_things_that_are_only_stood_on_join_nothing() -> None:
    assert moved_things(info()) == {"cup_1"}
    values = plain("v3", "cup_3")
    values["actions"][1] |= {
        "template": "stack", "slots": {"object": "tray_1", "supports": ["cup_3"]}, "sentence": "Stack the tray on the red cup.",
    }  # fmt: skip
    assert moved_things(parse_info(values)) == {"cup_3", "tray_1"}


def test_a_later_video_moves_no_other_one() -> None:
    before = validation_videos(VIDEOS, 0.2)
    after = validation_videos([*VIDEOS, info("new", "cup_new")], 0.2)
    assert before <= after or after <= before


def test_one_thing_in_all_videos_cannot_be_split() -> None:
    with pytest.raises(FormatError, match="all 3 videos show the same things being moved"):
        validation_videos([info(f"v{i}") for i in range(3)])
