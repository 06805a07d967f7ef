"""Takes poses and keeps them as they are taken: a session's folder is a recording, which can be solved again.

::

    session.json     board, frames, how the board is held
    recording.json   poses and images, see stvla_ros.data.recording
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from stvla_ros.calibration.board import Board, BoardConfig, Detection
from stvla_ros.calibration.solve import CalibrationError, Sample
from stvla_ros.config import build
from stvla_ros.data.recording import INDEX, RecordedFrame, Recording, RecordingWriter
from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.files import read_json, written
from stvla_ros.interfaces import MotionPlanner, Robot
from stvla_ros.types import F64, U8, Box, CollisionWorld, MotionRequest, RgbdFrame, RobotState

SESSION = "session.json"
STILL_RAD = 0.002
"""The arm moved if a joint differs by more before and after the image."""

BLIND_POSES = 4
"""After so many first poses without a board in view, the rest would be in vain."""

HELD_THICK_M = 0.02
NOT_PLANNED = (OutcomeCode.NO_IK, OutcomeCode.NO_PATH, OutcomeCode.COLLISION)

Tell = Callable[[str], None]
Look = Callable[[], RecordedFrame]
"""A frame of the arm at rest, with its state; it was exposed after the call."""


@dataclass(frozen=True)
class SessionConfig:
    """What a session's folder says about itself.

    Attributes:
        board: The board that was shown.
        base_frame: TF frame of the robot's base.
        camera_frame: TF frame of the camera's optical frame.
        root_frame: TF frame at the root of the camera's own tree (realsense-ros: camera_link); may be the same.
        T_root_camera: (4, 4) as rows: the optical frame in the root's.
    """

    board: BoardConfig = field(default_factory=BoardConfig)
    base_frame: str = "panda_link0"
    camera_frame: str = "camera_color_optical_frame"
    root_frame: str = "camera_color_optical_frame"
    T_root_camera: tuple[float, ...] = tuple(np.eye(4).ravel().tolist())


class Session:
    """The poses of a folder; new ones are added at the end.

    Args:
        folder: New, or an earlier session with the same board.
        config: What is written into a new folder.

    Raises:
        ConfigError: The folder holds something else, or another board.
    """

    def __init__(self, folder: Path, config: SessionConfig) -> None:
        self.folder, self.config = folder, config
        self._taken: list[Sample] = []
        if (folder / SESSION).exists():
            self.config = read_session(folder)
            if self.config.board != config.board:
                raise CalibrationError(
                    f"{folder}: was taken with the board {self.config.board}, not {config.board}: choose a new --output."
                )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise CalibrationError(f"{folder}: wanted a new folder or an earlier session, found other files in it.")
        with written(folder / SESSION) as part:
            part.write_text(json.dumps(asdict(self.config), indent=1), encoding="utf-8")
        self._board = Board(self.config.board)
        self._writer = RecordingWriter(folder / "poses", resume=True)

    def __len__(self) -> int:
        """Poses in the folder."""
        return len(self._writer)

    def add(self, recorded: RecordedFrame) -> Detection | None:
        """Keep a pose if the board is seen; returns what was seen."""
        found = self._board.detect(recorded.frame.rgb)
        if found is not None:
            self._writer.append(recorded.frame, recorded.robot)
        return found


def read_session(folder: Path) -> SessionConfig:
    """Raises ConfigError for a folder that is not a session's."""
    values = read_json(folder / SESSION, CalibrationError, "a calibration session")
    if not isinstance(values, dict):
        raise CalibrationError(f"{folder / SESSION}: wanted settings of a session, found {type(values).__name__}.")
    return build(SessionConfig, values, str(folder / SESSION))


def poses_folder(folder: Path) -> Path:
    """The recording in a session's folder, or the folder itself."""
    return folder / "poses" if (folder / "poses" / INDEX).exists() else folder


@dataclass(frozen=True, eq=False)
class Views:
    """Samples of a recording.

    Attributes:
        samples: Frames with a board and a state of the arm.
        K: (3, 3) intrinsics.
        picture: (H, W, 3) one of the images.
        frames: Number of frames looked at.
    """

    samples: list[Sample]
    K: F64
    picture: U8
    frames: int


