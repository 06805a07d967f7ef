"""``stvla replay``: decide again on a recording, compare, and leave a report."""

from __future__ import annotations

import json
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stvla_ros import registry
from stvla_ros.commands.arguments import Parser, assignment, folder
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED
from stvla_ros.commands.progress import count_bar
from stvla_ros.commands.recordings import add_bag_arguments, find_recordings, hints_of, is_single
from stvla_ros.config import ConfigError, build
from stvla_ros.evaluate.stack import BAG, StackSettings, read_settings
from stvla_ros.replay import index, report, statistics
from stvla_ros.replay.comparing import compare
from stvla_ros.replay.golden import check_golden, write_golden
from stvla_ros.replay.running import (
    Setup,
    against_recorded,
    read_comparison,
    read_result,
    replay,
    write_json,
)
from stvla_ros.replay.values import Comparison, Mode, Replay

if TYPE_CHECKING:
    from stvla_ros.ros.recorded_task import BagTask

MODES = {"teacher": Mode.TEACHER_FORCED, "free": Mode.FREE}
RECORDED = "recorded"
"""In place of a planner: the recorded plans are used."""

RESULT, REPORT, INDEX = "replay.json", "report.html", "index.html"
PARTS = ("planner", "segmenter", "policy", "motion", "guide", "executor", "robot", BAG)


@dataclass
class _Side:
    """What the command line says about one of two sets of settings."""

    params: Path | None = None
    backends: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        words = [self.params.name] if self.params is not None else []
        words += [f"{k}={v}" for k, v in {**self.backends, **self.overrides}.items()]
        return ", ".join(words)

    def settings(self, file: Path | None) -> StackSettings:
        """The settings of a parameter file (None: the defaults), and what is said besides. Raises ConfigError."""
        chosen = {kind: name for kind, name in self.backends.items() if name != RECORDED}
        return read_settings(file, chosen, self.overrides, PARTS)

    def after(self, first: _Side) -> _Side:
        """This set, with the first one's where it has no file of its own."""
        if self.params is not None:
            return self
        return _Side(first.params, {**first.backends, **self.backends}, {**first.overrides, **self.overrides})


class _OfSide(Action):
    """Belongs to the first set of settings, or to the second one when it comes after ``--against``."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, value: Any, option: str | None = None) -> None:
        sides = namespace.sides = list(namespace.sides or [_Side()])
        if self.dest == "against":
            sides.append(_Side(value))
        elif self.dest == "params":
            sides[-1].params = value
        elif self.dest == "overrides":
            sides[-1].overrides[value[0]] = value[1]
        else:
            sides[-1].backends[self.dest] = value
        namespace.against = len(sides) > 1


def add_arguments(parser: Parser) -> None:
    parser.add_argument("bag", type=Path, metavar="BAG", help="a recording of stvla record, or a folder of them")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="teacher",
        help="teacher (default): every step gets the recorded history and plan; free: what the replay decided before",
    )
    parser.add_argument(
        "--every-frame",
        action="store_true",
        help="guide every frame again; default: those that keyposes were made of",
    )
    parser.add_argument(
        "--output", type=folder, metavar="DIR", help="folder for reports; default: replay/ beside the bag"
    )
    parser.add_argument(
        "--golden", type=Path, metavar="FILE", help="compare with the decisions in FILE, which is written when absent"
    )
    _add_side_arguments(parser)
    add_bag_arguments(parser)
    parser.set_defaults(sides=None)


def _add_side_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--against",
        action=_OfSide,
        type=Path,
        nargs="?",
        metavar="OTHER.yaml",
        help="decide a second time with these settings, or with the options that come after it, and compare the two",
    )
    for kind in registry.BACKENDS:
        names = (*registry.names(kind), RECORDED) if kind == "planner" else registry.names(kind)
        parser.add_argument(
            f"--{kind}", action=_OfSide, choices=names, metavar="NAME", help=f"{', '.join(names)}; default: as recorded"
        )
    parser.add_argument(
        "--params", action=_OfSide, type=Path, metavar="FILE", help="ROS 2 parameter file; default: as recorded"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action=_OfSide,
        type=assignment,
        metavar="NODE.PARAMETER=VALUE",
        help="override one parameter; repeatable",
    )


def run(arguments: Namespace) -> int:
    console = Console()
    command = _Command(arguments, console)
    if is_single(arguments.bag) or (arguments.bag / "bag").is_dir():
        return command.single(_bag_of(arguments.bag))
    try:
        return command.all(find_recordings(arguments.bag))
    except KeyboardInterrupt:
        console.print("Stopped. The same command resumes here.")
        return INTERRUPTED


def _bag_of(path: Path) -> Path:
    """The bag of a run's folder."""
    return path if is_single(path) else path / "bag"


