"""Who may import whom, read from the sources; nothing here runs them."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "stvla_ros"

CORE = (
    "errors", "types", "colours", "geometry", "tabletop", "description", "interfaces", "rcl_yaml", "config", "registry",
    "files", "weights", "devices", "pickled_arrays", "versions", "priority", "tokens",
)  # fmt: skip
STAGES = ("planning", "perception", "policy", "motion", "robot", "camera", "sim")
APPLICATIONS: dict[str, tuple[str, ...]] = {
    "evaluate": (),
    "record": ("evaluate",),
    "data": ("evaluate",),
    "train": ("evaluate", "data"),
    "tables": ("evaluate", "data"),
    "calibration": ("evaluate", "data"),
    "replay": ("evaluate",),
    "view": ("evaluate", "data", "record", "replay"),
    "doctor": (),
    "console": ("evaluate", "replay", "view"),
    "annotate": ("evaluate", "data", "console"),
}
"""Application without ROS -> the others that it may import."""

ROS = ("ros", "nodes")

ROS_MODULES = ("rclpy", "ament_index_python", "tf2_ros", "launch", "launch_ros")

BELOW: dict[str, tuple[str, ...]] = {
    "errors": (),
    "colours": (),
    "types": ("errors",),
    "description": ("errors", "types", "colours", "config"),
    "geometry": ("errors", "types"),
    "tabletop": ("errors", "types", "colours", "geometry", "description"),
    "interfaces": ("errors", "types"),
    "rcl_yaml": (),
    "config": ("errors", "rcl_yaml"),
    "registry": ("config", "errors"),
    "files": ("config",),
    "weights": ("config", "files"),
    "devices": ("config",),
    "pickled_arrays": (),
    "versions": (),
    "priority": (),
    "tokens": ("config",),
    **dict.fromkeys(STAGES, CORE),
    "robot": (*CORE, "sim"),
    "pipeline": CORE,
    **{name: (*CORE, *STAGES, "pipeline", *others) for name, others in APPLICATIONS.items()},
    "ros": (*CORE, *STAGES, "pipeline", *APPLICATIONS),
    "nodes": (*CORE, *STAGES, "pipeline", *APPLICATIONS, "ros"),
    "commands": (*CORE, *STAGES, "pipeline", *APPLICATIONS, "ros"),
    "cli": (*CORE, "commands"),
}
"""What each part of the package may import, besides itself."""


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """First level below the package: ``types`` for types.py, ``motion`` for all files in motion/."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written out, not relative"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_ros(module: str) -> bool:
    top = module.partition(".")[0]
    return top in ROS_MODULES or top.endswith(("_msgs", "_interfaces"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_import_direction(path: Path) -> None:
    me = part(path)
    if me == "__init__":
        assert list(imports(path)) == []
        return
    assert me in BELOW, f"{me} is new: say in {Path(__file__).name} what it may import"
    for module in imports(path):
        if module.startswith("stvla_ros.") and module != "stvla_ros.__version__":
            other = module.split(".")[1]
            assert other == me or other in BELOW[me], f"{path}: {me} may not import {module}"


def test_no_part_is_below_itself() -> None:
    order: list[str] = []
    while len(order) < len(BELOW):
        ready = [me for me, below in BELOW.items() if me not in order and set(below) <= {me, *order}]
        assert ready, f"a cycle among {sorted(set(BELOW) - set(order))}"
        order += ready


def test_the_registry_names_stages_and_nodes_only() -> None:
    """By their paths, as it imports them when they are asked for; applications add what is theirs."""
    text = (PACKAGE / "registry.py").read_text()
    assert set(re.findall(r"stvla_ros\.(\w+)\.[\w.]+:", text)) <= {*STAGES, "nodes"}


@pytest.mark.parametrize("module", ["commands", "ros.params", "ros.graph"])
def test_whatever_reads_names_of_backends_knows_those_of_applications_and_ros(module: str) -> None:
    names = "print(*registry.names('planner'), *registry.names('motion'))"
    program = f"import stvla_ros.{module}; from stvla_ros import registry; {names}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    planners, motion = ["colour", "heatmap", "qwen3_vl", "openai", "oracle"], ["roboplan", "ompl", "moveit"]
    assert done.stdout.split() == planners + motion, done.stderr


@pytest.mark.parametrize(
    "path", [p for p in sources() if part(p) not in ROS], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_ros_stays_in_ros_and_nodes(path: Path) -> None:
    assert [module for module in imports(path) if is_ros(module)] == []


def test_launch_is_imported_in_launch_only() -> None:
    elsewhere = [*sources(), *ROOT.glob("test/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    guilty = [
        path for path in elsewhere for module in imports(path) if module.split(".")[0] in ("launch", "launch_ros")
    ]
    assert guilty == []


def test_tests_of_the_running_stack_are_in_their_folder() -> None:
    """Only in ``test/system`` do they run one after another, with the machine to themselves (``test/phases.py``).

    Those in ``test/ros`` use messages and receivers, but start no node and spin no executor.
    """
    ros = ("rclpy", "ros.", "system.", "stvla_ros.ros", "stvla_ros.nodes")
    running = ("rclpy.init", "rclpy.node", "rclpy.executors", "system.", "stvla_ros.ros.client")
    system, pure = ROOT / "test" / "system", ROOT / "test" / "ros"
    for path in ROOT.glob("test/**/*.py"):
        if not path.is_relative_to(system):
            forbidden = running if path.is_relative_to(pure) else ros
            assert [module for module in imports(path) if module.startswith(forbidden)] == [], path


def test_the_rules_can_fail(tmp_path: Path) -> None:
    """The reader sees imports inside functions, with and without ``from``."""
    file = tmp_path / "sample.py"
    file.write_text(
        "def f():\n    import rclpy.node\n    from stvla_ros import sim\n    from sensor_msgs.msg import Image\n"
    )
    assert list(imports(file)) == ["rclpy.node", "stvla_ros.sim", "sensor_msgs.msg.Image"]
    assert [is_ros(module) for module in imports(file)] == [True, False, True]


def test_all_but_ros_and_nodes_import_without_ros() -> None:
    """Each module is imported in a Python in which every ROS package is hidden."""
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in sources()
        if part(path) not in ROS and path.name not in ("__init__.py", "__main__.py", "hand_process.py")
    ]  # hand_process is a program: its franky cannot be loaded next to arm_process's pylibfranka
    program = f"""
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top in {ROS_MODULES!r} or top.endswith(('_msgs', '_interfaces')):
            raise ModuleNotFoundError(f'hidden: {{name}}', name=name)
sys.meta_path.insert(0, Hide())
from importlib import import_module
for module in {modules!r}:
    import_module(module)
print(len({modules!r}))
"""
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(modules) > 0
