"""Runs the rows of a table, each as an evaluation in a folder of its own; what is done already does not run again.

::

    protocol.json            the protocol; one folder holds results of one protocol only
    rows/<row>/              settings.json, episodes/*.json, results.json, as of `stvla evaluate`
    table.json, table.md, table.png   written from the episodes on disk after every row
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from stvla_ros.config import ConfigError, closest
from stvla_ros.evaluate.cell_environment import CellEnvironmentSetup
from stvla_ros.evaluate.episode import EpisodeRecord, EpisodeSpec, read_record
from stvla_ros.evaluate.evaluation import Evaluation
from stvla_ros.evaluate.stack import PARTS, StackSettings, plain, read_settings
from stvla_ros.files import digest, keep_settings
from stvla_ros.rcl_yaml import RclYamlError, read_value
from stvla_ros.tables.protocol import ARMS, SHIPPED, TRAINED, Protocol, Row
from stvla_ros.tables.scenes import scenes_of

WEIGHTS = Path(__file__).parent / "weights"
"""What the project has trained for its protocols (docs/weights.md)."""

WEIGHTS_SETTING = {"heatmap": "weights", "qwen3_vl": "model"}
"""Planner's backend -> its setting that names weights."""

PLAIN = {"samples": "1", "refine_m": "0.0"}
"""Settings of a learned policy, with which its keyposes are the network's, as in the paper."""


@dataclass(frozen=True)
class ReadyRow:
    """A row that can be run.

    Attributes:
        settings: Of all stages and the cell.
        kept: Everything that changes its results, as plain values: with names and digests of weights, not their places.
        rerun: Command line that repeats an episode of it; task and seed are appended.
    """

    settings: StackSettings
    kept: Mapping[str, Any]
    rerun: str


