"""Push 1 to 3 buttons in a spoken order. Success: pressed in exactly that order, each more than 3 mm (RLBench).

Two verdicts: RLBench's passes over wrong presses; the strict one does not forgive them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from stvla_ros.sim.objects import BUTTON_RADIUS_M, Block, Button, SceneObject
from stvla_ros.sim.tasks.base import Task, TaskKind, pick_colours, place, random_block
from stvla_ros.sim.world import World

PRESSED_M = 0.003
RELEASED_M = 0.0015


@dataclass
class PushButtons:
    """Remembers each press; pressing the same button again at once does not count twice.

    Attributes:
        objects: Buttons first.
        order: Colours in the spoken order.
        pressed: Colours in the order in which they were pressed.
    """

    objects: tuple[SceneObject, ...]
    order: tuple[str, ...]
    pressed: list[str] = field(default_factory=list)
    hold_s: float = 0.0
    _down: set[str] = field(default_factory=set)

    @property
    def instruction(self) -> str:
        steps = [f"push the {colour} button" for colour in self.order]
        return ", then ".join(steps).capitalize() + "."

    def watch(self, world: World) -> None:
        for button in self.buttons:
            depth = -world.slide(button.joint)
            if depth > PRESSED_M and button.colour not in self._down:
                self._down.add(button.colour)
                if self.pressed[-1:] != [button.colour]:
                    self.pressed.append(button.colour)
            elif depth < RELEASED_M:
                self._down.discard(button.colour)

    def problem(self, world: World) -> str:
        if tuple(self.pressed) == self.order:
            return ""
        found = ", ".join(self.pressed) or "none"
        return f"Wanted the buttons {', '.join(self.order)} pressed in this order, found: {found}."

    def rlbench_problem(self, world: World) -> str:
        """RLBench's verdict, which is latched: presses count one after the other, all others are passed over."""
        presses = iter(self.pressed)
        if all(colour in presses for colour in self.order):  # ``in`` goes on behind the last match
            return ""
        return f"{self.problem(world)} Not even with other presses in between."

    def facts(self, world: World) -> dict[str, float]:
        """Numbers of presses that were asked for, and that were made."""
        return {"asked_presses": float(len(self.order)), "presses": float(len(self.pressed))}

    def wrong_target(self, world: World) -> bool:
        """A button was pressed whose turn it was not."""
        return tuple(self.pressed) != self.order[: len(self.pressed)]

    @property
    def buttons(self) -> tuple[Button, ...]:
        return tuple(o for o in self.objects if isinstance(o, Button))


def layout(rng: np.random.Generator, distractors: int) -> Task:
    """The asked buttons, and as distractors first one more button, then blocks, all of other colours."""
    asked = int(rng.integers(1, 4))
    colours = pick_colours(rng, asked + distractors)
    buttons = asked + min(1, distractors)
    block = Block("", (0.0, 0.0), 0.0).clearance_m
    spots = place(rng, [BUTTON_RADIUS_M] * buttons + [block] * (len(colours) - buttons))
    objects = [
        Button(c, xy) if i < buttons else random_block(rng, c, xy)
        for i, (c, xy) in enumerate(zip(colours, spots, strict=True))
    ]
    return PushButtons(tuple(objects), tuple(colours[:asked]))


KIND = TaskKind("push_buttons", layout, demo_seed=55)
