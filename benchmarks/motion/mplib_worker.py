"""Answers the queries with mplib; runs in its own environment because mplib needs numpy 1.

    python mplib_worker.py FOLDER

FOLDER holds panda.urdf, panda.srdf, limits.json and queries.npz; answers.npz is written there.
"""

import json
import sys
import time
from pathlib import Path

import mplib
import numpy as np
from mplib.collision_detection import fcl


def main(folder: Path) -> None:
    limits = json.loads((folder / "limits.json").read_text())
    planner = mplib.Planner(
        urdf=str(folder / "panda.urdf"),
        srdf=str(folder / "panda.srdf"),
        move_group="panda_hand_tcp",
        joint_vel_limits=np.array(limits["velocity"]),
        joint_acc_limits=np.array(limits["acceleration"]),
        verbose=False,
    )
    add_table(planner)
    data, answers = np.load(folder / "queries.npz"), {}
    for i in range(int(data["count"])):
        start = np.concatenate([data[f"start{i}"], [0.04, 0.04]])
        goal = mplib.Pose(data[f"goal{i}"])
        begin, used = time.perf_counter(), time.process_time()
        planner.update_point_cloud(data[f"points{i}"], resolution=float(data["voxel_m"]))
        result = planner.plan_pose(goal, start, time_step=1 / 125, rrt_range=0.1, planning_time=1.0, simplify=True)
        answers[f"seconds{i}"] = np.array([time.perf_counter() - begin, time.process_time() - used])
        if result["status"] == "Success":
            answers[f"q{i}"] = np.asarray(result["position"])[:, :7]
            answers[f"dq{i}"] = np.asarray(result["velocity"])[:, :7]
            answers[f"t{i}"] = np.asarray(result["time"])
    np.savez(folder / "answers.npz", **answers)


def add_table(planner: mplib.Planner) -> None:
    """A plate below z = 0 that base and first link may touch."""
    plate = fcl.CollisionObject(fcl.Box([4.0, 4.0, 0.1]))
    below = mplib.Pose(p=[0.0, 0.0, -0.05])
    planner.planning_world.add_object(fcl.FCLObject("table", mplib.Pose(), [plate], [below]))
    acm = planner.planning_world.get_allowed_collision_matrix()
    for link in ("panda_link0", "panda_link1"):
        acm.set_entry("table", link, True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
