"""``stvla calibrate``: the camera's pose from a board in the hand, or a check of it without a board."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace, _ArgumentGroup
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from stvla_ros import registry
from stvla_ros.calibration.board import APRILTAG, CHARUCO, Board, BoardConfig, sheet
from stvla_ros.calibration.cell import CalibrationArm, simulated_arm
from stvla_ros.calibration.drift import LIMIT_DEG, LIMIT_M
from stvla_ros.calibration.poses import MOUNTS, PoseConfig, mounted, show_board
from stvla_ros.calibration.report import LINE, PICTURE, RESULT, read_transform, write_report
from stvla_ros.calibration.session import (
    SESSION,
    Session,
    SessionConfig,
    Views,
    by_hand,
    poses_folder,
    read_session,
    read_views,
    visit,
)  # fmt: skip
from stvla_ros.calibration.solve import calibrate, pose_errors
from stvla_ros.commands.arguments import MAX_SEED, Parser, add_override_argument, whole
from stvla_ros.commands.calibrate_check import SLOW, ask, live_views, recorded_views, report
from stvla_ros.commands.exit_codes import NOT_CONFIRMED, of_outcome
from stvla_ros.commands.recordings import add_bag_arguments, hints_of, open_recording
from stvla_ros.config import ConfigError, build
from stvla_ros.errors import StageError
from stvla_ros.evaluate.stack import BAG, StackSettings, read_settings
from stvla_ros.geometry.se3 import pose
from stvla_ros.record.folder import make_run_folder
from stvla_ros.types import F64

SHEET_DPI = 600
GOOD_M, GOOD_DEG = 0.001, 0.1
"""A camera known less well (standard deviation) is reported as not good enough."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "what", nargs="?", choices=("camera", "board"), default="camera", metavar="WHAT",
        help="camera (default): calibrate it; board: write the board to print",
    )  # fmt: skip
    _add_source(parser.add_argument_group("where poses and images come from; default: the running robot over ROS"))
    _add_board(parser.add_argument_group("the board"))
    check: _ArgumentGroup = parser.add_argument_group("without a board")
    check.add_argument("--check", action="store_true", help="compare the arm's own shape with the depth image")
    check.add_argument(
        "--limit-mm",
        type=_positive,
        default=1000 * LIMIT_M,
        metavar="MM",
        help="largest drift of the workplace; default 3",
    )
    check.add_argument(
        "--limit-deg",
        type=_positive,
        default=LIMIT_DEG,
        metavar="DEG",
        help="largest drift of the camera's rotation; default 0.3",
    )
    parser.add_argument(
        "--publish", type=Path, metavar="FILE", help="publish the transform of a calibration.yaml until Ctrl-C"
    )
    parser.add_argument(
        "--output", type=Path, metavar="PATH",
        help="folder of the session, an earlier one is continued, default runs/<time>; of board: a .pdf or .png file, default board.pdf",
    )  # fmt: skip
    parser.add_argument("--params", type=Path, metavar="FILE", help="ROS 2 parameter file; default: the defaults")
    add_bag_arguments(parser)
    add_override_argument(parser)


