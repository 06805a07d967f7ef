"""Tests may import the benchmarks, which stand beside ``src`` and are not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
