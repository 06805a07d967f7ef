"""The folder of a run, and the link to the newest one."""

from __future__ import annotations

import os
import time
from pathlib import Path


def make_run_folder(root: Path) -> Path:
    """A new folder ``root/<YYYYmmdd-HHMMSS>``; a second one within the same second gets ``-2``, and so on."""
    name = time.strftime("%Y%m%d-%H%M%S")
    root.mkdir(parents=True, exist_ok=True)
    for n in range(1, 1000):
        folder = root / (name if n == 1 else f"{name}-{n}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{root / name}: a thousand runs within one second")


def point_latest(folder: Path) -> None:
    """Point the link ``latest`` next to ``folder`` at it. Atomic: readers see the old or the new target."""
    link = folder.parent / "latest"
    fresh = folder.parent / f".latest-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name)
    os.replace(fresh, link)