def _add_source(group: _ArgumentGroup) -> None:
    group.add_argument(
        "--sim", action="store_true", help="the simulated cell, in this process; compares with the truth"
    )
    group.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="PATH",
        help="solve an earlier session, a recording or a rosbag2 again",
    )
    group.add_argument(
        "--by-hand", action="store_true", help="nothing is moved: guide the arm by hand, press Enter at each pose"
    )
    group.add_argument("--yes", action="store_true", help="do not ask before each motion")
    group.add_argument(
        "--poses",
        type=whole(1, 100),
        metavar="N",
        help="poses to take; default 18, for --check 4 (over ROS 1: the arm stays)",
    )
    group.add_argument("--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="other poses; default 0")
    group.add_argument(
        "--guess", type=_six, metavar="X,Y,Z,TX,TY,TZ",
        help="where the camera is and a point it looks at, base frame, metres, to 10 cm; default: TF's transform",
    )  # fmt: skip


def _add_board(group: _ArgumentGroup) -> None:
    plain = BoardConfig()
    group.add_argument(
        "--board", choices=(CHARUCO, APRILTAG), default=CHARUCO, metavar="KIND", help="charuco (default) or apriltag"
    )
    group.add_argument(
        "--columns",
        type=whole(3, 20),
        default=plain.columns,
        metavar="N",
        help=f"squares or tags; default {plain.columns}",
    )
    group.add_argument("--rows", type=whole(3, 20), default=plain.rows, metavar="N", help=f"default {plain.rows}")
    group.add_argument(
        "--square-mm",
        type=_positive,
        default=1000 * plain.square_m,
        metavar="MM",
        help=f"edge of a square, or tag to tag, as measured on the print; default {1000 * plain.square_m:g}",
    )
    group.add_argument(
        "--marker-mm",
        type=_positive,
        default=1000 * plain.marker_m,
        metavar="MM",
        help=f"edge of a marker; default {1000 * plain.marker_m:g}",
    )
    group.add_argument(
        "--mount",
        choices=MOUNTS,
        default=MOUNTS[0],
        metavar="HOW",
        help="edge (default): the fingers hold its upper edge; plate: it is fixed across the hand's axis",
    )


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0.0 < value < 1000.0:
        raise ArgumentTypeError(f"wanted a number over 0, got '{text}'")
    return value


def _six(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if (
        len(values) != 6
        or not np.isfinite(values).all()
        or np.hypot(values[3] - values[0], values[4] - values[1]) < 0.01
    ):
        raise ArgumentTypeError(f"wanted X,Y,Z,TX,TY,TZ with a view that is not straight down, got '{text}'")
    return values


def run(arguments: Namespace) -> int:
    console = Console(highlight=False, soft_wrap=True)
    if arguments.what == "board":
        return _write_board(arguments, console)
    if arguments.publish is not None:
        from stvla_ros.ros.calibration import publish_static

        return publish_static(read_transform(arguments.publish), lambda text: console.print(text, markup=False))
    if ((arguments.sim or arguments.by_hand) and arguments.source is not None) or (arguments.sim and arguments.by_hand):
        raise ConfigError("stvla calibrate: wanted one of --sim, --from and --by-hand.")
    settings = read_settings(
        arguments.params, None, dict(arguments.overrides), ("motion", "executor", "cell", "robot", BAG)
    )
    try:
        return _check(arguments, settings, console) if arguments.check else _camera(arguments, settings, console)
    except StageError as error:
        console.print(f"[red]{error.code.name}[/] {error.sentence}")
        return of_outcome(error.code)


def _board(arguments: Namespace) -> BoardConfig:
    values = {
        "kind": arguments.board, "columns": arguments.columns, "rows": arguments.rows,
        "square_m": arguments.square_mm / 1000, "marker_m": arguments.marker_mm / 1000,
    }  # fmt: skip
    return build(BoardConfig, values, "board")


def _write_board(arguments: Namespace, console: Console) -> int:
    config, path = _board(arguments), arguments.output or Path("board.pdf")
    if path.suffix.lower() not in (".pdf", ".png"):
        raise ConfigError(f"--output: wanted a file .pdf or .png, got '{path}'.")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet(config, SHEET_DPI)).convert("L").save(path, dpi=(SHEET_DPI, SHEET_DPI), resolution=SHEET_DPI)
    console.print(
        f"{path}: {config}, A4. Print at 100 %, glue it on a stiff plate, and measure a square and the ruler."
    )
    return 0


def _camera(arguments: Namespace, settings: StackSettings, console: Console) -> int:
    if arguments.source is not None:
        return _solve(arguments, settings, arguments.source, console, None)
    folder, truth = arguments.output or make_run_folder(Path("runs")), None
    with _arm(arguments, settings) as arm:
        session = Session(folder, replace(arm.session, board=_board(arguments)))
        if len(session):
            console.print(f"{folder}: {len(session)} poses from before.")
        tell = lambda text: console.print(text, markup=False)  # noqa: E731
        try:
            if arguments.by_hand:
                by_hand(session, arm.look, lambda: ask(console, "Enter: take this pose; q: solve"), tell)
            else:
                _move(arguments, settings, arm, session, console)
        except StageError:
            console.print(f"{len(session)} poses are in {folder}; the same command with --output {folder} goes on.")
            raise
        truth = arm.truth
    return _solve(arguments, settings, folder, console, truth)


def _move(
    arguments: Namespace, settings: StackSettings, arm: CalibrationArm, session: Session, console: Console
) -> None:
    board, c = session.config.board, settings.executor
    T = mounted(board, arguments.mount)
    low, high = np.array([c.x_min_m, c.y_min_m, c.z_min_m]), np.array([c.x_max_m, c.y_max_m, c.z_max_m])
    config = PoseConfig(count=max(arguments.poses or PoseConfig().count, 8), seed=arguments.seed)
    console.print("Looking for poses that show the board.")
    poses = show_board(arm.camera, T, board, config, low, high, arm.robot.state().q_rad, settings.robot.limits)
    motion = settings.backends["motion"]
    planner = registry.create("motion", motion, {**settings.sections["motion"], **SLOW}, settings.robot.limits)
    agreed = (lambda: True) if arguments.yes or arguments.sim else (lambda: ask(console, "Enter: move; q: solve"))
    if not arguments.sim:
        console.print("Clear the workspace: the planner knows the table, the arm and the board, and nothing else.")
    tell = lambda text: console.print(text, markup=False)  # noqa: E731
    visit(session, arm.robot, planner, arm.look, poses, config.count, T, agreed, tell, arm.cancel)


def _solve(arguments: Namespace, settings: StackSettings, folder: Path, console: Console, truth: F64 | None) -> int:
    """Solve a folder or a bag, write the report, print the figures."""
    session = (
        read_session(folder)
        if (folder / SESSION).exists()
        else SessionConfig(_board(arguments), settings.robot.base_frame)
    )
    frames = open_recording(poses_folder(folder), settings, console, hints_of(arguments))
    views: Views = read_views(frames, Board(session.board))
    found = calibrate(views.samples, views.K)
    out = arguments.output or (folder if (folder / SESSION).exists() else make_run_folder(Path("runs")))
    out.mkdir(parents=True, exist_ok=True)
    transform = write_report(out, found, views, session)
    x, y, z = found.T_base_camera[:3, 3]
    console.print(
        f"Camera at ({x:.4f}, {y:.4f}, {z:.4f}) m, +-{1000 * found.std_m:.2f} mm, +-{np.degrees(found.std_rad):.3f} deg "
        f"(standard deviations), from {len(found.used)} of {len(views.samples)} poses."
    )
    console.print(
        f"Residual {found.rms_px:.2f} px; a pose that was left out: median {np.median(found.left_out_px):.2f} px and "
        f"{1000 * np.median(found.left_out_m):.2f} mm, largest {found.left_out_px.max():.2f} px and {1000 * found.left_out_m.max():.2f} mm."
    )
    console.print(
        "Closed forms alone: " + ", ".join(f"{name} {rms:.2f} px" for name, rms in found.methods.items()) + "."
    )
    if truth is not None:
        off_m, off_rad = pose_errors(found.T_base_camera, truth)
        console.print(f"The simulator's camera is {1000 * off_m:.2f} mm and {np.degrees(off_rad):.3f} deg from there.")
    console.print(f"{out}/{RESULT}, {PICTURE}, {LINE}:", markup=False)
    console.print(transform.command, markup=False)
    if found.doubt is not None:
        console.print(f"[red]Doubt[/] {found.doubt}")
    if found.std_m > GOOD_M or np.degrees(found.std_rad) > GOOD_DEG:
        console.print(
            f"[red]Not good enough[/] (wanted {1000 * GOOD_M:g} mm and {GOOD_DEG:g} deg): take more poses with --output {out}, "
            "more different, or with the board nearer."
        )
        return NOT_CONFIRMED
    return 0 if found.doubt is None else NOT_CONFIRMED


def _arm(arguments: Namespace, settings: StackSettings) -> AbstractContextManager[CalibrationArm]:
    if arguments.sim:
        config = _board(arguments)
        board = None if arguments.check else (config, mounted(config, arguments.mount))
        return simulated_arm(settings.cell, board, arguments.seed)
    from stvla_ros.ros.calibration import live_arm

    moves = not arguments.by_hand and not (arguments.check and (arguments.poses or 1) == 1)
    return live_arm(settings, arguments.params, _looking(arguments.guess), moves)


def _looking(guess: tuple[float, ...] | None) -> F64 | None:
    """(4, 4) of a camera at a place that looks at another, its horizon level."""
    if guess is None:
        return None
    eye, target = np.array(guess[:3]), np.array(guess[3:])
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return pose(np.column_stack([right, np.cross(forward, right), forward]), eye)


def _check(arguments: Namespace, settings: StackSettings, console: Console) -> int:
    if arguments.source is not None:
        return report(recorded_views(arguments, settings, console), arguments, console)
    with _arm(arguments, settings) as arm:
        views = live_views(arm, arguments, settings, console)
    return report(views, arguments, console)
