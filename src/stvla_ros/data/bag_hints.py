"""What the operator says about a bag that the bag does not say itself: names of topics, the camera's pose, its lens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stvla_ros.camera.lens import Lens, lens_of
from stvla_ros.camera.place import PlaceConfig
from stvla_ros.config import ConfigError
from stvla_ros.types import F64


@dataclass(frozen=True, eq=False)
class BagHints:
    """Hints for reading one bag.

    Attributes:
        remap: Topic in the bag -> topic that it is read as; both absolute.
        T_base_camera: (4, 4) pose of the optical frame of colour in the robot's base frame, in place of the bag's
            transforms; None: the bag has it.
        lens: Calibration of the colour camera, in place of the bag's; None: the bag has it.
    """

    remap: Mapping[str, str] = field(default_factory=dict)
    T_base_camera: F64 | None = None
    lens: Lens | None = None

    @property
    def any(self) -> bool:
        """Whether anything is said."""
        return bool(self.remap) or self.T_base_camera is not None or self.lens is not None

    @property
    def text(self) -> str:
        """All hints in one line, equal for equal ones."""
        T, lens = self.T_base_camera, self.lens
        numbers = [] if lens is None else [lens.model, lens.D.tolist(), lens.K.tolist(), lens.P.tolist()]
        return str([sorted(self.remap.items()), None if T is None else T.tolist(), numbers]) if self.any else ""


def bag_hints(remap: Iterable[str] = (), place: PlaceConfig | None = None, intrinsics: str = "") -> BagHints:
    """Hints from settings.

    Args:
        remap: ``OLD:=NEW`` each, as for ``ros2 bag play --remap``.
        place: The camera's pose; None: not given.
        intrinsics: A camera_info file or ``fx,fy,cx,cy``; empty: not given.

    Raises:
        ConfigError: A pair has another form, or a file cannot be used.
    """
    T = place.T_base_camera() if place is not None else None
    pairs = dict(_pair(text) for text in remap)
    return BagHints(pairs, T, lens_of(intrinsics) if intrinsics else None)


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition(":=")
    if not equals or not old.strip("/ ") or not new.strip("/ "):
        raise ConfigError(f"remap: wanted OLD:=NEW, a topic of the bag and the name it is read as, got '{text}'.")
    return absolute(old.strip()), absolute(new.strip())


def absolute(topic: str) -> str:
    """The full name of a topic, as in bags."""
    return topic if topic.startswith("/") else f"/{topic}"