def read_views(frames: Iterable[RecordedFrame], board: Board) -> Views:
    """Find the board in recorded frames. Of frames in a row without motion in between, the first counts.

    Raises:
        CalibrationError: There is no frame with a state of the arm, or the intrinsics change on the way.
    """
    samples: list[Sample] = []
    K: F64 | None = None
    picture, count, last = np.empty((0, 0, 3), np.uint8), 0, np.full(7, np.inf)
    for recorded in frames:
        count += 1
        robot, frame = recorded.robot, recorded.frame
        if robot is None or _moving(robot) or np.abs(robot.q_rad - last).max() < 0.02:
            continue
        found = board.detect(frame.rgb)
        if found is None:
            continue
        if K is not None and not np.allclose(K, frame.camera.K, atol=0.01):
            raise CalibrationError("The intrinsics change from frame to frame: take all poses with one resolution.")
        K, picture, last = frame.camera.K, frame.rgb, robot.q_rad
        samples.append(Sample.of(robot.q_rad, found, K))
    if K is None:
        raise CalibrationError(
            f"The board ({board.config}) is in none of {count} frames with a resting arm: is it this board, in view, lit, and sharp?"
        )
    return Views(samples, K, picture, count)


def _moving(robot: RobotState) -> bool:
    return bool(np.nanmax(np.abs(robot.dq_rad_s), initial=0.0) > 0.02)


def read_folder(folder: Path, board: Board) -> Views:
    """:func:`read_views` of a session's folder."""
    return read_views(Recording(poses_folder(folder)), board)


def visit(
    session: Session, robot: Robot, planner: MotionPlanner, look: Look, poses: Iterable[F64], count: int,
    T_tcp_board: F64, agreed: Callable[[], bool], tell: Tell, cancel: CancelToken,
) -> None:  # fmt: skip
    """Move through poses and keep an image of each, until the session has ``count``.

    Nothing but the table, the arm and the board is known to the planner: before the calibration the camera cannot say
    where obstacles are. The operator must have cleared the workspace.

    Args:
        session: Where they are kept.
        robot: Moved by this function alone.
        planner: Plans each motion, with the board in the hand.
        look: Takes an image.
        poses: (4, 4) ``T_base_tcp``; those without a path are passed over.
        count: Poses that the session shall have.
        T_tcp_board: (4, 4) how the board is held, roughly.
        agreed: Asked before each motion; False ends the session.
        tell: Gets a sentence per pose.
        cancel: Stops the arm when set.

    Raises:
        StageError: Of the robot; the poses so far are kept.
        CalibrationError: The board is not seen in the first poses.
    """
    w, h = session.config.board.size_m
    held = Box(T_tcp_board, np.array([w + 0.02, h + 0.02, HELD_THICK_M]))
    world = CollisionWorld(np.empty((0, 3), np.float32), 0.01, held)
    blind, before = 0, len(session)
    for i, T in enumerate(poses):
        if len(session) >= count or not agreed():
            return
        state = robot.state()
        try:
            path = planner.plan(MotionRequest(state.q_rad, T, world, gripper_m=state.gripper_m))
        except StageError as error:
            if error.code not in NOT_PLANNED:
                raise
            tell(f"pose {i + 1}: passed over, {error.sentence}")
            continue
        robot.follow(path, cancel)
        found = session.add(look())
        blind += found is None
        if found is None and blind >= BLIND_POSES and len(session) == before:
            raise CalibrationError(
                f"The board is not seen in the first {blind} poses: is it in the hand as --mount says, is it the board "
                f"{session.config.board}, and is the camera's rough pose right (--guess)?"
            )
        seen = "no board seen" if found is None else f"{len(found.px)} corners"
        tell(f"pose {i + 1}: {seen}; {len(session)} of {count} poses")


def by_hand(session: Session, look: Look, more: Callable[[], bool], tell: Tell) -> None:
    """Keep a pose each time the operator says so (``more``), until it returns False."""
    while more():
        try:
            found = session.add(look())
        except StageError as error:
            tell(f"not taken: {error.sentence}")
            continue
        tell("not taken: the board is not seen" if found is None else f"{len(found.px)} corners; {len(session)} poses")


def at_rest(take: Callable[[], RgbdFrame], state: Callable[[], RobotState]) -> RecordedFrame:
    """An image with the arm's state, which must be the same before and after.

    Raises:
        StageError: STALE_STATE when the arm moved meanwhile, and as the two functions.
    """
    before, frame, after = state(), take(), state()
    if np.abs(after.q_rad - before.q_rad).max() > STILL_RAD:
        raise StageError(
            OutcomeCode.STALE_STATE, "The arm moved while the image was taken: hold it still and try again."
        )
    return RecordedFrame(frame, after)
