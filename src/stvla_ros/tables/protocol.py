"""A protocol: what a table compares, on which scenes, with which weights. A committed file, fixed before it is run.

``protocols/*.yaml`` has one per table of the paper. Rows are all combinations of policies, arms and planners that the
file lists; columns are sets of scenes. Every row runs the same scenes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import yaml

from stvla_ros import registry
from stvla_ros.config import ConfigError, build, closest, lookup
from stvla_ros.files import check_file, said
from stvla_ros.tables import PROTOCOLS

T = TypeVar("T")

TRAINED = ("3dda", "3dfa")
SHIPPED = "shipped"
"""In place of a file of weights: those that come with the package."""


@dataclass(frozen=True)
class Arm:
    """How a policy and guidance are combined (paper, section 4.2).

    Attributes:
        weights: Kind of training: ``baseline`` on plain images, ``ft`` on guided ones; empty: nothing was trained.
        guidance: Setting ``guidance.mode`` when it runs.
        trained_on: The guidance that the policy's file must have been trained with.
    """

    weights: str
    guidance: str
    trained_on: str


ARMS = {
    "baseline": Arm("baseline", "off", "off"),
    "frozen": Arm("baseline", "mask_only", "off"),
    "ft": Arm("ft", "full", "full"),
    "reference": Arm("", "full", ""),
}


@dataclass(frozen=True)
class PlannerChoice:
    """A planner under the name that a table gives it.

    Attributes:
        backend: Name of the backend.
        weights: File or folder with its weights, below the folder of weights; ``shipped``: those of the package; empty:
            it has none.
        says: What it knows, for the table's foot.
    """

    backend: str
    weights: str
    says: str


@dataclass(frozen=True)
class Rows:
    """All combinations of these are rows.

    Attributes:
        policies: Backends of the policy.
        arms: Of :data:`ARMS`.
        planners: Of the protocol's planners.
    """

    policies: tuple[str, ...]
    arms: tuple[str, ...]
    planners: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """Scenes, and what they have in common.

    Attributes:
        name: Head of the column; unique within its group.
        group: Columns of a group are averaged (macro), groups never are.
        task: Of the cell; empty: the cell has no such task, see ``missing``.
        split: Of :data:`stvla_ros.data.splits.SPLITS`.
        named: How many names (colours or items) the instruction has; 0: any number.
        distractors: Objects that the task does not need; -1: the task's own number.
        scenes: Digest of the scenes (:func:`stvla_ros.tables.scenes.digest`).
        missing: Why this column cannot be run; empty: it can.
    """

    name: str
    group: str
    task: str = ""
    split: str = ""
    named: int = 0
    distractors: int = -1
    scenes: str = ""
    missing: str = ""

    @property
    def key(self) -> str:
        """Unique name within a protocol."""
        return f"{self.group}/{self.name}"


@dataclass(frozen=True)
class Row:
    """One stack, and which training of it.

    Attributes:
        policy: Backend of the policy.
        arm: Of :data:`ARMS`.
        planner: Of the protocol's planners.
        seed: Of the training; -1: nothing was trained.
    """

    policy: str
    arm: str
    planner: str
    seed: int = -1

    @property
    def stack(self) -> str:
        """Its name without the seed of the training."""
        return f"{self.policy}-{self.arm}-{self.planner}"

    @property
    def name(self) -> str:
        """Unique name within a protocol."""
        return self.stack if self.seed < 0 else f"{self.stack}-{self.seed}"


@dataclass(frozen=True)
class Protocol:
    """Everything that is decided before a table is run.

    Attributes:
        name: Of the file.
        title: For people.
        scenes: Per row and column.
        first: The report is also given for the first so many scenes; 0: it is not.
        noise: Whether the camera is imperfect.
        training_seeds: Every trained stack is a row for each of them.
        policy_weights: Name of a policy's file with places for ``policy``, ``kind`` (:attr:`Arm.weights`) and ``seed``.
        rlbench: What the second verdict is called in this table.
        planners: By name.
        rows: The rows.
        columns: The columns.
        comparisons: Pairs of arms or planners: two rows that differ in nothing else are compared by McNemar's test.
        primary: The stacks of the one comparison that the table is about, and its group.
    """

    name: str
    title: str
    scenes: int
    first: int
    noise: bool
    training_seeds: tuple[int, ...]
    policy_weights: str
    rlbench: str
    planners: Mapping[str, PlannerChoice]
    rows: tuple[Rows, ...]
    columns: tuple[Column, ...]
    comparisons: tuple[tuple[str, str], ...]
    primary: tuple[str, ...]

    def all_rows(self) -> tuple[Row, ...]:
        """Every row of the table, in its order."""
        return tuple(self._all_rows())

    def _all_rows(self) -> Iterator[Row]:
        for rows in self.rows:
            for policy, arm, planner in product(rows.policies, rows.arms, rows.planners):
                for seed in self.training_seeds if ARMS[arm].weights else (-1,):
                    yield Row(policy, arm, planner, seed)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of columns, in their order."""
        return tuple(dict.fromkeys(column.group for column in self.columns))

    def compared(self) -> tuple[tuple[Row, Row], ...]:
        """Pairs of rows that differ in one of :attr:`comparisons` only; the first one is expected to be better."""
        rows = self.all_rows()
        return tuple((a, b) for pair in self.comparisons for a in rows for b in rows if _differ(a, b) == pair)

    def plain(self) -> dict[str, Any]:
        """Plain values for a file."""
        return asdict(self)


