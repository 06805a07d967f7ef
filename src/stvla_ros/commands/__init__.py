"""The subcommands of ``stvla``, one module each."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

import stvla_ros.evaluate  # names the planner 'oracle'
import stvla_ros.ros.backends  # noqa: F401 - names the motion planner 'moveit'
from stvla_ros.commands.arguments import Parser
from stvla_ros.tables import PROTOCOLS

OPERATE, EVALUATE, TRAIN = "Operate", "Evaluate", "Collect data and train"
ROLES = (OPERATE, EVALUATE, TRAIN)
"""Headings under which docs/commands.md lists the commands."""


@dataclass(frozen=True)
class Entry:
    """A command in the help and in docs/commands.md.

    Attributes:
        role: One of :data:`ROLES`.
        summary: What it does, in one line.
        examples: Command lines to copy.
    """

    role: str
    summary: str
    examples: tuple[str, ...]


COMMANDS = {
    "up": Entry(
        OPERATE,
        "start the stack and keep it running until Ctrl-C",
        (
            "stvla up --task stack_cube --seed 1",
            "stvla up --robot real --camera external --params my_cell.yaml",
            "stvla up --planner openai --set planner.openai.model=MODEL",
        ),
    ),
    "run": Entry(
        OPERATE,
        "give the running stack an instruction and follow it to its end",
        ('stvla run "Stack the purple block on the violet block."',),
    ),
    "serve": Entry(
        OPERATE,
        "serve a policy to a robot over the network, from a computer with a GPU",
        (
            "stvla serve --policy 3dfa",
            "stvla serve --policy 3dda --set policy.3dda.checkpoint=best.safetensors --host 0.0.0.0 --token-file token",
        ),
    ),
    "record": Entry(
        OPERATE,
        "record what a running stack sees and decides, as a rosbag2 (`stvla up --record` starts both)",
        (
            "stvla record",
            "stvla record --keep failures --output runs/night",
            "stvla record --topics",
        ),
    ),
    "console": Entry(
        OPERATE,
        "serve the operator console for a running stack: see, approve, stop (`stvla up --console` starts both)",
        ("stvla console", "stvla console --port 9000"),
    ),
    "stop": Entry(
        OPERATE,
        "stop the arm now, and refuse motion until `stvla stop --release`",
        ("stvla stop", "stvla stop --params my_cell.yaml", "stvla stop --release"),
    ),
    "recover": Entry(
        OPERATE,
        "make a robot ready again that has stopped itself (reflex, stop button); the arm does not move",
        ("stvla recover", "stvla recover --again"),
    ),
    "release": Entry(OPERATE, "put down what the gripper holds, at a free place on the table", ("stvla release",)),
    "demo": Entry(
        OPERATE,
        "start everything in simulation, carry out one task, judge it, leave a film",
        ("stvla demo", "stvla demo --task push_buttons --seed 4", "stvla demo --all --no-film"),
    ),
    "doctor": Entry(
        OPERATE,
        "say in one line each what is wrong: machine, running stack, robot, planner, or a recording",
        (
            "stvla doctor",
            "stvla doctor stack --json",
            "stvla doctor planner --planner openai --set planner.openai.model=MODEL",
            "stvla doctor robot --params my_cell.yaml",
            "stvla doctor my_bag",
        ),
    ),
    "calibrate": Entry(
        OPERATE,
        "find the camera's pose with a board in the hand, or check it without one",
        (
            "stvla calibrate board --output board.pdf",
            "stvla calibrate --sim --output runs/calibration",
            "stvla calibrate --from runs/calibration",
            "stvla calibrate --guess 1.3,0,0.9,0.4,0,0.2 --params my_cell.yaml",
            "stvla calibrate --check --sim",
        ),
    ),
    "backends": Entry(
        OPERATE,
        "list the backends that can be chosen, and whether they load on this machine",
        ("stvla backends", "stvla backends --kind planner"),
    ),
    "evaluate": Entry(
        EVALUATE,
        "run many seeded episodes in simulation and print success rates",
        (
            "stvla evaluate --tasks pick_place,stack_cube,push_buttons --episodes 50",
            "stvla evaluate --noise --film failures --output runs/noise",
            "stvla evaluate --disturb move --tasks pick_place,stack_cube --episodes 25",
            "stvla evaluate --engine ray --tasks pick_place --episodes 500",
        ),
    ),
    "evaluate-planner": Entry(
        EVALUATE,
        "ask a planner's model questions with known answers (also `stvla evaluate planner`)",
        ("stvla evaluate planner --planner heatmap --dataset words --data test/planning/instructions.txt",),
    ),
    "evaluate-libero": Entry(
        EVALUATE,
        "run LIBERO's tasks with a policy server of openpi's protocol (also `stvla evaluate libero`)",
        ("stvla evaluate libero --python libero/bin/python --tasks libero_spatial-0 --episodes 5",),
    ),
    "evaluate-protocol": Entry(
        EVALUATE,
        "run a table of the paper by its committed protocol (also `stvla evaluate table2`, `table3`, `realworld`)",
        (
            "stvla evaluate table2 --output runs/table2",
            "stvla evaluate table3 --rows 'scripted-*' --limit 5",
            "stvla evaluate realworld --weights weights --jobs 2",
        ),
    ),
    "guide": Entry(
        EVALUATE,
        "show what guidance does to a recording or a simulated scene: film, pictures, decisions",
        (
            "stvla guide --task pick_place --seed 3 --noise",
            'stvla guide my_bag --instruction "Put the red block in the plate."',
        ),
    ),
    "view": Entry(
        EVALUATE,
        "show a recording in Rerun: camera, cloud, robot on one timeline; an .rrd file where there is no screen",
        ("stvla view my_bag", "stvla view my_bag --output my_bag.rrd"),
    ),
    "replay": Entry(
        EVALUATE,
        "decide again on a recording: the same decisions, as numbers; or two sets of settings against each other",
        (
            "stvla replay runs/20260728-101502",
            "stvla replay runs --against other.yaml --output replays",
            "stvla replay my_bag --against --policy 3dfa --set policy.3dfa.checkpoint=best.safetensors",
            "stvla replay my_bag --golden my_bag.golden.json",
        ),
    ),
    "collect": Entry(
        TRAIN,
        "collect demonstrations for training: successful episodes in simulation, or recordings from a robot",
        (
            "stvla collect --tasks pick_place --episodes 250 --output data/pick_place",
            "stvla collect --from runs --output data/robot",
            'stvla collect --from my_bag --instruction "Put the red block in the plate." --output data/robot',
        ),
    ),
    "synthesise": Entry(
        TRAIN,
        "make data of relations in simulation: an expert's episodes, other views of them, questions, a LeRobot set",
        (
            "stvla synthesise --episodes 500 --views 3 --output data/arrange",
            "stvla synthesise --split unseen --episodes 50 --views 0 --output data/arrange_unseen",
        ),
    ),
    "annotate": Entry(
        TRAIN,
        "serve the annotation tool: people segment, correct, audit and accept videos of hands (ST-Human)",
        (
            "stvla annotate --data st_human",
            "stvla annotate --data st_human --add Ann:annotator --add Bo:auditor --add Cem:admin",
            "stvla annotate --data st_human --host 0.0.0.0",
            "stvla annotate --data st_human --export accepted",
        ),
    ),
    "export-lerobot": Entry(
        TRAIN,
        "write episodes, recordings or bags as a LeRobotDataset v3 (also `stvla export lerobot`)",
        (
            "stvla export lerobot data/pick_place --output sets/pick_place",
            "stvla export lerobot runs --color lossy --output sets/runs",
        ),
    ),
    "import-lerobot": Entry(
        TRAIN,
        "make episodes or recordings of a LeRobotDataset v3 (also `stvla import lerobot`)",
        ("stvla import lerobot sets/pick_place --output data/imported",),
    ),
    "train": Entry(
        TRAIN,
        "train a policy on collected episodes: a named experiment, resumable, with curves",
        ("stvla train", "stvla train nano-3dfa --data data/pick_place --output runs/nano"),
    ),
    "train-pss": Entry(
        TRAIN,
        "compare the gradients of two losses over the checkpoints of a run (also `stvla train pss`)",
        (
            "stvla train pss runs/nano --data data/pick_place --losses position,rotation",
            "stvla train pss runs/sft-st-human --data st_human.json --losses pointing,trajectory",
        ),
    ),
    "policy": Entry(
        TRAIN,
        "inspect a policy checkpoint, or convert a released one",
        ("stvla policy inspect runs/nano/best.safetensors", "stvla policy convert RELEASED.pth OUT.safetensors"),
    ),
    "scenes": Entry(
        TRAIN,
        "render simulated scenes with true answers, for training and testing small planners",
        ("stvla scenes --output runs/scenes --split train --count 4000",),
    ),
    "train-planner": Entry(
        TRAIN,
        "train a small planner on rendered scenes: heatmap or nano, resumable, with curves",
        ("stvla train-planner heatmap --data runs/scenes --output runs/heatmap",),
    ),
    "human": Entry(
        TRAIN,
        "make ST-Human data of videos of hands, check and compare it, make tables and samples of it, plan acceptance, synthesise",
        (
            "stvla human fetch-hands",
            "stvla human process videos --output st_human --template put_on",
            "stvla human check st_human",
            "stvla human compare st_human accepted",
            "stvla human tables st_human tables",
            "stvla human samples accepted --videos st_human --output train",
            "stvla human plan 500 --usual 0.985",
            "stvla human synthesise --output runs/hands",
        ),
    ),
    "sft": Entry(
        TRAIN,
        "fine-tune a Qwen3-VL planner with LoRA: a named experiment, resumable, with curves",
        ("stvla sft", "stvla sft st-human --model MODEL --data st_human.json"),
    ),
}
"""All commands by name, those of a role together."""


__all__ = ["COMMANDS", "EVALUATE", "OPERATE", "PROTOCOLS", "ROLES", "TRAIN", "Command", "Entry", "load"]


class Command(Protocol):
    """What a module of this package offers."""

    def add_arguments(self, parser: Parser) -> None: ...

    def run(self, arguments: Namespace) -> int:
        """The exit code.

        Raises:
            ConfigError: Something that the user can correct.
            ConnectionError: No stack answers.
        """
        ...


def load(name: str) -> Command:
    """The module of a subcommand."""
    return cast(Command, import_module(f"{__name__}.{name.replace('-', '_')}"))
