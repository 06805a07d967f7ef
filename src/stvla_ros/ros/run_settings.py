"""What a recording says about itself: parameters of the nodes, versions; and the settings of the stages from them."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcap.exceptions import McapError
from mcap.reader import make_reader

from stvla_ros import registry
from stvla_ros.config import EVERY_NODE, SHARED, ConfigError, nest
from stvla_ros.files import read_json
from stvla_ros.record.runs import RUN

STAGES = ("planner", "guidance", "policy", "executor", "task")
"""Nodes whose parameters decide what the stages answer."""


@dataclass(frozen=True)
class RunFacts:
    """What a recording says about itself.

    Attributes:
        name: For people.
        parameters: Node -> parameter with dots -> value; empty: not known.
        versions: Name -> version, e.g. ``git commit``.
    """

    name: str
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def read_facts(path: Path) -> RunFacts:
    """From ``run.json`` beside the bag, otherwise from the bag's own notes; without either only the name is known."""
    folder = path if path.is_dir() else path.parent
    for place in (folder / RUN, folder.parent / RUN):
        if place.is_file():
            try:
                values = read_json(place)
            except ConfigError:
                continue
            if isinstance(values, dict):
                return _facts(place.parent.name, values, values.get("parameters"))
    notes = _notes(folder if path.is_dir() else path)
    name = folder.name if path.is_dir() else path.stem
    return _facts(name, notes.get("stvla", {}), notes.get("stvla.parameters"))


def _facts(name: str, values: Mapping[str, Any], parameters: Any) -> RunFacts:
    versions = values.get("versions")
    found = {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}
    if commit := values.get("git_commit"):
        found = {"git commit": str(commit), **found}
    known = parameters if isinstance(parameters, dict) else {}
    return RunFacts(name, {str(n): p for n, p in known.items() if isinstance(p, dict)}, found)


def _notes(place: Path) -> dict[str, dict[str, Any]]:
    """Metadata records of an MCAP file, with JSON decoded; of a cut-off file those before the cut."""
    files = sorted(place.glob("*.mcap")) if place.is_dir() else [place] * (place.suffix == ".mcap")
    notes: dict[str, dict[str, Any]] = {}
    for file in files:
        with file.open("rb") as stream, suppress(McapError, OSError, ValueError, EOFError, struct.error):
            for record in make_reader(stream).iter_metadata():
                notes[record.name] = {name: _plain(text) for name, text in record.metadata.items()}
    return notes


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def parameter_file(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Recorded parameters of the stages as a ROS 2 parameter file (before YAML), without what today's nodes lack.

    Only the sections of chosen backends are kept; the robot's section is the same for all nodes.
    """
    out: dict[str, Any] = {}
    for node in STAGES:
        if node not in parameters:
            continue
        cls = registry.node_config(node)
        known = {f.name for f in dataclasses.fields(cls)} | _sections(node, parameters[node])
        mine = {k: v for k, v in parameters[node].items() if k.split(".")[0] in known and v not in (None, [], ())}
        shared = {k: mine.pop(k) for k in list(mine) if k.split(".")[0] == SHARED}
        if shared:
            out.setdefault(f"/{EVERY_NODE}", {"ros__parameters": nest(shared)})
        out[node] = {"ros__parameters": nest(mine)}
    return out


def _sections(node: str, values: Mapping[str, Any]) -> set[str]:
    """Names of the chosen backends of a node."""
    return {str(values.get(setting)) for setting in registry.NODES[node][1]}


def recorded_topics_of(bag: Path) -> Mapping[str, Any]:
    """The camera's topics and limits that the guidance node of a recording used; empty: not known."""
    parameters = read_facts(bag).parameters
    nested = nest(parameters.get("guidance") or parameters.get("planner") or {})
    camera = nested.get("camera", {})
    return camera if isinstance(camera, dict) else {}
