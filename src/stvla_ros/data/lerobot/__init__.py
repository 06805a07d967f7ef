"""LeRobotDataset v3 (``codebase_version`` v3.0): written and read with PyArrow and PyAV, without the package ``lerobot``.

::

    meta/info.json                              format, frame rate, features
    meta/tasks.parquet                          instructions
    meta/episodes/chunk-000/file-000.parquet    per episode: length, files, statistics; ours: ``stvla/source``
    meta/stats.json                             statistics of the whole set
    data/chunk-000/file-000.parquet             one row per frame; depth as TIFF in it
    videos/observation.images.camera/chunk-000/file-000.mp4
    stvla/                                      ours, ignored by LeRobot: settings.json, episodes/ (for resuming),
                                                plans/ (the frames that plans were drawn on)

LeRobot allows several episodes per file; here each has its own, so that whatever is complete stays so when an export is
interrupted. Names, types and meaning of the features are in :mod:`stvla_ros.data.lerobot.features`.
"""

from stvla_ros.config import ConfigError

try:
    import pyarrow as _  # noqa: F401 - all modules here need it
except ModuleNotFoundError as error:
    raise ConfigError("LeRobot sets need the Python package 'pyarrow': pip install pyarrow.") from error
