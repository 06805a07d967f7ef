"""Checkpoints that are incomplete, damaged or of another kind are refused in one sentence that says what to do."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from stvla_ros import registry
from stvla_ros.config import ConfigError
from stvla_ros.perception.sam2.checkpoint import load

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
TINY = Path(__file__).resolve().parents[1] / "golden" / "sam2_tiny"


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def with_content(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).write_bytes(content), None][1]


def with_setting(*path: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        section = config
        for name in path[:-1]:
            section = section[name]
        section[path[-1]] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lacking_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["mask_decoder.iou_token.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200_000])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("config.json"), r"lacks config\.json.*hf download"),
        (without("model.safetensors"), r"lacks model\.safetensors.*hf download"),
        (pickled, r"pytorch_model\.bin is a pickle, which is never read"),
        (cut_short, "the file is cut off.*hf download"),
        (with_content("model.safetensors", b""), "the file is empty.*hf download"),
        (with_content("config.json", b"{"), "not valid JSON.*hf download"),
        (with_content("model.safetensors", LFS), r"model\.safetensors: a pointer of Git LFS.*git lfs pull"),
        (with_content("config.json", LFS), r"config\.json: a pointer of Git LFS.*git lfs pull"),
        (with_content("model.safetensors", b"<html>"), r"model\.safetensors: a web page"),
        (with_content("config.json", b"[]"), "model_type 'none', wanted one of sam2, sam2_video"),
        (with_setting("model_type", value="bert"), "model_type 'bert', wanted one of sam2, sam2_video"),
        (with_setting("model_type", value="sam2"), "model without memory.*'memory' to false"),
        (with_setting("mask_decoder_config", "mlp_dim", value=48), r"of another size, the first is 'mask_decoder\."),
        (with_setting("memory_attention_num_layers", value=3), "missing .* the first is 'memory_attention.layers.1"),
        (with_setting("mask_decoder_config", "mlp_dim", value="many"), "'mlp_dim' expected int"),
        (with_setting("prompt_encoder_config", "image_size", value=333), r"image_size 333, which does not match"),
        (lacking_a_weight, r"the first is 'mask_decoder\.iou_token\.weight'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(TINY, folder)
    change(folder)
    with pytest.raises(ConfigError, match=message) as caught:
        load(str(folder), memory=True, where="segmenter.sam2.model")
    assert str(caught.value).startswith("segmenter.sam2.model: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("memory", [True, False])
def test_a_good_checkpoint_is_read(tmp_path: Path, memory: bool) -> None:
    """The published checkpoints are of the video model and serve both; a plain one serves images."""
    model = load(str(TINY), memory, "model")
    assert type(model).__name__ == ("Sam2VideoModel" if memory else "Sam2Model")
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {model.no_memory_embedding.dtype}
    model.save_pretrained(tmp_path)
    assert load(str(tmp_path), memory, "model").config.model_type == ("sam2_video" if memory else "sam2")


def test_no_model_says_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match=r"segmenter\.sam2\.model: .*got nothing.*hf download facebook/sam2\.1"):
        registry.create("segmenter", "sam2")


@pytest.mark.parametrize("model", ["/no/such/folder", "./there", "name"])
def test_a_path_never_asks_the_network(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("asked the network"))
    with pytest.raises(ConfigError, match=r"is not one.*hf download"):
        registry.create("segmenter", "sam2", {"model": model})


def fresh_python(program: str, **variables: str) -> str:
    """Output of a program in a Python of its own: the libraries read these variables when they are imported."""
    env = {"PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_offline_a_hub_id_says_what_to_do(tmp_path: Path) -> None:
    program = (
        "from stvla_ros import registry\nfrom stvla_ros.config import ConfigError\n"
        "try: registry.create('segmenter', 'sam2', {'model': 'facebook/sam2.1-hiera-small'})\n"
        "except ConfigError as error: print(error)"
    )
    said = fresh_python(program, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert "'facebook/sam2.1-hiera-small' is neither a local folder nor in the download cache" in said
    assert "hf download" in said


HIDING = "import sys\nsys.modules.update(dict.fromkeys({hidden!r}))\n"
"""Python takes a module for absent when None stands in its place."""


@pytest.mark.parametrize("hidden", ["torch", "transformers"])
def test_a_missing_package_is_named_and_only_this_backend_needs_it(hidden: str) -> None:
    program = HIDING.format(hidden=(hidden,)) + (
        "from stvla_ros import registry\nfrom stvla_ros.config import ConfigError\n"
        "import stvla_ros.perception, stvla_ros.perception.guide\n"
        "registry.create('segmenter', 'geometric')\n"
        "assert not sys.modules.get('torch')\n"
        "try: registry.load('segmenter', 'sam2')\n"
        "except ConfigError as error: print(error)"
    )
    assert f"segmenter 'sam2' needs the Python package '{hidden}'" in fresh_python(program)
