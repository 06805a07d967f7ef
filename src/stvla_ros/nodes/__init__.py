"""One file per node: a mailbox around one stage."""

import os
import signal

from stvla_ros.ros import SUPERVISOR

if SUPERVISOR in os.environ:  # Ctrl-C in the terminal of `ros2 launch` also reaches nodes that are still importing
    signal.signal(signal.SIGINT, signal.SIG_DFL)
