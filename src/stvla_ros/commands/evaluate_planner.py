"""``stvla evaluate-planner`` (or ``stvla evaluate planner``): questions with known answers for a planner's model."""

from __future__ import annotations

import json
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from stvla_ros import registry
from stvla_ros.commands.arguments import MAX_SEED, Parser, add_override_argument, whole
from stvla_ros.commands.exit_codes import INTERRUPTED
from stvla_ros.commands.progress import count_bar
from stvla_ros.config import ConfigError
from stvla_ros.data.st_human.questions import ST_HUMAN
from stvla_ros.evaluate.planner.datasets import COMPAT, PUBLISHED
from stvla_ros.planning.coordinates import CONVENTIONS

if TYPE_CHECKING:
    from stvla_ros.evaluate.planner.question import Question
    from stvla_ros.evaluate.planner.report import Scored
    from stvla_ros.evaluate.planner.run import Replies
    from stvla_ros.evaluate.planner.scoring import Judge
    from stvla_ros.planning.chat import ChatModel


DATASETS = {dataset.name: dataset for dataset in (ST_HUMAN, *PUBLISHED)}
"""Name -> test set."""


def positive(text: str) -> float:
    """An argument type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise ArgumentTypeError(f"wanted a number above 0, got '{text}'")
    return value


def add_arguments(parser: Parser) -> None:
    names = registry.names("planner")
    parser.add_argument("--planner", choices=names, metavar="NAME", help=f"{', '.join(names)}; default: the file's")
    parser.add_argument("--dataset", choices=tuple(DATASETS), metavar="NAME", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with the test set")
    parser.add_argument("--limit", type=whole(1, 10**7), metavar="N", help="ask only N questions, drawn by --seed")
    parser.add_argument("--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="for the draw of --limit")
    parser.add_argument(
        "--max-tokens", type=whole(8, 16384), default=512, metavar="N", help="longest answer; default 512"
    )
    parser.add_argument(
        "--coordinates", choices=CONVENTIONS, default=CONVENTIONS[0], metavar="NAME", help=", ".join(CONVENTIONS)
    )
    parser.add_argument(
        "--compat",
        choices=COMPAT,
        default=COMPAT[0],
        metavar="NAME",
        help=f"whose way to sum up the set: {', '.join(COMPAT)}",
    )
    parser.add_argument(
        "--spot-radius",
        type=positive,
        default=30.0,
        metavar="N",
        help="a point counts as right within N thousandths; default 30",
    )
    parser.add_argument(
        "--depth-ratio",
        type=positive,
        default=0.05,
        metavar="N",
        help="a depth counts as right within this fraction; default 0.05",
    )
    parser.add_argument(
        "--encoder", type=Path, metavar="DIR", help="for BERTScore; default: words only (token F1, ROUGE-L)"
    )
    parser.add_argument(
        "--encoder-layer", type=int, default=-1, metavar="N", help="layer of the encoder; 17 for roberta-large"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="an existing one is resumed")
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file with the planner's settings")
    add_override_argument(parser)


def run(arguments: Namespace) -> int:
    if arguments.dataset is None or arguments.data is None:
        raise ConfigError(
            "stvla evaluate planner: wanted --dataset NAME and --data DIR: docs/planner_evaluation.md lists them."
        )
    folder = arguments.output or Path("runs") / time.strftime(f"{arguments.dataset}-%Y%m%d-%H%M%S")
    console = Console()
    try:
        _evaluate(arguments, folder, console)
    except KeyboardInterrupt:
        console.print(f"Stopped. To resume, give the same command with --output {folder}.", soft_wrap=True)
        return INTERRUPTED
    console.print(f"{folder}/results.json, results.txt, replies.jsonl", soft_wrap=True)
    return 0


def _evaluate(arguments: Namespace, folder: Path, console: Console) -> None:
    from stvla_ros.evaluate.planner.question import PromptStyle
    from stvla_ros.evaluate.planner.report import scored
    from stvla_ros.evaluate.planner.run import Replies, chat_model
    from stvla_ros.evaluate.stack import read_settings

    settings = read_settings(arguments.params, {"planner": arguments.planner}, dict(arguments.overrides), ("planner",))
    judge = _judge(arguments)  # reports a missing encoder before hours of questions
    questions = _chosen(DATASETS[arguments.dataset].read(arguments.data, PromptStyle(arguments.coordinates)), arguments)
    asked = {
        "planner": settings.backends["planner"],
        "settings": dict(settings.sections.get("planner", {})),
        "dataset": arguments.dataset,
        "data": str(arguments.data.resolve()),
        "coordinates": arguments.coordinates,
        "max_tokens": arguments.max_tokens,
    }
    replies = Replies(folder, asked)
    model = chat_model(settings)
    _ask(model, questions, replies, arguments.max_tokens, console)
    _conclude(arguments, folder, {**asked, "model": model.name}, scored(questions, replies.known, judge), console)


def _judge(arguments: Namespace) -> Judge:
    from stvla_ros.evaluate.planner.metrics import BertScore
    from stvla_ros.evaluate.planner.scoring import Judge

    similar = BertScore(arguments.encoder, arguments.encoder_layer) if arguments.encoder else None
    exact = arguments.dataset == "st-human"
    return Judge(arguments.coordinates, arguments.spot_radius, arguments.depth_ratio, similar, strict_paths=exact)


def _chosen(questions: Sequence[Question], arguments: Namespace) -> list[Question]:
    """All of them, or ``--limit`` of them, drawn at random, in their order."""
    import random

    if arguments.limit is None or arguments.limit >= len(questions):
        return list(questions)
    return [questions[i] for i in sorted(random.Random(arguments.seed).sample(range(len(questions)), arguments.limit))]


def _ask(model: ChatModel, questions: Sequence[Question], replies: Replies, max_tokens: int, console: Console) -> None:
    from stvla_ros.evaluate.planner.run import ask_all

    known = sum(q.id in replies.known for q in questions)
    with count_bar(console, "questions") as bar:
        line = bar.add_task("", total=len(questions), completed=known)
        ask_all(model, questions, replies, max_tokens, lambda _: bar.update(line, advance=1))


def _conclude(
    arguments: Namespace, folder: Path, asked: Mapping[str, Any], results: Sequence[Scored], console: Console
) -> None:
    from stvla_ros.evaluate.planner.report import report, shown, table, to_json
    from stvla_ros.versions import versions

    rows, total = report(results), dict(DATASETS[arguments.dataset].summary(results, arguments.compat))
    counted = {
        "compat": arguments.compat,
        "spot_radius": arguments.spot_radius,
        "depth_ratio": arguments.depth_ratio,
        "encoder": str(arguments.encoder or ""),
        "encoder_layer": arguments.encoder_layer,
    }
    content = {"settings": {**asked, **counted}, "versions": versions(), "summary": total, **to_json(rows, results)}
    (folder / "results.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = [f"{arguments.dataset} ({arguments.compat}) {name}: {shown(name, value)}" for name, value in total.items()]
    for target in (console, Console(file=(folder / "results.txt").open("w"), width=110)):
        target.print(table(rows, f"{asked['model']} on {arguments.dataset}, {len(results)} questions"))
        for line in lines:
            target.print(line, soft_wrap=True, markup=False)
