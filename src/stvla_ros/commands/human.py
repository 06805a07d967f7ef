"""``stvla human``: makes ST-Human data of videos, checks it, makes tables, plans acceptance, synthesises videos."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from stvla_ros.commands import human_synthesise
from stvla_ros.commands.arguments import Parser, add_engine_arguments, engine_of, folder, positive, share, whole
from stvla_ros.commands.exit_codes import INTERRUPTED, NOT_CONFIRMED
from stvla_ros.commands.progress import count_bar, shown
from stvla_ros.commands.recordings import add_bag_arguments, hints_of
from stvla_ros.config import ConfigError
from stvla_ros.data.bag_hints import BagHints
from stvla_ros.data.st_human.templates import TEMPLATES
from stvla_ros.files import written

if TYPE_CHECKING:
    from stvla_ros.data.st_human.info import VideoInfo
    from stvla_ros.data.st_human.readers.source import VideoSource


def add_arguments(parser: Parser) -> None:
    verbs = parser.add_subparsers(
        dest="verb",
        metavar="process|fetch-hands|check|compare|tables|samples|plan|synthesise",
        required=True,
        parser_class=_VerbParser,
    )
    process = verbs.add_parser("process", help="find hands, actions, paths and relations in RGB-D videos; resumes")
    option = process.add_argument
    option(
        "folder", type=Path, metavar="FOLDER",
        help="a video, or many below a folder: rgb, depth and camera.json; a recording; a rosbag2; DexYCB, H2O, TACO, HOI4D; "
        "any other folder of images",
    )  # fmt: skip
    option("--output", type=folder, required=True, metavar="DIR", help="one folder per video")
    option(
        "--hands", choices=("auto", "mediapipe", "depth"), default="auto",
        help="what finds hands: mediapipe, with 21 keypoints; depth, without weights; auto (default): mediapipe where its "
        "files are, else depth",
    )  # fmt: skip
    option(
        "--hand-models", type=folder, metavar="DIR", help="files of mediapipe; default: where `fetch-hands` puts them"
    )
    option(
        "--template", choices=tuple(TEMPLATES), metavar="NAME",
        help="of all actions: see docs/reference/st_human_actions.md; default: what video.json says, else a guess",
    )  # fmt: skip
    option("--no-samples", action="store_true", help="write no samples with their images")
    add_engine_arguments(process, "one per core")
    other = process.add_argument_group("a folder of images of no known data set").add_argument
    other(
        "--color",
        default="",
        metavar="PATTERN",
        help="its colour images, e.g. 'left/*.jpg'; default: color, rgb, *color.*",
    )
    other("--depth", default="", metavar="PATTERN", help="its depth images; default: depth, *depth.*")
    other("--depth-unit", type=positive, default=0.001, metavar="M", help="unit of its depth images; default 0.001 m")
    other(
        "--fps",
        type=positive,
        default=0.0,
        metavar="N",
        help="frames per second; default: as its intrinsics' file says",
    )
    add_bag_arguments(process)
    fetch = verbs.add_parser(
        "fetch-hands", help="fetch the files of the hand backend mediapipe once: 36 MB, of which 12 are kept"
    )
    fetch.add_argument(
        "--to", type=folder, metavar="DIR", help="default: hands in $STVLA_CACHE, or else in ~/.cache/stvla"
    )
    check = verbs.add_parser("check", help="check info.json of every video below a folder; 1 if one is wrong")
    check.add_argument("folder", type=Path, metavar="FOLDER", help="of one video, or of many")
    compare = verbs.add_parser("compare", help="how far two annotations of the same videos are apart")
    compare.add_argument("first", type=Path, metavar="FIRST", help="what the pipeline or a person made of them")
    compare.add_argument("second", type=Path, metavar="SECOND", help="what somebody else made of them")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the figures, and each pair of actions, there")
    tables = verbs.add_parser("tables", help="write all videos below a folder as Parquet")
    tables.add_argument("folder", type=Path, metavar="FOLDER", help="of one video, or of many")
    tables.add_argument("output", type=Path, metavar="OUT", help="a new folder")
    samples = verbs.add_parser("samples", help="write all annotated videos below a folder as one file of samples")
    samples.add_argument("folder", type=Path, metavar="FOLDER", help="what `stvla annotate --export` wrote")
    samples.add_argument("--videos", type=Path, required=True, metavar="DIR", help="their images: results of process")
    samples.add_argument("--output", type=folder, required=True, metavar="DIR", help="samples.json and images")
    plan = verbs.add_parser("plan", help="how many episodes to look at before a batch is accepted")
    plan.add_argument("batch", type=whole(1, 10**9), metavar="N", help="episodes in the batch")
    option = plan.add_argument
    option("--wanted", type=share, default=0.95, metavar="P", help="share of good episodes to prove; default 0.95")
    option("--confidence", type=share, default=0.95, metavar="P", help="with which; default 0.95")
    option(
        "--usual", type=share, metavar="P",
        help="share that annotators usually reach: such a batch is then rejected in at most 10 %% of cases",
    )  # fmt: skip
    made = verbs.add_parser("synthesise", help="RGB-D videos of a simulated hand, with the truth about every frame")
    human_synthesise.add_arguments(made)


@dataclass(frozen=True)
class BagVideos:
    """Opens rosbag2s as videos, in workers too.

    Attributes:
        hints: What the operator says about them.
    """

    hints: BagHints

    def __call__(self, path: Path) -> VideoSource:
        """A bag without a known pose of the camera is read with an unknown one. Raises ConfigError: it has no frames."""
        import numpy as np

        from stvla_ros.data.st_human.readers.source import recorded
        from stvla_ros.description.robot import RobotConfig
        from stvla_ros.ros.bag_frames import BagRecording
        from stvla_ros.ros.frames import CameraConfig

        def opened(hints: BagHints) -> BagRecording:
            return BagRecording(path, CameraConfig(), RobotConfig(), hints=hints)

        try:
            bag, level = opened(self.hints), True
        except ConfigError:
            if self.hints.T_base_camera is not None:
                raise
            bag, level = opened(replace(self.hints, T_base_camera=np.eye(4))), False
        notes = (bag.damage,) if bag.damage else ()
        return recorded(path, bag, level, notes=notes, hints=self.hints.text)


class _VerbParser(Parser):
    """A parser for one of the verbs."""

    def __init__(self, **how: Any) -> None:
        super().__init__(how.pop("prog"), how.pop("description", ""), **how)


def run(arguments: Namespace) -> int:
    verbs: dict[str, Callable[[Namespace], int]] = {
        "process": _process,
        "fetch-hands": _fetch_hands,
        "check": _check,
        "compare": _compare,
        "tables": _tables,
        "samples": _samples,
        "plan": _plan,
        "synthesise": human_synthesise.run,
    }
    return verbs[arguments.verb](arguments)


def _process(arguments: Namespace) -> int:
    from stvla_ros.data.st_human.process.hand_models import check_models, models_folder
    from stvla_ros.data.st_human.process.hands import choose_hands
    from stvla_ros.data.st_human.process.parallel import ProcessSetup, specs
    from stvla_ros.data.st_human.process.video import ProcessSettings
    from stvla_ros.data.st_human.readers.images import FolderHints
    from stvla_ros.data.st_human.readers.layouts import Readers

    hints = FolderHints(arguments.color, arguments.depth, arguments.depth_unit, arguments.fps, arguments.intrinsics)
    readers = Readers(hints, BagVideos(hints_of(arguments)))
    sources = readers.find(arguments.folder, arguments.output)
    console = Console(soft_wrap=True, markup=False, highlight=False)
    models = arguments.hand_models or models_folder()
    hands = choose_hands(arguments.hands, models)
    if hands == "mediapipe":
        check_models(models)
    why = {"mediapipe": "has its files", "depth": "has no files of mediapipe: `stvla human fetch-hands` gets them"}[
        hands
    ]
    console.print(f"Hands by {hands}{f', as {models} {why}' if arguments.hands == 'auto' else ''}.")
    settings = ProcessSettings(hands, str(models.resolve()), arguments.template, not arguments.no_samples)
    setup = ProcessSetup(str(arguments.folder.resolve()), str(arguments.output.resolve()), settings, readers)
    engine, jobs = engine_of(arguments, {}, arguments.output)
    good, totals = 0, Counter[str]()
    seconds: dict[str, float] = {}
    try:
        for record in shown(engine(setup, specs(arguments.folder, sources), jobs), len(sources), "refused"):
            good += record.success
            totals.update({name: int(value) for name, value in record.facts.items()})
            for name, value in (record.times_s or {}).items():
                seconds[name] = seconds.get(name, 0.0) + value
            if not record.success:
                console.print(record.sentence)
    except KeyboardInterrupt:
        console.print("Stopped. The same command resumes here.")
        return INTERRUPTED
    console.print(
        f"{arguments.output}: {good} of {len(sources)} videos, {totals['actions']} actions: {totals['accepted']} to audit, "
        f"{totals['actions'] - totals['accepted']} to a person; {totals['samples']} samples."
    )
    if spent := ", ".join(f"{name} {value:.1f}" for name, value in sorted(seconds.items(), key=lambda item: -item[1])):
        console.print(f"Seconds: {spent}.")
    return 0 if good == len(sources) else NOT_CONFIRMED


def _fetch_hands(arguments: Namespace) -> int:
    from stvla_ros.data.st_human.process.hand_models import FILES, WHEEL, fetch_models, models_folder

    target = arguments.to or models_folder()
    done = "fetched" if fetch_models(target) else "already there"
    Console(soft_wrap=True, markup=False, highlight=False).print(
        f"{target}: {len(FILES)} files of {WHEEL}, {done} (Apache License 2.0)."
    )
    return 0


def _check(arguments: Namespace) -> int:
    infos, faults = _read(arguments.folder)
    console = Console(soft_wrap=True, markup=False, highlight=False)
    for fault in faults:
        console.print(fault)
    actions = [action for info in infos for action in info.actions]
    excluded = sum(info.excluded is not None for info in infos)
    console.print(
        f"{len(infos)} of {len(infos) + len(faults)} videos are right, {excluded} of them excluded; {len(actions)} actions"
        f"{'' if not actions else ': ' + _counted(Counter(action.template for action in actions))}."
    )
    return 1 if faults else 0


def _counted(numbers: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.most_common())


def _compare(arguments: Namespace) -> int:
    import json

    from stvla_ros.data.st_human.agreement import CONTACT_MM, FRAMES, PATH_MM, compare

    found = compare(_right(arguments.first), _right(arguments.second))
    rows = found.rows()
    console = Console(soft_wrap=True, markup=False, highlight=False)
    table = Table(
        "template", "in both", "only first", "only second", "F1", "contact, frames", "release, frames", "contact mm",
        "path RMS mm", "turn deg", "same sentence", "would pass",
    )  # fmt: skip
    for name, row in rows.items():
        table.add_row(
            name, str(row["both"]), str(row["only_first"]), str(row["only_second"]),
            _figure(row["segments_f1"], ".2f"),
            *(_figure(row[key], ".1f") for key in ("contact_frames", "release_frames", "contact_mm", "path_rms_mm", "turn_deg")),
            *(_figure(row[key], ".0%") for key in ("sentence", "agree")),
        )  # fmt: skip
    console.print(table)
    console.print(
        f"{found.videos} videos are in both. Frames are means, mm of contacts and degrees medians. Would pass: the same "
        f"sentence, contact and release within {FRAMES} frames, their points within {CONTACT_MM:g} mm, other points within "
        f"{PATH_MM:g} mm."
    )
    for place, alone in zip((arguments.first, arguments.second), found.only_in, strict=True):
        if alone:
            console.print(f"Only in {place}: {len(alone)} videos, not compared: {', '.join(alone[:3])}.")
    if arguments.json is not None:
        with written(arguments.json) as part:
            part.write_text(json.dumps({"tasks": rows, "pairs": [p.figures() for p in found.pairs]}, indent=1) + "\n")
    return 0


def _figure(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


def _tables(arguments: Namespace) -> int:
    from stvla_ros.data.st_human.tables import write_tables

    infos = _right(arguments.folder)
    write_tables(arguments.output, infos)
    actions = sum(len(info.actions) for info in infos)
    Console(soft_wrap=True, markup=False).print(f"{arguments.output}: {len(infos)} videos, {actions} actions")
    return 0


def _samples(arguments: Namespace) -> int:
    from stvla_ros.data.st_human.process.supervision import annotated_samples
    from stvla_ros.data.st_human.process.video import SAMPLES
    from stvla_ros.data.st_human.samples_json import write_samples

    infos = _right(arguments.folder)
    samples = annotated_samples(infos, arguments.videos, arguments.output)
    write_samples(arguments.output / SAMPLES, samples)
    Console(soft_wrap=True, markup=False).print(
        f"{arguments.output / SAMPLES}: {len(samples)} samples of {len(infos)} videos"
    )
    return 0


def _right(folder: Path) -> list[VideoInfo]:
    """All videos below a folder. Raises ConfigError if one is wrong."""
    infos, faults = _read(folder)
    if faults:
        raise ConfigError(f"{faults[0]} (`stvla human check` names all {len(faults)} that are wrong)")
    return infos


def _read(folder: Path) -> tuple[list[VideoInfo], list[str]]:
    """All videos below a folder that are right, and one sentence for each that is not."""
    from stvla_ros.data.st_human.info import INFO
    from stvla_ros.data.st_human.info_json import read_info

    paths = sorted(folder.rglob(INFO))
    if not paths:
        raise ConfigError(f"{folder}: wanted the {INFO} of at least one video in it, found none.")
    infos: list[VideoInfo] = []
    faults: list[str] = []
    place: dict[str, Path] = {}
    with count_bar(Console(file=sys.stderr), "videos") as bar:
        line = bar.add_task("", total=len(paths))
        for path in paths:
            try:
                info = read_info(path)
            except ConfigError as fault:
                faults.append(str(fault))
            else:
                if info.video.id in place:
                    faults.append(f"{path}: video.id: {place[info.video.id]} has the same id '{info.video.id}'.")
                else:
                    place[info.video.id] = path
                    infos.append(info)
            bar.advance(line)
    return infos, faults


def _plan(arguments: Namespace) -> int:
    from stvla_ros.data.st_human.acceptance import make_plan

    plan = make_plan(arguments.batch, arguments.wanted, arguments.confidence, arguments.usual)
    console = Console(highlight=False)
    console.print(
        f"Look at {plan.sample} of {plan.batch} episodes; accept the batch with at most {plan.allowed} defective ones: then at "
        f"least {100 * plan.wanted:g} % of it are good, with {100 * plan.confidence:g} % confidence.",
        soft_wrap=True,
    )
    table = Table("good episodes in the batch", "it is accepted in")
    for good in sorted({0.9, 0.95, 0.98, 0.99, 1.0, plan.wanted}):
        table.add_row(f"{100 * good:g} %", f"{100 * plan.accepts(good):.1f} % of cases")
    console.print(table)
    return 0