@dataclass(frozen=True)
class Table:
    """What to run, and where its results go.

    Attributes:
        folder: Output; made if missing.
        protocol: Rows, columns and scenes.
        weights: Folder with the weights that the protocol names.
        limit: Scenes per row and column; fewer than the protocol's are not its table, and every output says so.
        patterns: Names of the rows to run, ``*`` stands for anything; empty: all.

    Raises:
        ConfigError: No row has such a name, or the limit exceeds the protocol's scenes.
    """

    folder: Path
    protocol: Protocol
    weights: Path
    limit: int
    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= self.protocol.scenes:
            raise ConfigError(f"--limit: wanted 1 to {self.protocol.scenes} scenes a cell, got {self.limit}.")
        names = [row.name for row in self.protocol.all_rows()]
        for pattern in self.patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(f"--rows: no row is named '{pattern}'.{closest(pattern, names)}")

    @property
    def complete(self) -> bool:
        """Whether it has as many scenes as the protocol wants."""
        return self.limit == self.protocol.scenes

    @cached_property
    def scenes(self) -> dict[str, tuple[EpisodeSpec, ...]]:
        """Key of a column -> its scenes; none for a column that cannot be run.

        Raises:
            ConfigError: See :func:`stvla_ros.tables.scenes.scenes_of`.
        """
        columns = (column for column in self.protocol.columns if not column.missing)
        every = {c.key: scenes_of(c, self.protocol.scenes, f"protocol {self.protocol.name}") for c in columns}
        return {key: scenes[: self.limit] for key, scenes in every.items()}

    def chosen(self, row: Row) -> bool:
        """Whether a row is to be run."""
        return not self.patterns or any(fnmatchcase(row.name, pattern) for pattern in self.patterns)

    def prepare(self) -> None:
        """Make the folder, or check that it belongs to this protocol.

        Raises:
            ConfigError: It holds results of another protocol; or the scenes are not the protocol's.
        """
        _ = self.scenes
        self.folder.mkdir(parents=True, exist_ok=True)
        keep_settings(self.folder / "protocol.json", self.protocol.plain(), "rows run")

    def ready(self, row: Row) -> ReadyRow | str:
        """The row with its settings, or why it cannot be run: weights that are not there.

        Raises:
            ConfigError: Weights are there, and they are not those of this row.
        """
        if missing := self.missing(row):
            return no_weights(missing)
        files = self._files(row)
        _check_policy(row, files)
        noise = ["--noise"] if self.protocol.noise else []
        backends = ["--planner", self.protocol.planners[row.planner].backend, "--policy", row.policy]
        overrides = _overrides(row, {name: str(file) for name, file in files.items()})
        chosen = [word for name, value in overrides.items() for word in ("--set", f"{name}={value}")]
        kept = {
            "row": row.name,
            "weights": {file.name: digest(file) for file in files.values()},
            **plain(self._settings(row, {name: file.name for name, file in files.items()})),
        }
        rerun = shlex.join(["stvla", "evaluate", "--film", "all", *noise, *backends, *chosen])
        return ReadyRow(self._settings(row, {name: str(file) for name, file in files.items()}), kept, rerun)

    def evaluation(self, row: Row, ready: ReadyRow) -> tuple[Evaluation, CellEnvironmentSetup]:
        """The evaluation of a row: all columns scene by scene, so that what is done is alike in all of them."""
        scenes = [column[i] for i in range(self.limit) for column in self.scenes.values()]
        evaluation = Evaluation(self._row_folder(row), tuple(dict.fromkeys(scenes)), ready.kept, ready.rerun)
        return evaluation, CellEnvironmentSetup(ready.settings)

    def run(self, do: Callable[[Row, Evaluation, CellEnvironmentSetup], None], after: Callable[[], None]) -> None:
        """Run the chosen rows.

        Args:
            do: Runs one of them.
            after: Called after each of them, and once without any.

        Raises:
            ConfigError: See :meth:`prepare` and :meth:`ready`.
        """
        self.prepare()
        able = {row: self.ready(row) for row in self.protocol.all_rows() if self.chosen(row)}
        after()
        for row, ready in able.items():
            if isinstance(ready, ReadyRow):
                do(row, *self.evaluation(row, ready))
                after()

    def records(self, row: Row) -> dict[EpisodeSpec, EpisodeRecord]:
        """What is on disk of a row, for the scenes of this table.

        Raises:
            ConfigError: A record is damaged.
        """
        folder = self._row_folder(row) / "episodes"
        scenes = dict.fromkeys(scene for column in self.scenes.values() for scene in column)
        return {s: read_record(folder / s.file_name) for s in scenes if (folder / s.file_name).exists()}

    def why_not(self, row: Row, done: int) -> str:
        """Why a row has no complete results, only so many scenes."""
        wanted = len(dict.fromkeys(s for column in self.scenes.values() for s in column))
        if done:
            return f"only {done} of {wanted} scenes are done: the same command goes on"
        if missing := self.missing(row):
            return no_weights(missing)
        return "its turn has not come yet" if self.chosen(row) else "not among the rows that were asked for"

    def _row_folder(self, row: Row) -> Path:
        return self.folder / "rows" / row.name

    def missing(self, row: Row) -> list[Path]:
        """Weights that a row needs and that are not there."""
        return [file for file in self._files(row).values() if not file.exists()]

    def _files(self, row: Row) -> dict[str, Path]:
        """Setting -> file or folder of weights that a row needs."""
        files, arm, planner = {}, ARMS[row.arm], self.protocol.planners[row.planner]
        if arm.weights:
            name = self.protocol.policy_weights.format(policy=row.policy, kind=arm.weights, seed=row.seed)
            files[f"policy.{row.policy}.checkpoint"] = self.weights / name
        if planner.weights not in ("", SHIPPED):
            files[f"planner.{planner.backend}.{WEIGHTS_SETTING[planner.backend]}"] = self.weights / planner.weights
        return files

    def _settings(self, row: Row, weights: Mapping[str, str]) -> StackSettings:
        backends = {"planner": self.protocol.planners[row.planner].backend, "policy": row.policy}
        settings = read_settings(None, backends, _overrides(row, weights), PARTS)
        return settings.with_noise() if self.protocol.noise else settings


def no_weights(missing: Iterable[Path]) -> str:
    """Says so; ends without a final stop."""
    return f"no weights: {', '.join(dict.fromkeys(map(str, missing)))} not there"


def _overrides(row: Row, weights: Mapping[str, str]) -> dict[str, str]:
    """Settings in place of the defaults, as for ``--set``. Tables compare networks, so nothing refines their keyposes."""
    texts = {"guidance.mode": ARMS[row.arm].guidance, **weights}
    raw = {f"policy.{row.policy}.{name}": text for name, text in PLAIN.items()} if row.policy in TRAINED else {}
    return {name: _quoted(text) for name, text in texts.items()} | raw


def _quoted(text: str) -> str:
    """As YAML: in quotes where it would mean something else, such as ``off``."""
    try:
        plain_text = read_value(text) == text
    except RclYamlError:
        plain_text = False
    return text if plain_text else json.dumps(text, ensure_ascii=False)


def _check_policy(row: Row, files: Mapping[str, Path]) -> None:
    """Raises ConfigError when a policy's file was trained on images of another kind than the arm's."""
    file = files.get(f"policy.{row.policy}.checkpoint")
    if file is None:
        return
    from stvla_ros.policy.checkpoint.policy_file import read_policy_file
    from stvla_ros.policy.learned import BACKEND

    found, wanted = read_policy_file(file), ARMS[row.arm].trained_on
    if BACKEND[found.network.denoiser] != row.policy or found.guidance != wanted:
        raise ConfigError(
            f"{file}: wanted a {row.policy} policy trained with guidance '{wanted}' for the row {row.name}, found "
            f"{BACKEND[found.network.denoiser]} with '{found.guidance}'."
        )