@dataclass
class _Result:
    """What was made of one recording."""

    comparison: Comparison
    figures: list[dict[str, Any]]
    exit_code: int = 0


class _Command:
    def __init__(self, arguments: Namespace, console: Console) -> None:
        self._arguments, self._console, self._hints = arguments, console, hints_of(arguments)
        self._tells = False
        first, *others = arguments.sides or [_Side()]
        self._sides = [first, *(side.after(first) for side in others)]
        if len(self._sides) > 2:
            raise ConfigError("stvla replay: --against is given twice: two sets of settings can be compared at a time.")
        if len(self._sides) == 2 and arguments.golden:
            raise ConfigError("stvla replay: --golden is about one set of settings: leave --against out.")
        if len(self._sides) == 2 and not others[0].name:
            raise ConfigError("stvla replay: --against wants a parameter file, or other settings after it.")
        for side in self._sides:  # before a bag is looked for
            side.settings(side.params)

    # --- one recording ----------------------------------------------------------------------------------------------

    def single(self, bag: Path) -> int:
        output = self._arguments.output or bag.absolute().parent / "replay"
        self._tells = not self._console.is_terminal
        with count_bar(self._console) as bar:
            result = self._one(bag, output, self._arguments.golden, bar)
        self._console.print(f"{output / REPORT}, {output / RESULT}", soft_wrap=True, markup=False, highlight=False)
        return result.exit_code

    def _one(self, bag: Path, output: Path, golden: Path | None, bar: Progress) -> _Result:
        """Replay one recording, write its files, and print the result."""
        task, setups = self._opened(bag, bar)
        for note in task.notes:
            self._say(bar, f"Note: {note}")
        made = [replay(task, setup, self._follow(bar, "decisions")) for setup in setups]
        then = [against_recorded(task, one, setup.every_frame) for one, setup in zip(made, setups, strict=True)]
        first, second = report.Side.recorded(task), report.Side.of(made[0])
        comparison = then[0]
        if len(made) == 2:
            first, second = (report.Side.of(one) for one in made)
            comparison = compare(task.moments, made[0].decisions, made[1].decisions, (made[0].name, made[1].name))
        figures = [statistics.figures(c, one) for c, one in zip(then, made, strict=True)]
        output.mkdir(parents=True, exist_ok=True)
        report.write_report(output / REPORT, task, comparison, first, second)
        write_json(output / RESULT, task, made, comparison, key=self._key, figures=figures, frames=setups[0].frames)
        self._say(bar, comparison.headline)
        for one in made:
            self._say(bar, f"{one.hash}  {one.name}, {_speed(task.seconds, one)}")
        return _Result(comparison, figures, self._golden(golden, task, setups[0], made[0], bar) if golden else 0)

    def _golden(self, path: Path, task: BagTask, setup: Setup, made: Replay, bar: Progress) -> int:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_golden(path, task, setup, made)
            self._say(bar, f"{path}: there was none; written. Check it in, and the same command is a test.")
            return 0
        verdict = check_golden(path, task, setup, made)
        self._say(bar, f"{path}: {verdict.sentence}")
        return 0 if verdict.same else NOT_CONFIRMED

    def _opened(self, bag: Path, bar: Progress) -> tuple[BagTask, list[Setup]]:
        from stvla_ros.ros.frames import CameraConfig
        from stvla_ros.ros.recorded_task import open_task
        from stvla_ros.ros.run_settings import recorded_topics_of

        settings = [_settings(side, bag) for side in self._sides]
        topics = settings[0].bag_topics or recorded_topics_of(bag)
        camera = build(CameraConfig, topics, "camera.topics")
        reading = self._follow(bar, "messages")
        task = open_task(bag, camera, settings[0].robot, follow=reading, hints=self._hints)
        names = _names(self._sides)
        setups = [
            Setup(
                name,
                chosen,
                side.backends.get("planner") == RECORDED,
                MODES[self._arguments.mode],
                self._arguments.every_frame,
            )
            for name, chosen, side in zip(names, settings, self._sides, strict=True)
        ]
        return task, setups

    def _follow(self, bar: Progress, what: str) -> Any:
        """Iterates with a line of its own in the bar; of a single recording without a terminal, with a printed line at each tenth."""

        def follow(items: Iterable[Any], count: int) -> Iterator[Any]:
            line = bar.add_task("", total=count, figures=what)
            try:
                for done, item in enumerate(items, 1):
                    yield item
                    bar.update(line, advance=1)
                    if self._tells and 10 * done // count > 10 * (done - 1) // count:
                        print(f"{what}: {done} of {count}", flush=True)
            finally:
                bar.remove_task(line)

        return follow

    def _say(self, bar: Progress, sentence: str) -> None:
        bar.console.print(sentence, soft_wrap=True, markup=False, highlight=False)

    # --- a folder of recordings -------------------------------------------------------------------------------------

    @property
    def _key(self) -> str:
        """What must be equal for a result to count in a resumed folder."""
        a = self._arguments
        return json.dumps([[s.name, str(s.params)] for s in self._sides] + [a.mode, a.every_frame])

    def all(self, bags: Mapping[str, Path]) -> int:
        """Replay all recordings of a folder that have no result yet."""
        output, golden = self._arguments.output or self._arguments.bag / "replay", self._arguments.golden
        rows, results, code = [], [], 0
        with count_bar(self._console) as bar:
            line = bar.add_task("", total=len(bags), figures="recordings")
            for name, bag in bags.items():
                self._say(bar, f"{name}:")
                try:
                    result = self._known(output / name, golden) or self._one(
                        bag, output / name, golden / f"{name}.json" if golden else None, bar
                    )
                except ConfigError as error:
                    self._say(bar, f"Left out: {error}")
                    rows.append(index.Row(name, "", problem=str(error)))
                    code = NOT_CONFIRMED if golden else code
                else:
                    rows.append(index.Row(name, f"{name}/{REPORT}", result.comparison))
                    results.append(result)
                    code = max(code, result.exit_code)
                bar.update(line, advance=1)
        if not results:
            raise ConfigError(f"{self._arguments.bag}: none of {len(bags)} recordings could be replayed.")
        pairs = [(r.figures[0], r.figures[1]) for r in results if len(r.figures) == 2]
        lines = statistics.paired(pairs) if pairs else []
        apart = sum(r.comparison.first is not None for r in results)
        headline = f"{apart} of {len(results)} recordings have decisions that differ."
        index.write_index(output / INDEX, headline, rows, lines)
        self._console.print(_table(rows))
        if lines:
            names = _names(self._sides)
            self._console.print(_grid(lines, f"A: {names[0]}; B: {names[1]}"))
        self._console.print(f"{headline} {output / INDEX}", soft_wrap=True, markup=False, highlight=False)
        return code

    def _known(self, output: Path, golden: Path | None) -> _Result | None:
        """The result of an earlier run with the same settings; never with a golden file, which is a test."""
        content = None if golden else read_result(output / RESULT)
        if content is None or content.get("key") != self._key or not (output / REPORT).exists():
            return None
        return _Result(read_comparison(content), list(content["figures"]))


