"""See :mod:`benchmarks.scene.__main__`."""
