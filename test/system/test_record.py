"""The recorder beside a running stack: one goal is one bag, with all that was decided."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from system.brain_harness import wait
from system.robot_harness import StackHarness

from stvla_ros.data.collect import Collected
