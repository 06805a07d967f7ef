"""Every reader, given what is not its file: one sentence of the project's own, never another library's exception."""

from __future__ import annotations

import random
import re
import shutil
import zlib
from pathlib import Path

import pytest
from damaged import KINDS, LFS, PAGE, mutated

from stvla_ros.config import ConfigError

PER_KIND = 40
"""In the suite; ``FUZZ`` in ``test_fuzz`` says how to run more."""

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: kind.write(tmp_path_factory.mktemp("good")) for name, kind in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_the_good_file_is_read(name: str, good: dict[str, Path]) -> None:
    KINDS[name].read(good[name])


@pytest.mark.parametrize("name", KINDS)
def test_in_its_place(name: str, good: dict[str, Path]) -> None:
    """The same words everywhere, for these have nothing to do with the format."""
    path, read = good[name], KINDS[name].read
    data = path.read_bytes()
    try:
        for content, words in (
            (LFS, "a pointer of Git LFS, not the file itself: fetch it with git lfs pull"),
            (PAGE, "a web page"),
            (b"", "the file is empty"),
            (b"\x1f\x8b\x08\x00" + zlib.compress(data), "a gzip archive"),
        ):
            path.write_bytes(content)
            with pytest.raises(ConfigError, match=words) as error:
                read(path)
            assert str(path) in str(error.value)
            assert "\n" not in str(error.value)
        path.unlink()
        path.mkdir()
        if not name.startswith(("recording", "episode", "zarr")):  # whose folder has more to say
            with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}: wanted .*, found a folder\."):
                read(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        path.write_bytes(data)


@pytest.mark.parametrize("name", KINDS)
def test_fuzz(name: str, good: dict[str, Path]) -> None:
    """A value or a ConfigError of one line; at full size: ``PER_KIND = 10_000`` and this test alone."""
    path, read = good[name], KINDS[name].read
    data, said = path.read_bytes(), []
    try:
        for changed in mutated(data, random.Random(0), PER_KIND):
            path.write_bytes(changed)
            try:
                read(path)
            except ConfigError as error:
                said.append(str(error))
    finally:
        path.write_bytes(data)
    assert len(said) > PER_KIND / 20
    assert [words for words in said if "\n" in words or len(words) > 1000] == []