def _settings(side: _Side, bag: Path) -> StackSettings:
    """The settings of one side: its file's, or those that the recording was made with; and what is said besides."""
    with _recorded_file(bag) if side.params is None else _given(side.params) as file:
        return side.settings(file)


@contextmanager
def _given(file: Path) -> Iterator[Path | None]:
    yield file


@contextmanager
def _recorded_file(bag: Path) -> Iterator[Path | None]:
    """The parameters of the recording as a file; None: they are not known, and the defaults are used."""
    import yaml

    from stvla_ros.ros.run_settings import parameter_file, read_facts

    values = parameter_file(read_facts(bag).parameters)
    if not values:
        yield None
        return
    with TemporaryDirectory() as place:
        file = Path(place) / "recorded.yaml"
        file.write_text(yaml.safe_dump(values))
        yield file


def _names(sides: Sequence[_Side]) -> list[str]:
    if len(sides) == 1:
        return ["replayed"]
    names = [side.name or "as recorded" for side in sides]
    return names if names[0] != names[1] else [f"{name} ({i})" for i, name in enumerate(names, 1)]


def _speed(seconds: float, made: Replay) -> str:
    return f"{made.cpu_s:.1f} s of processor time for {seconds:.1f} s ({seconds / max(made.cpu_s, 1e-9):.1f} times real time)"


def _table(rows: Sequence[index.Row]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("recording", "decisions", "that differ", "result"):
        table.add_column(name, justify="right" if name in ("decisions", "that differ") else "left")
    for row in rows:
        if row.comparison is None:
            table.add_row(row.name, "–", "–", row.problem)
        else:
            differ = len(row.comparison.worst)
            table.add_row(row.name, str(len(row.comparison.differences)), str(differ), row.comparison.headline)
    return table


def _grid(lines: Sequence[Sequence[str]], title: str) -> Table:
    table = Table(*lines[0], title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for line in lines[1:]:
        table.add_row(*line)
    return table
