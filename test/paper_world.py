"""A world without physics for planner and policy: the tool jumps to keyposes, what it grips moves with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from ray_caster import Box, Disc, Scene, front_camera, home_robot

from stvla_ros.errors import CancelToken, OutcomeCode, StageError
from stvla_ros.types import F64, Keypose, Outcome, RgbdFrame, RobotState, Trace3d


@dataclass
class PaperWorld:
    """Camera, robot and executor in one. The arm itself is not drawn."""

    things: list[Box | Disc]
    grips: bool = True  # False: the fingers close on nothing
    holding: int | None = None
    tool: F64 = field(default_factory=lambda: home_robot().T_base_tcp)
    gripper_m: float = 0.08
    clock_ns: int = 0
    touched: list[F64] = field(default_factory=list)

    def capture(self) -> RgbdFrame:
        return Scene(self.things).render(front_camera(320, 240), stamp_ns=self.clock_ns)[0]

    def state(self) -> RobotState:
        return replace(home_robot(self.gripper_m, stamp_ns=self.clock_ns), T_base_tcp=self.tool)

    def execute(self, keypose: Keypose, frame: RgbdFrame, trace: Trace3d | None, cancel: CancelToken) -> Outcome:
        self.clock_ns += 1_000_000_000
        move = keypose.T_base_tcp[:3, 3] - self.tool[:3, 3]
        if self.holding is not None:
            held = self.things[self.holding]
            assert isinstance(held, Box)
            self.things[self.holding] = replace(held, centre_m=tuple(np.add(held.centre_m, move)))
        self.tool = keypose.T_base_tcp
        if keypose.may_collide:
            self.touched.append(self.tool[:3, 3])
        self._actuate(keypose)
        return Outcome(OutcomeCode.OK, "")

    def _actuate(self, keypose: Keypose) -> None:
        if keypose.gripper_open:
            self.holding, self.gripper_m = None, 0.08
            return
        if self.gripper_m < 0.079:
            return
        near = [
            i
            for i, t in enumerate(self.things)
            if isinstance(t, Box) and np.linalg.norm(t.centre_m - self.tool[:3, 3]) < 0.012
        ]
        if near and self.grips:
            self.holding, self.gripper_m = near[0], 0.04
        elif keypose.may_collide:
            self.gripper_m = 0.08
            raise StageError(OutcomeCode.GRASP_FAILED, "Nothing is between the fingers.")
        else:
            self.gripper_m = 0.0
