"""The simulated cell with a calibration board in the hand, and a camera driver that knows its own frames only."""

import sys

import numpy as np
from tf2_msgs.msg import TFMessage

from stvla_ros.calibration.board import BoardConfig
from stvla_ros.calibration.cell import board_in_hand
from stvla_ros.calibration.poses import mounted
from stvla_ros.geometry.se3 import pose
from stvla_ros.nodes.sim import SimNode
from stvla_ros.ros import qos
from stvla_ros.ros.convert import matrix_to_transform
from stvla_ros.ros.run import run

BOARD = BoardConfig(columns=5, rows=4, square_m=0.04, marker_m=0.03)
"""Coarse, for an image of 640x480."""

T_LINK_OPTICAL = pose(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]), [0.0, 0.015, 0.0])
"""As realsense-ros has it: camera_link looks along x."""


class BoardCell(SimNode):
    def __init__(self):
        super().__init__()
        self._cell.reset_to(board_in_hand(BOARD, mounted(BOARD, "edge")), 0)
        self._cell.set_state(self._cell.state().q_rad, 0.004)

    def _send_transforms(self):
        """No transform from the base."""
        self._static = self.create_publisher(TFMessage, "/tf_static", qos.LATCHED)
        known = matrix_to_transform(T_LINK_OPTICAL, "camera_link", self._cell.camera.frame_id, 1)
        self._static.publish(TFMessage(transforms=[known]))


if __name__ == "__main__":
    sys.exit(run(BoardCell))
