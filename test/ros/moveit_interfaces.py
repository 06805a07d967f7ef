"""Python classes of moveit_msgs without the package: from its published definitions, by ROS's own generator.

`moveit_msgs.txt` holds the definitions (``== PACKAGE/KIND/NAME``, then one field or constant per line). The classes are
those that ROS would install, apart from the type support: they check names and types of all fields, but cannot be sent.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from rosidl_adapter.msg import convert_msg_to_idl
from rosidl_adapter.srv import convert_srv_to_idl
from rosidl_generator_py import generate_py

DEFINITIONS = Path(__file__).with_name("moveit_msgs.txt")

TEMPLATES = Path(get_package_share_directory("rosidl_generator_py")) / "resource"

_CONVERT = {"msg": convert_msg_to_idl, "srv": convert_srv_to_idl}


def definitions() -> Iterator[tuple[str, str, str, str]]:
    """Package, kind, name and text of every definition."""
    for part in DEFINITIONS.read_text().split("\n== ")[1:]:
        title, _, text = part.partition("\n")
        package, kind, name = title.split("/")
        yield package, kind, name, text


def generate(folder: Path) -> None:
    """Write the packages into a folder that can then be put on ``sys.path``."""
    sources: dict[str, list[str]] = {}
    for package, kind, name, text in definitions():
        place = folder / "source" / package
        (place / kind).mkdir(parents=True, exist_ok=True)
        file = Path(kind) / f"{name}.{kind}"
        (place / file).write_text(text)
        with contextlib.redirect_stdout(io.StringIO()):
            _CONVERT[kind](place, package, file, place / kind)
        sources.setdefault(package, []).append(f"{place}:{kind}/{name}.idl")
    for package, idl in sources.items():
        _generate_package(folder, package, idl)


def _generate_package(folder: Path, package: str, idl: list[str]) -> None:
    arguments = {
        "package_name": package,
        "output_dir": str(folder / package),
        "template_dir": str(TEMPLATES),
        "idl_tuples": idl,
        "ros_interface_dependencies": [],
        "target_dependencies": [],
        "type_description_tuples": [],
    }
    file = folder / f"{package}.json"
    file.write_text(json.dumps(arguments))
    generate_py(str(file), [])
    (folder / package / "__init__.py").touch()
