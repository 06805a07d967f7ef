"""Corrects a part of the videos in a running annotation tool as a person would who knows the truth, and accepts all.

``stvla annotate --data DIR`` serves the results of synthetic videos on this computer, to nobody in particular. Of the first
``--correct`` videos, contact, release and path become the true ones; the others are submitted as the pipeline left
them. All are audited and accepted. The last line is JSON: how far the corrections were from the drafts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

from stvla_ros.files import read_arrays, read_json


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.human.correct", description=__doc__)
    parser.add_argument("videos", type=Path, help="the synthetic videos, with truth.json and truth.npz")
    parser.add_argument("--server", default="http://127.0.0.1:8090", help="address of the tool")
    parser.add_argument("--correct", type=int, required=True, help="how many videos are corrected")
    options = parser.parse_args()
    truths = {path.parent.name: path.parent for path in options.videos.rglob("truth.json")}
    rows, page = [], asked(options.server, "GET", "videos")["videos"]
    for number, row in enumerate(page):
        video = asked(options.server, "GET", f"videos/{row['id']}")
        document, version = video["document"], video["version"]
        if number < options.correct:
            own = corrected(document, truths[row["name"]])
            version = asked(options.server, "PUT", f"videos/{row['id']}", {"version": version, "document": own})[
                "version"
            ]
            submit(options.server, row["id"], version)
            off = asked(
                options.server, "POST", f"videos/{row['id']}/audit", {"version": version + 1, "document": document}
            )
            rows += off["actions"]
        else:
            submit(options.server, row["id"], version)
        asked(options.server, "POST", f"videos/{row['id']}/move", {"version": version + 1, "verb": "pass"})
    plan = asked(options.server, "GET", "plan?wanted=0.5&confidence=0.8")
    batch = asked(options.server, "POST", "batches", plan)["id"]
    for one in asked(options.server, "GET", "batches")[0]["sample"]:
        verdict = {"video": one["video"], "action": one["action"], "good": True}
        asked(options.server, "POST", f"batches/{batch}/verdict", verdict)
    print(json.dumps({"videos": len(page), "corrected": rows}))


def submit(server: str, video: int, version: int) -> None:
    asked(server, "POST", f"videos/{video}/move", {"version": version, "verb": "submit"})


def corrected(document: dict[str, Any], truth: Path) -> dict[str, Any]:
    """The annotation of a video of one action, with the true frames of contact and release, and the true path."""
    true, grip = read_json(truth / "truth.json"), read_arrays(truth / "truth.npz")["grip_m"]
    (action,) = document["actions"]
    frames = {"contact_frame": true["contact_frame"], "release_frame": true["release_frame"]}
    known = np.array([point["frame"] for point in action["trajectory"]])

    def point(frame: int) -> dict[str, Any]:
        near = action["trajectory"][int(np.abs(known - frame).argmin())]
        held = true["contact_frame"] <= frame <= true["release_frame"]
        return {**near, "frame": frame, "xyz_m": grip[frame].tolist(), "gripper": int(held), "source": "manual"}

    path = [point(frame) for frame in range(action["start_frame"], action["end_frame"] + 1)]
    return {**document, "actions": [{**action, **frames, "trajectory": path}]}


def asked(server: str, method: str, path: str, body: Any = None) -> Any:
    """What the tool answers; an error of it ends the program."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{server}/api/{path}", data, {"content-type": "application/json"}, method=method)) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