def _differ(a: Row, b: Row) -> tuple[str, str] | None:
    """The one word, arm or planner, in which two rows differ, of each; None if they differ in more or nothing."""
    if (a.policy, a.seed) != (b.policy, b.seed):
        return None
    words = [(x, y) for x, y in ((a.arm, b.arm), (a.planner, b.planner)) if x != y]
    return words[0] if len(words) == 1 else None


def read_protocol(name: str) -> Protocol:
    """A protocol of the package by its name, or one of your own by its file.

    Raises:
        ConfigError: There is none, or something in it is wrong: the message says where.
    """
    if name in PROTOCOLS:
        path = Path(str(resources.files("stvla_ros.tables").joinpath(f"protocols/{name}.yaml")))
    elif name.endswith(".yaml"):
        path = Path(name)
    else:
        raise ConfigError(f"protocol: '{name}' is not known.{closest(name, PROTOCOLS)} Or name a .yaml file.")
    check_file(path, "a protocol", text=True)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({said(error)}).") from error
    return _protocol(content, path)


def _protocol(content: Any, path: Path) -> Protocol:
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: wanted a protocol, found {type(content).__name__}.")
    values: dict[str, Any] = {"name": path.stem, **content}
    planners = values.get("planners", {})
    if not isinstance(planners, dict):
        raise ConfigError(f"{path}: planners: wanted a mapping, got {planners!r}.")
    values["planners"] = {
        name: _made(PlannerChoice, choice, f"{path}: planners.{name}") for name, choice in planners.items()
    }
    for field, kind in (("rows", Rows), ("columns", Column)):
        values[field] = tuple(
            _made(kind, item, f"{path}: {field}[{i}]") for i, item in enumerate(_list(values, field, path))
        )
    values["comparisons"] = tuple(_pair(pair, path) for pair in _list(values, "comparisons", path))
    nested = {name: values.pop(name) for name in ("planners", "rows", "columns", "comparisons")}
    empty = {name: type(value)() for name, value in nested.items()}
    protocol = Protocol(**{**vars(_made(Protocol, {**values, **empty}, str(path))), **nested})
    _check(protocol, str(path))
    return protocol


def _list(values: Mapping[str, Any], field: str, path: Path) -> list[Any]:
    found = values.get(field)
    if not isinstance(found, list):
        raise ConfigError(f"{path}: {field}: wanted a list, got {found!r}.")
    return found


def _pair(pair: Any, path: Path) -> tuple[str, str]:
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(word, str) for word in pair)):
        raise ConfigError(f"{path}: comparisons: wanted pairs of names, got {pair!r}.")
    return pair[0], pair[1]


def _made(kind: type[T], values: Any, where: str) -> T:
    """As :func:`stvla_ros.config.build`, and fields without a default must be there."""
    wanted = [f.name for f in fields(kind) if f.default is MISSING]  # type: ignore[arg-type]
    if isinstance(values, dict) and (missing := [name for name in wanted if name not in values]):
        raise ConfigError(f"{where}: '{missing[0]}' is missing.")
    return build(kind, values, where)


def _check(protocol: Protocol, where: str) -> None:
    """Raises ConfigError for names that nothing has, and for a table without scenes, rows or columns."""
    if protocol.scenes < 1 or not 0 <= protocol.first <= protocol.scenes:
        raise ConfigError(
            f"{where}: wanted 1 scene or more, and first from 0 to scenes, got {protocol.scenes}, {protocol.first}."
        )
    for name, choice in protocol.planners.items():
        lookup(dict.fromkeys(registry.names("planner")), choice.backend, f"{where}: planners.{name}.backend")
    for i, rows in enumerate(protocol.rows):
        _check_rows(rows, protocol, f"{where}: rows[{i}]")
    for column in protocol.columns:
        if not (column.task and column.split and column.scenes) and not column.missing:
            raise ConfigError(f"{where}: column {column.key}: wanted task, split and scenes, or why it is missing.")
    _check_unique("column", [column.key for column in protocol.columns], where)
    _check_unique("row", [row.name for row in protocol.all_rows()], where)
    known = dict.fromkeys([*ARMS, *protocol.planners])
    for word in (word for pair in protocol.comparisons for word in pair):
        lookup(known, word, f"{where}: comparisons")
    if len(protocol.primary) != 3:
        raise ConfigError(f"{where}: primary: wanted two rows and a group, got {list(protocol.primary)}.")
    *stacks, group = protocol.primary
    for stack in stacks:
        lookup(dict.fromkeys(row.stack for row in protocol.all_rows()), stack, f"{where}: primary")
    lookup(dict.fromkeys(protocol.groups), group, f"{where}: primary")


def _check_rows(rows: Rows, protocol: Protocol, where: str) -> None:
    for planner in rows.planners:
        lookup(protocol.planners, planner, f"{where}.planners")
    for policy in rows.policies:
        lookup(dict.fromkeys(registry.names("policy")), policy, f"{where}.policies")
    for arm in rows.arms:
        trained = bool(lookup(ARMS, arm, f"{where}.arms").weights)
        if odd := [policy for policy in rows.policies if (policy in TRAINED) != trained]:
            raise ConfigError(f"{where}: the arm '{arm}' is not one of the policy '{odd[0]}'.")


def _check_unique(what: str, names: list[str], where: str) -> None:
    if not names:
        raise ConfigError(f"{where}: wanted one {what} or more, got none.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{where}: the {what} {twice[0]} is there twice.")
