"""The other side of :mod:`stvla_ros.evaluate.libero.environment`: a program in LIBERO's own Python, which has other versions of
NumPy and MuJoCo than ours. It imports nothing of this package.

    PYTHON worker.py SUITE TASK SEED SIDE_PX

answers requests on its standard input, a line of JSON each: ``{"reset": K}`` sets initial state K, ``{"steps": [[...], ...]}``
executes actions until one reaches the goal. An answer is a line of JSON, then, unless the goal is reached, both images.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

CAMERAS = ("agentview", "robot0_eye_in_hand")

WAIT = 10
NOTHING = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""Things fall onto the table during the first steps (published evaluations of LIBERO, e.g. OpenVLA's and openpi's)."""


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the packages print
    suite, task, seed, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

    from libero.libero import benchmark, get_libero_path
    from libero.libero.envs import OffScreenRenderEnv

    tasks = benchmark.get_benchmark_dict()[suite]()
    chosen, states = tasks.get_task(task), tasks.get_task_init_states(task)
    file = Path(get_libero_path("bddl_files")) / chosen.problem_folder / chosen.bddl_file
    env = OffScreenRenderEnv(bddl_file_name=str(file), camera_heights=side, camera_widths=side)
    env.seed(seed)
    for camera in CAMERAS:  # an image costs ten times as much as a step: what is asked for is rendered after the steps
        for attribute in ("enabled", "active"):
            env.env.modify_observable(f"{camera}_image", attribute, False)

    def execute(actions: list[list[float]]) -> tuple[Any, bool, int]:
        """What is measured at last, whether the goal is reached, and after how many steps."""
        for count, action in enumerate(actions, 1):
            now, _, done, _ = env.step(action)
            if done:
                return now, True, count
        return now, False, len(actions)

    def answer(fields: dict[str, Any], images: list[bytes]) -> None:
        answers.write(json.dumps(fields).encode() + b"\n" + b"".join(images))
        answers.flush()

    def tell(now: Any, done: bool, steps: int) -> None:
        state = {name: [float(x) for x in now[f"robot0_{name}"]] for name in ("eef_pos", "eef_quat", "gripper_qpos")}
        views = [] if done else [env.env.sim.render(camera_name=name, width=side, height=side) for name in CAMERAS]
        answer({**state, "done": done, "steps": steps}, [view[::-1, ::-1].tobytes() for view in views])

    answer({"instruction": chosen.language, "tasks": tasks.n_tasks, "states": len(states)}, [])
    for line in sys.stdin:
        request = json.loads(line)
        if "reset" in request:
            env.reset()
            env.set_init_state(states[request["reset"]])
            now, _, _ = execute([list(NOTHING)] * WAIT)
            tell(now, False, 0)
        else:
            tell(*execute(request["steps"]))
    env.close()


if __name__ == "__main__":
    main()
