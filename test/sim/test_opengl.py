"""Which OpenGL is used: what the operator says, else EGL, else OSMesa, else one clear sentence."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from stvla_ros.config import ConfigError
from stvla_ros.sim import opengl


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No remembered choice, no choice in the environment."""
    opengl.choose_backend.cache_clear()
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    yield
    opengl.choose_backend.cache_clear()


def test_the_operators_word_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert opengl.choose_backend() == "osmesa"


def test_a_typo_names_the_closest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "elg")
    with pytest.raises(ConfigError, match="Did you mean 'egl'"):
        opengl.choose_backend()


def test_egl_comes_first_then_osmesa_then_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opengl, "egl_works", lambda: True)
    assert opengl.choose_backend() == "egl"
    opengl.choose_backend.cache_clear()
    monkeypatch.setattr(opengl, "egl_works", lambda: False)
    monkeypatch.setattr(opengl, "osmesa_works", lambda: True)
    assert opengl.choose_backend() == "osmesa"
    opengl.choose_backend.cache_clear()
    monkeypatch.setattr(opengl, "osmesa_works", lambda: False)
    with pytest.raises(ConfigError, match="apt-get install"):
        opengl.choose_backend()


def test_egl_without_a_driver_is_noticed_before_pyopengl_binds_to_it() -> None:
    """A real driver list that is empty, in a process of its own."""
    code = "import sys; from stvla_ros.sim.opengl import egl_works; print(egl_works(), 'OpenGL' in sys.modules)"
    environment = {**os.environ, "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["False", "False"]
