"""All sentences that a command, a node or a task can end with, for the last part of docs/troubleshooting.md.

    .venv/bin/python tools/sentences.py          # writes that part anew
    .venv/bin/python tools/sentences.py --list   # prints file, line and sentence

They are read from the source: what is raised, what the doctor finds, and other texts of four words or more that end like
a sentence. Values are shown as ``…``.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE, PAGE = ROOT / "src/stvla_ros", ROOT / "docs/troubleshooting.md"
BEGIN = "<!-- From here on written by tools/sentences.py: edit the source's sentence, not this list. -->"
VALUE = "…"
WORDS = 4
FINDINGS = ("wrong", "warning", "unseen")
"""Functions of doctor/finding.py: their second and third argument are what was found and what to do."""

TO_MODELS = ("planning/prompt.py", "planning/heatmap/chat.py", "evaluate/planner/question.py")
"""What is said to a model, which no operator reads."""

ROOMS = {
    "Parameter files, settings, options": "rcl_yaml.py config.py registry.py devices.py cli.py commands ros/params.py ros/graph.py",
    "Starting and ending the stack": (
        "ros/up.py ros/run.py ros/heartbeats.py ros/stage_node.py ros/middleware.py "
        "ros/shared_memory.py nodes/composed.py"
    ),
    "Goals, stops and answers between nodes": (
        "ros/client.py ros/service_client.py ros/action_client.py ros/action_server.py ros/operator_stop.py ros/stop_state.py "
        "ros/remote_stages.py ros/traces.py ros/approvals.py ros/approval_client.py nodes/task.py pipeline errors.py"
    ),
    "Camera, images and transforms": (
        "calibration ros/calibration.py "
        "ros/frames.py ros/pairing.py ros/convert.py ros/rectify.py ros/tf.py geometry types.py nodes/camera.py camera "
        "ros/realsense_publisher.py ros/simulated_camera.py"
    ),
    "Joint states, arm and gripper": (
        "ros/freshness.py ros/type_mismatch.py ros/robot_state.py ros/robot_checks.py ros/robot_view.py "
        "ros/backends ros/controller_server.py ros/gripper_server.py ros/trajectory.py "
        "ros/trajectory_server.py ros/simulated_robot.py ros/franka_robot.py nodes/franka.py "
        "nodes/executor.py ros/motion_guard.py ros/scene_observer.py motion robot description"
    ),
    "Instructions, planners and servers": "planning nodes/planner.py",
    "Paths, guidance and masks": "perception tabletop nodes/guidance.py",
    "Policies and their checkpoints": "policy nodes/policy.py",
    "Bags, recordings and data sets": (
        "ros/bag.py ros/bag_files.py ros/bag_replay.py ros/bag_frames.py ros/bag_topics.py ros/bag_types.py "
        "ros/image_codecs.py ros/recorder.py ros/recorded_run.py ros/recorded_demonstration.py ros/decisions.py "
        "ros/bag_writer.py ros/recording.py ros/task_recorder.py ros/recorded_task.py nodes/record.py data record replay view"
    ),
    "The console": "console ros/console_stack.py nodes/console.py",
    "The annotation tool": "annotate",
    "Doctor": "doctor ros/stack_checks.py ros/stack_view.py ros/bag_view.py",
    "Any file, tokens": "files.py weights.py pickled_arrays.py tokens.py",
    "Training and evaluation": "train evaluate tables",
    "The simulator": "sim nodes/sim.py",
}
"""Heading -> files and folders. What is in none of them stands under :data:`OTHER`."""

OTHER = "Other"


@dataclass(frozen=True)
class Sentence:
    """A text of the product.

    Attributes:
        file: Below ``src/stvla_ros``.
        line: Where it begins.
        text: With :data:`VALUE` for what is filled in.
    """

    file: str
    line: int
    text: str

    @property
    def fixed(self) -> str:
        """The longest piece without a value: what an operator can search for."""
        return max((piece.strip() for piece in self.text.split(VALUE)), key=len)

    @property
    def room(self) -> str:
        """The heading under which it stands."""
        for title, places in ROOMS.items():
            if any(self.file == place or self.file.startswith(f"{place}/") for place in places.split()):
                return title
        return OTHER


def sentences(source: Path = SOURCE) -> list[Sentence]:
    """All of them, by file and line, each text once a file."""
    found = []
    for path in sorted(source.rglob("*.py")):
        file = str(path.relative_to(source))
        if file not in TO_MODELS:
            texts = {text: line for line, text in sorted(_texts(ast.parse(path.read_text())), reverse=True)}
            found += [Sentence(file, line, text) for text, line in texts.items()]
    return sorted(found, key=lambda s: (s.file, s.line))


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - {
        id(node) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
    }
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    raised = {id(part) for node in ast.walk(tree) if isinstance(node, ast.Raise) for part in ast.walk(node)}
    yield from _findings(tree)
    for node in ast.walk(tree):
        text = None if id(node) in inner | docstrings else _text(node)
        if text is None or len(text.split()) < WORDS or "\\" in text or "(?" in text:
            continue
        if id(node) in raised or text.endswith((".", "!", "?")):
            yield node.lineno, text  # type: ignore[attr-defined]


def _findings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The findings of the doctor, joined as it shows them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FINDINGS:
            parts = [
                _text(part) if isinstance(part, (ast.Constant, ast.JoinedStr)) else VALUE for part in node.args[1:3]
            ]
            text = "; ".join(part for part in parts if part)
            if len(text.split()) >= WORDS:
                yield node.lineno, f"{text}."


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return " ".join(node.value.split())
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)
        return " ".join("".join(map(str, parts)).split())
    return None


def written(found: list[Sentence]) -> str:
    """The part of the page."""
    lines = [BEGIN]
    for title in [*ROOMS, OTHER]:
        texts = dict.fromkeys(s.text for s in found if s.room == title)
        if texts:
            lines += ["", f"### {title}", "", *(f"* {text}" for text in texts)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print them with file and line; write nothing")
    found = sentences()
    if parser.parse_args().list:
        for sentence in found:
            print(f"{sentence.file}:{sentence.line}: {sentence.text}")
        return
    PAGE.write_text(PAGE.read_text().partition(BEGIN)[0] + written(found))
    print(f"{PAGE.relative_to(ROOT)}: {len(found)} sentences.")


if __name__ == "__main__":
    main()
