"""ROS parameters from settings dataclasses: the same fields, ranges and messages as everywhere else.

Overrides from a parameter file or the command line are checked by :func:`stvla_ros.config.build` before anything is
declared, so a typo or a value out of range ends the node with the same sentence as in the pipeline.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

import stvla_ros.evaluate  # names the planner 'oracle'
import stvla_ros.ros.backends  # noqa: F401 - names the motion planner 'moveit'
from stvla_ros import registry
from stvla_ros.config import ConfigError, build, nest

C = TypeVar("C")
LARGE = 1e9
"""Means "no bound" in a descriptor, which needs both bounds."""


class Parameters(Generic[C]):
    """The settings of one node as ROS parameters.

    Settings marked ``live`` (:func:`stvla_ros.config.param`) may change while the node runs; all others need a restart.

    Args:
        node: Created with ``automatically_declare_parameters_from_overrides=True``.
        cls: Settings dataclass; nested dataclasses become ``outer.inner`` names.
        backends: Setting that names a backend -> its kind in the registry. The backend's own settings are in a
            section of its name (``colour.min_area_px``); sections of backends that are not chosen are ignored.

    Raises:
        ConfigError: Unknown name, wrong type, out of range, unknown backend.
    """

    def __init__(self, node: Node, cls: type[C], backends: Mapping[str, str] | None = None) -> None:
        self._node, self._cls, self._backends = node, cls, dict(backends or {})
        self._where = node.get_name()
        self._made: dict[str, Any] = {}  # setting -> the backend it chose
        given = self._present()
        self.config, self.sections = self._build(nest(given))
        self._declare(given)
        node.add_on_set_parameters_callback(self._on_set)

    def settings(self, setting: str) -> dict[str, Any]:
        """Plain settings of the backend chosen by ``setting``, for :func:`stvla_ros.registry.create`."""
        return dict(self.sections.get(getattr(self.config, setting), {}))

    def create(self, setting: str, *more: Any) -> Any:
        """Create the backend chosen by ``setting`` (:func:`stvla_ros.registry.create`); it follows live settings.

        A backend whose class has ``needs_node`` gets the node as its last argument.
        """
        kind, chosen = self._backends[setting], getattr(self.config, setting)
        if getattr(registry.load(kind, chosen), "needs_node", False):
            more = (*more, self._node)
        self._made[setting] = registry.create(kind, chosen, self.settings(setting), *more)
        return self._made[setting]

    def _present(self) -> dict[str, Any]:
        """Dotted name -> value of all declared parameters except rclpy's own."""
        parameters: Mapping[str, Any] = self._node.get_parameters_by_prefix("")  # annotated with values in rclpy
        return {name: parameter.value for name, parameter in parameters.items() if not registry.of_rclpy(name)}

    def _build(self, values: dict[str, Any]) -> tuple[C, dict[str, Mapping[str, Any]]]:
        return registry.settings(self._cls, self._backends, values, self._where)

    def _leaves(self) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
        yield from leaves(self.config)
        for setting in self._backends:
            yield from leaves(self._section(setting), f"{getattr(self.config, setting)}.")

    def _section(self, setting: str) -> Any:
        """Settings of the backend chosen by ``setting``."""
        chosen = getattr(self.config, setting)
        return build(registry.load(self._backends[setting], chosen).Config, self.settings(setting), chosen)

    def _declare(self, given: Mapping[str, Any]) -> None:
        for name, value, metadata in self._leaves():
            if name in given:  # rclpy declared it without range, or with the wrong type (5 for 5.0)
                self._node.undeclare_parameter(name)
            plain = list(value) if isinstance(value, tuple) else value
            self._node.declare_parameter(name, plain, descriptor(name, plain, metadata), ignore_override=True)

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changed = {p.name: p.value for p in parameters if not registry.of_rclpy(p.name)}
        live = {name for name, _, metadata in self._leaves() if metadata.get("live")}
        for name in changed:
            if name not in live:
                reason = (
                    f"{self._where}.{name} is read only at the start: change the parameter file and restart the node."
                )
                return SetParametersResult(successful=False, reason=reason)
        try:
            self.config, self.sections = self._build(nest({**self._present(), **changed}))
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        for setting, backend in self._made.items():
            if any(name.startswith(f"{getattr(self.config, setting)}.") for name in changed):
                backend.reconfigure(self._section(setting))
        return SetParametersResult(successful=True)


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Dotted name, value and metadata of every plain setting of a dataclass instance."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        elif value is not None:
            yield prefix + field.name, value, field.metadata


def descriptor(name: str, value: Any, metadata: Mapping[str, Any]) -> ParameterDescriptor:
    """Documentation and range as ``ros2 param describe`` shows them."""
    doc = metadata.get("doc", "") + ("; may change while the node runs" if metadata.get("live") else "")
    result = ParameterDescriptor(name=name, description=doc)
    result.dynamic_typing = value == []  # the type of an empty list is not known
    ge, le, choices = metadata.get("ge"), metadata.get("le"), metadata.get("choices")
    if choices:
        result.additional_constraints = "one of " + ", ".join(choices)
    if ge is None and le is None:
        return result
    low, high = (-LARGE if ge is None else ge), (LARGE if le is None else le)
    if isinstance(value, float):
        result.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    elif isinstance(value, int) and not isinstance(value, bool):
        result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return result
