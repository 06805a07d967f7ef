"""The animated image of the README, from the film that ``stvla demo`` leaves.

.venv/bin/python tools/film.py runs/latest/run.mp4          # writes docs/images/demo.webp
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import av
from PIL import Image

IMAGE = Path(__file__).parent.parent / "docs/images/demo.webp"
WIDTH_PX = 1060
QUALITY = 70
LAST_MS = 2000
"""How long the last picture, with the verdict, stays before the film begins again."""


def animate(film: Path, image: Path) -> None:
    """Write all frames of ``film`` (MP4) with their times to ``image`` (animated WebP, endless)."""
    pictures, times_ms = [], []
    with av.open(str(film)) as file:
        for frame in file.decode(video=0):
            height = round(frame.height * WIDTH_PX / frame.width)
            pictures.append(frame.to_image().resize((WIDTH_PX, height), Image.Resampling.LANCZOS))
            times_ms.append(round(1000 * float(frame.time or 0.0)))
    lengths = [after - before for before, after in pairwise(times_ms)]
    pictures[0].save(
        image,
        save_all=True,
        append_images=pictures[1:],
        duration=[*lengths, LAST_MS],
        loop=0,
        quality=QUALITY,
        method=4,
    )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path, metavar="FILM", help="run.mp4 of a run")
    parser.add_argument("--output", type=Path, default=IMAGE, metavar="FILE", help=f"default {IMAGE.name}")
    arguments = parser.parse_args()
    animate(arguments.film, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB.")


if __name__ == "__main__":
    main()
